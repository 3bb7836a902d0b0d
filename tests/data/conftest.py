from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def arrays():
    """A small valid set: 40 sequences, 7 steps, 2 channels, classes a and b."""
    rng = np.random.default_rng(0)
    return {
        "x": rng.normal(size=(40, 7, 2)).astype(np.float32),
        "y": np.array(["a", "b"] * 20),
        "lengths": rng.integers(1, 8, size=40),
    }


@pytest.fixture
def write(tmp_path):
    """Write arrays to an .npz and return its path."""

    def _write(arrays, name="mine.npz") -> Path:
        path = tmp_path / name
        np.savez(path, **arrays)
        return path

    return _write
