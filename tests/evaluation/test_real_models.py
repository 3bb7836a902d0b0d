"""The measurements on the house's own models, cut and whole, tokens and series."""

from dataclasses import replace

import pytest
import torch

from evaluation.tiny import sequences
from helpers.tiny_mamba import tiny
from ssmith.core.errors import InputError
from ssmith.core.rows import rows
from ssmith.core.sequences import Sequences
from ssmith.core.settings import to_mapping
from ssmith.core.tokens import TokenWindows
from ssmith.evaluation import predict
from ssmith.evaluation.memory import forward_peak_bytes, measure_memory, parameter_bytes
from ssmith.evaluation.parity import TOLERANCE, step_vs_scan
from ssmith.evaluation.running import double_copy
from ssmith.evaluation.speed import SpeedConfig, measure_speed
from ssmith.families.lti import LTIOptions
from ssmith.families.sequence import SequenceConfig, SequenceModel

QUICK = SpeedConfig(seconds=0.01, min_repeats=3, threads=1)


def model(family, states=8, *, tokens=False, **settings):
    config = SequenceConfig(
        family=family,
        width=4,
        states=(states, states),
        outputs=3,
        channels=None if tokens else 2,
        vocabulary=5 if tokens else None,
        **settings,
    )
    return SequenceModel(config, torch.Generator().manual_seed(0))


def tokens():
    part = sequences()
    draw = torch.Generator().manual_seed(1)
    x = torch.randint(5, part.x.shape[:2], generator=draw)
    return Sequences(x=x, lengths=part.lengths, y=part.y)


@pytest.mark.parametrize("family", ["s5", "s4d"])
@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_step_equals_scan(family, pooling):
    assert step_vs_scan(model(family, pooling=pooling), sequences()) <= TOLERANCE
    assert step_vs_scan(model(family, pooling=pooling, tokens=True), tokens()) <= TOLERANCE


@pytest.mark.parametrize("family", ["s5", "s4d"])
def test_prediction_does_not_depend_on_the_batch(family):
    exact = double_copy(model(family))
    part = sequences()
    whole = predict(exact, part, 10)
    torch.testing.assert_close(predict(exact, part, 3), whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("family", ["s5", "s4d"])
def test_fewer_states_need_less(family):
    whole, cut = model(family, 16), model(family, 8)
    part = sequences(length=40)
    memory = measure_memory(whole, cut, part)
    states = {"s5": 2 * 16, "s4d": 2 * 4 * 16}[family]
    # Complex states, the pooled features and a counter.
    assert memory.state == (8 * states + 4 * 4 + 8, 8 * states // 2 + 4 * 4 + 8)
    assert memory.peak_forward[1] < memory.peak_forward[0]
    assert memory.parameters == (parameter_bytes(whole), parameter_bytes(cut))
    assert forward_peak_bytes(whole, part) == memory.peak_forward[0]


def test_a_bidirectional_model_has_neither_state_nor_step():
    both = model("s5", options=LTIOptions(bidirectional=True))
    state = measure_memory(both, both, sequences()).section().state_bytes_per_sequence
    assert "bidirectional" in state.why
    step = measure_speed(both, both, sequences(), config=QUICK).section().per_step
    assert "bidirectional" in step.why


def test_speed_of_a_model_of_tokens():
    speed = measure_speed(
        model("s4d", tokens=True), model("s4d", 4, tokens=True), tokens(), config=QUICK
    )
    assert speed.per_step is not None
    assert min(speed.per_step.before + speed.per_step.after) > 0


def test_the_state_space_part_is_timed_alone():
    speed = measure_speed(model("s5"), model("s5", 4), sequences(), config=QUICK)
    assert min(speed.state_space_per_batch.before) > 0


def test_text_is_timed_by_the_token_and_other_rows_by_the_batch():
    windows = TokenWindows(
        ids=torch.ones(2, 12, dtype=torch.int64),
        lengths=torch.tensor([12, 12]),
        scored_from=torch.tensor([1, 1]),
        text_bytes=None,
        vocabulary=61,
        name="ones",
    )
    net = tiny("mamba")
    speed, memory = (
        measure_speed(net, net, windows, config=QUICK),
        measure_memory(net, net, windows),
    )
    assert speed.per_step is not None
    assert (speed.length, memory.length) == (12, 12)
    assert speed.path.endswith("; cpu, float32, 1 thread")
    assert memory.state[0] == memory.state[1] > 0
    with pytest.raises(InputError, match="is padding"):
        measure_speed(net, net, replace(windows, lengths=torch.tensor([12, 9])), config=QUICK)
    plain, batch = torch.nn.Linear(3, 2), rows([torch.zeros(4, 3)])
    section = to_mapping(measure_speed(plain, plain, batch, config=QUICK).section())
    assert section["per_batch"]["before"] > 0
    assert "no step" in section["per_step"]["why"]
    assert "no step" in measure_memory(plain, plain, batch).why_null
