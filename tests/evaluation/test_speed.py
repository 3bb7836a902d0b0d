import json

import pytest
import torch

from evaluation.tiny import Bidirectional, Recurrence, sequences
from ssmith.core.errors import InputError
from ssmith.core.settings import to_mapping
from ssmith.evaluation.speed import Speed, SpeedConfig, measure_speed
from ssmith.evaluation.timing import Timing, WarmUp, time_pair


def test_settings_out_of_range_are_refused():
    for settings in ({"seconds": 0}, {"seconds": float("nan")}, {"seconds": 1, "min_repeats": 2}):
        with pytest.raises(InputError):
            time_pair(int, int, **settings)
    with pytest.raises(InputError):
        SpeedConfig(threads=0)


QUICK = SpeedConfig(seconds=0.01, min_repeats=3, threads=1)


def test_models_are_measured_and_left_as_they_were():
    before, after = Recurrence(states=8).train(), Recurrence(states=4).eval()
    threads = torch.get_num_threads()
    speed = measure_speed(before, after, sequences(), config=QUICK)
    assert before.training
    assert not after.training
    assert torch.get_num_threads() == threads
    section = json.loads(json.dumps(to_mapping(speed.section()), allow_nan=False))
    assert section["path"] == "torch, cpu, float32, 1 thread"
    assert (section["batch_size"], section["length"]) == (10, 7)
    for name in ("per_batch", "per_step"):
        assert section[name]["before"] > 0
        assert section[name]["after"] > 0
    first, second = speed.per_sequence.medians
    assert first == pytest.approx(section["per_batch"]["before"] / 10)
    assert second == pytest.approx(section["per_batch"]["after"] / 10)


def test_what_was_not_measured_says_why():
    speed = measure_speed(Bidirectional(), Bidirectional(), sequences(), config=QUICK)
    section = to_mapping(speed.section())
    assert section["per_step"]["before"] is None
    assert "whole sequence" in section["per_step"]["why"]
    assert section["state_space_per_batch"]["why"] == "not measured"


def test_models_in_different_dtypes_are_not_compared():
    with pytest.raises(InputError, match="float64"):
        measure_speed(Recurrence(), Recurrence().double(), sequences(), config=QUICK)


def test_times_that_never_settled_are_a_finding():
    def timing(*, settled):
        warm_up = WarmUp(calls=20, seconds=1.5, settled=settled)
        return Timing(before=(1.0,) * 3, after=(1.0,) * 3, loops=1, warm_up=warm_up)

    speed = Speed(
        path="torch", threads=1, batch_size=1, length=1, step_batch_size=1,
        per_batch=timing(settled=True), state_space_per_batch=None,
        per_step=timing(settled=False),
    )  # fmt: skip
    (found,) = speed.findings()
    assert found.kind == "unsettled"
    assert found.message.startswith("the time of one step still changed by 20 % or more")
    assert "after 20 calls (1.5 s) of warming up" in found.message
    section = to_mapping(speed.section())
    assert section["per_step"]["warm_up"] == {"calls": 20, "seconds": 1.5, "settled": False}
