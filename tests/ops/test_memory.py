"""Large pages are asked for inside an output, and nowhere else."""

import pytest
import torch

from ssmith.ops.native import memory
from ssmith.ops.native.memory import written

MEGABYTES = 2**18


@pytest.mark.parametrize(("size", "asked"), [(3, False), (9, True), (40, True)])
def test_only_whole_pages_inside_a_large_output_are_asked_for(monkeypatch, size, asked):
    calls = []
    monkeypatch.setattr(memory, "_advise", lambda: lambda *call: calls.append(call))
    tensor = torch.empty(size * MEGABYTES)
    assert written(tensor) == tensor.data_ptr()
    assert bool(calls) == asked
    for start, length in calls:
        assert (start % 2**21, length % 2**21) == (0, 0) and length > 0
        assert tensor.data_ptr() <= start
        assert start + length <= tensor.data_ptr() + 4 * tensor.numel()


def test_an_output_can_be_written_after_it(monkeypatch):
    tensor = torch.empty(20 * MEGABYTES)
    written(tensor)
    assert float(tensor.fill_(1.0).sum(dtype=torch.float64)) == 20 * MEGABYTES


def test_other_systems_are_asked_for_nothing(monkeypatch):
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    memory._advise.cache_clear()
    try:
        assert memory._advise()(0, 1) is None
    finally:
        monkeypatch.undo()
        memory._advise.cache_clear()
