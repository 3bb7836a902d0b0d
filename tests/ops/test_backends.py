"""Which path runs is known, can be forced, and is linear in length whichever it is."""

import warnings
from contextlib import contextmanager

import pytest
import torch

from helpers.scan_cases import leaves, scan_inputs
from helpers.unchecked import unchecked
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.ops import backends
from ssmith.ops.backends import (
    SlowPathWarning,
    available,
    choose,
    chosen,
    describe,
    require_backend,
    use_backend,
)
from ssmith.ops.native import allocator, force_level, library
from ssmith.ops.selective_scan import selective_scan

needs_kernels = pytest.mark.skipif(library() is None, reason="no compiled kernels here")
FLOAT32 = torch.empty(0)


@needs_kernels
def test_the_kernels_are_chosen_and_say_their_level():
    choice = choose("selective_scan", FLOAT32)
    assert choice.backend == "native"
    assert "kernels" in choice.reason
    with force_level("base"):
        assert "base kernels" in choose("selective_scan", FLOAT32).reason
    assert {item.op for item in describe()} >= {"selective_scan", "ssd", "diagonal_scan"}


def test_float64_takes_the_plain_path_for_a_stated_reason():
    choice = choose("selective_scan", FLOAT32.double())
    assert choice.backend == "torch"
    assert "float64" in choice.reason
    assert choice.remedy == ""


def test_missing_kernels_are_said_loudly_but_once(monkeypatch):
    monkeypatch.setattr(backends, "library", lambda: None)
    monkeypatch.setattr(backends, "why_missing", lambda: "no compiler was found")
    monkeypatch.setattr(backends, "_warned", set())
    with pytest.warns(SlowPathWarning, match="no compiler was found.*install a wheel"):
        assert chosen("selective_scan", FLOAT32) == "torch"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert chosen("selective_scan", FLOAT32) == "torch"
    assert "native" not in available("selective_scan")
    with pytest.raises(UnsupportedError, match="no compiler"), use_backend("native"):
        pass
    with pytest.raises(UnsupportedError, match="would run on 'torch'"):
        require_backend("selective_scan", "native", FLOAT32)


def test_a_forced_path_ends_with_its_block():
    with use_backend("reference"):
        assert choose("selective_scan", FLOAT32).backend == "reference"
        with use_backend("torch"):
            assert choose("selective_scan", FLOAT32).backend == "torch"
            assert choose("causal_conv", FLOAT32).backend == "reference"
        assert choose("selective_scan", FLOAT32).backend == "reference"
    with pytest.raises(InputError, match="warp"), contextmanager(unchecked(use_backend))("warp"):
        pass


@needs_kernels
def test_a_level_this_processor_lacks_is_refused():
    with pytest.raises(InputError, match="avx9000"), force_level("avx9000"):
        pass


def saved_bytes(length, n):
    """Bytes the backward of a scan keeps, beyond the inputs themselves."""
    inputs, found = leaves(scan_inputs((1, length, 64, n), ("D", "z")), torch.float32)
    seen = {tensor.data_ptr() for tensor in found.values()}
    kept = {}

    def keep(tensor):
        if tensor.data_ptr() not in seen:
            kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y, _ = selective_scan(inputs)
    y.sum().backward()
    return sum(kept.values())


@pytest.mark.parametrize("backend", ["native", "torch"])
def test_what_the_backward_keeps_is_linear_in_length(backend):
    if backend not in available("selective_scan"):
        pytest.skip("no compiled kernels here")
    with use_backend(backend):
        short, long = saved_bytes(512, 16), saved_bytes(1024, 16)
        assert long <= 2.05 * short
        # One (l, e, n) tensor alone would be this large.
        assert long < 1024 * 64 * 16 * 4 / 2


def test_the_allocator_is_tuned_only_where_that_is_possible(monkeypatch):
    monkeypatch.setattr(allocator.sys, "platform", "win32")
    with pytest.raises(UnsupportedError, match="cannot be tuned"):
        allocator.tune_allocator_()
