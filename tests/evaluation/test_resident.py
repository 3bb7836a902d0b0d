"""Resident memory against a block that is really written."""

import mmap

import pytest

from ssmith.evaluation import resident
from ssmith.evaluation.resident import resident_peak

BLOCK = 64 * 2**20


def written(size):
    """Memory that no allocator had before, every page of it touched."""
    held = mmap.mmap(-1, size)
    for start in range(0, size, mmap.PAGESIZE):
        held[start] = 1
    return held


def test_what_was_held_for_a_while_is_seen_and_what_was_held_before_is_not():
    written(3 * BLOCK).close()
    with resident_peak() as found:
        written(BLOCK).close()
    if not found.how:
        pytest.skip("this system tells nothing of memory")
    assert found.peak - found.before > 0.9 * BLOCK
    if found.how.startswith("most resident bytes of this process while it ran"):
        assert found.peak - found.before < 2 * BLOCK


def test_a_system_that_forgets_nothing_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(resident, "_CLEAR", tmp_path / "none" / "clear_refs")
    with resident_peak() as found:
        pass
    assert "since it started" in found.how
    assert found.section().peak > 10**7
