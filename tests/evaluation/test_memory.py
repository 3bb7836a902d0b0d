from dataclasses import dataclass

import pytest
import torch

from evaluation.tiny import Bidirectional, Recurrence, sequences
from ssmith.core.settings import to_mapping
from ssmith.evaluation.memory import (
    forward_peak_bytes,
    measure_memory,
    parameter_bytes,
    peak_bytes,
    state_bytes,
)

KILO = torch.zeros(256)
"""1024 bytes."""


def chain():
    a = KILO + 1  # a: 1024
    b = a + 1  # a, b: 2048
    del a
    c = b + 1  # b, c: 2048
    d = torch.cat([c, c])  # b, c, d: 4096
    del b, c
    return d + 1  # d, result: 4096


def test_peak_of_a_known_sequence_of_operations():
    assert peak_bytes(chain) == 4096


def test_freed_memory_is_not_counted_again():
    def loop():
        h = KILO.clone()
        for _ in range(50):
            h = h * 2

    # The old and the new h are alive together.
    assert peak_bytes(loop) == 2048


def test_views_in_place_work_and_inputs_cost_nothing():
    held = torch.zeros(256)

    def views():
        held.add_(1).mul_(2)
        return held.view(16, 16).T[:4].unsqueeze(0)

    assert peak_bytes(views) == 0


def test_a_view_keeps_its_whole_storage_alive():
    def keep():
        part = (KILO + 1)[:1]
        return part, KILO + 2

    assert peak_bytes(keep) == 2048


def test_nothing_is_left_over_from_an_earlier_measurement():
    kept = []
    assert peak_bytes(lambda: kept.append(KILO + 1)) == 1024
    assert peak_bytes(lambda: kept.append(kept[0] + 1)) == 1024
    kept.clear()
    assert peak_bytes(chain) == 4096


def test_the_peak_of_a_forward_pass_is_the_same_every_time_and_grows_with_the_states():
    part = sequences(count=8, length=50)
    small, large = Recurrence(states=8), Recurrence(states=64)
    assert forward_peak_bytes(small, part) == forward_peak_bytes(small, part)
    # The weights over time are (batch, length, states) in float32.
    assert forward_peak_bytes(small, part) > 8 * 50 * 8 * 4
    ratio = forward_peak_bytes(large, part) / forward_peak_bytes(small, part)
    assert 4 < ratio < 8.5


def test_state_bytes_of_nested_states_without_what_all_sequences_share():
    @dataclass
    class Cache:
        conv: torch.Tensor
        shared: torch.Tensor
        count: int

    class Nested(Recurrence):
        def initial_state(self, batch_size):
            complex_states = torch.zeros(batch_size, 3, dtype=torch.complex64)
            cache = Cache(conv=torch.zeros(batch_size, 5), shared=torch.zeros(99), count=0)
            return [{"ssm": complex_states}, (None, cache)]

        def step(self, x_t, state):
            return x_t, state

    assert state_bytes(Nested(), sequences()) == 3 * 8 + 5 * 4
    assert state_bytes(Recurrence(states=6), sequences()) == 24


def test_parameter_bytes_count_shared_parameters_once():
    layer = torch.nn.Linear(3, 3, bias=False)
    layer.register_buffer("scale", torch.zeros(2, dtype=torch.float64))
    twice = torch.nn.Sequential(layer, layer)
    assert parameter_bytes(twice) == 9 * 4 + 2 * 8


def test_receipt_section():
    before, after = Recurrence(states=8), Recurrence(states=4)
    section = to_mapping(measure_memory(before, after, sequences()).section())
    assert section["state_bytes_per_sequence"] == {"before": 32, "after": 16}
    assert section["peak_forward_bytes"]["after"] < section["peak_forward_bytes"]["before"]
    assert section["parameter_bytes"]["before"] == 4 * (8 + 16 + 24)
    assert section["batch_size"] == 10


def test_a_model_without_steps_says_why_it_has_no_state():
    section = to_mapping(measure_memory(Bidirectional(), Bidirectional(), sequences()).section())
    state = section["state_bytes_per_sequence"]
    assert state["before"] is None
    assert "whole sequence" in state["why"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_peak_on_a_gpu():
    device = torch.device("cuda")
    base = torch.zeros(2**18, device=device)
    # 1 MiB each: two temporaries and the result.
    assert peak_bytes(lambda: (base + 1) + (base + 2), device) == 3 * 2**20
