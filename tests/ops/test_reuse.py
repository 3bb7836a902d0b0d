"""Memory of large outputs is taken again inside `reused_memory`, and only when nothing is in it."""

import threading

import pytest
import torch
from torch.nn import functional

from ssmith.ops import reuse
from ssmith.ops.causal_conv.native import causal_conv_native
from ssmith.ops.native import library
from ssmith.ops.reuse import SMALLEST, empty, linear, reused_memory

LARGE = SMALLEST // 4


def test_memory_is_taken_again_once_the_last_tensor_in_it_is_gone():
    with reused_memory():
        first = empty((2, LARGE))
        view, where = first[1], first.data_ptr()
        del first
        second = empty((2, LARGE))
        assert second.data_ptr() != where
        del view
        assert empty((LARGE + 1,)).data_ptr() == where


def test_what_a_tensor_holds_is_not_written_by_those_after_it():
    with reused_memory():
        held = [empty((LARGE,)).fill_(value) for value in range(5)]
        for _ in range(20):
            empty((LARGE,)).fill_(-1.0)
    assert [float(item.min()) for item in held] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert [float(item.max()) for item in held] == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_the_smallest_block_that_holds_it_is_taken():
    with reused_memory():
        large, small = empty((3 * LARGE,)), empty((2 * LARGE,))
        places = large.data_ptr(), small.data_ptr()
        del large, small
        assert empty((LARGE,)).data_ptr() == places[1]
        assert empty((3 * LARGE,)).data_ptr() == places[0]


def test_blocks_that_are_too_small_are_given_back_before_a_larger_one_is_made():
    with reused_memory():
        del (gone := [empty((LARGE,)) for _ in range(3)])[:]
        pool = reuse._POOL.get()
        assert len(pool._free) == 3
        larger = empty((2 * LARGE,))
        assert not pool._free
        del larger
        assert len(pool._free) == 1 and not gone
    assert not pool._free


def test_a_tensor_outlives_what_it_was_made_in():
    with reused_memory():
        inside = empty((LARGE,)).fill_(3.0)
    empty((LARGE,)).fill_(1.0)
    assert float(inside.sum(dtype=torch.float64)) == 3.0 * LARGE


def test_small_tensors_and_those_outside_are_torchs_own(monkeypatch):
    monkeypatch.setattr(torch, "frombuffer", None)
    assert empty((LARGE,)).shape == (LARGE,)
    with reused_memory():
        assert empty((LARGE - 1,)).shape == (LARGE - 1,)


def test_inside_another_one_nothing_changes():
    with reused_memory():
        first = empty((LARGE,))
        where = first.data_ptr()
        with reused_memory():
            del first
            assert empty((LARGE,)).data_ptr() == where
        assert empty((LARGE,)).data_ptr() == where


def test_another_thread_is_not_inside():
    with reused_memory():
        first = empty((LARGE,))
        where = first.data_ptr()
        del first
        found = []
        thread = threading.Thread(target=lambda: found.append(empty((LARGE,))))
        thread.start()
        thread.join()
        assert found[0].data_ptr() != where


@pytest.mark.parametrize("biased", [False, True])
def test_linear_is_torchs_linear(biased):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 500, 8, generator=generator)
    weight = torch.randn(1000, 8, generator=generator)
    bias = torch.randn(1000, generator=generator) if biased else None
    expected = functional.linear(x, weight, bias)
    with reused_memory(), torch.no_grad():
        torch.testing.assert_close(linear(x, weight, bias), expected)
        torch.testing.assert_close(linear(x.mT.contiguous().mT, weight, bias), expected)
        torch.testing.assert_close(linear(x[0, 0], weight, bias), expected[0, 0])


def test_linear_leaves_gradients_types_and_autocast_to_torch():
    x, weight = torch.randn(600, 8), torch.randn(2000, 8, requires_grad=True)
    with reused_memory():
        linear(x, weight).sum().backward()
        assert weight.grad is not None
        with torch.no_grad():
            assert linear(x.double(), weight.double()).dtype == torch.float64
            with torch.autocast("cpu", torch.bfloat16):
                assert linear(x, weight).dtype == torch.bfloat16


@pytest.mark.skipif(library() is None, reason="the CPU kernels are not built")
def test_a_kernel_writes_all_of_used_memory():
    x = torch.randn(2, 700, 1024, generator=torch.Generator().manual_seed(0))
    weight = torch.randn(1024, 4, generator=torch.Generator().manual_seed(1))
    expected, _ = causal_conv_native(x, weight)
    with reused_memory():
        empty(x.shape).fill_(torch.nan)
        found, _ = causal_conv_native(x, weight)
    assert torch.equal(found, expected)
