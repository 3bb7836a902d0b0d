import gc
import json

import pytest
import torch

from evaluate.tiny import Bidirectional, Recurrence, sequences
from ssmith.core.errors import InputError
from ssmith.evaluate.speed import SpeedConfig, Timing, measure_speed, time_pair


class Clock:
    """A clock that only runs move."""

    def __init__(self):
        self.now = 0.0
        self.order = []

    def run(self, name, cost):
        def work():
            self.order.append(name)
            self.now += cost

        return work

    def __call__(self):
        return self.now


def test_runs_take_turns_after_the_warm_up():
    clock = Clock()
    timing = time_pair(
        clock.run("A", 2.0), clock.run("B", 1.0), seconds=7.5, min_repeats=3, clock=clock
    )
    assert "".join(clock.order) == "ABAB" + "ABABAB"
    assert timing.before == (2.0, 2.0, 2.0)
    assert timing.after == (1.0, 1.0, 1.0)
    assert timing.loops == 1
    assert timing.speedup == 2.0


def test_time_is_used_up_and_repeats_are_reached():
    clock = Clock()
    many = time_pair(clock.run("A", 0.5), clock.run("B", 0.5), seconds=20, clock=clock)
    assert len(many.before) == 20
    few = time_pair(clock.run("A", 9.0), clock.run("B", 9.0), seconds=1, min_repeats=5, clock=clock)
    assert len(few.before) == len(few.after) == 5


def test_short_runs_are_looped_alike():
    clock = Clock()
    timing = time_pair(
        clock.run("A", 2**-12), clock.run("B", 2**-13), seconds=2**-5, min_repeats=3, clock=clock
    )
    assert timing.loops == 9
    assert timing.before[0] == pytest.approx(2**-12)
    assert timing.after[0] == pytest.approx(2**-13)


def test_the_slow_first_call_is_not_a_sample():
    clock = Clock()
    costs = {"A": iter([50.0] + [1.0] * 99), "B": iter([50.0] + [1.0] * 99)}

    def run(name):
        def work():
            clock.now += next(costs[name])

        return work

    timing = time_pair(run("A"), run("B"), seconds=10, clock=clock)
    assert set(timing.before) == set(timing.after) == {1.0}


def test_the_device_is_waited_for_inside_each_sample():
    clock = Clock()
    pending = []
    timing = time_pair(
        lambda: pending.append(1.0),
        lambda: pending.append(1.0),
        seconds=10,
        clock=clock,
        synchronise=lambda: (setattr(clock, "now", clock.now + sum(pending)), pending.clear()),
    )
    assert set(timing.before) == {1.0}


def test_medians_withstand_one_disturbance():
    timing = Timing(before=(1.0, 1.0, 9.0), after=(0.5, 0.6, 0.5), loops=1)
    assert timing.medians == (1.0, 0.5)
    assert timing.minima == (1.0, 0.5)
    assert timing.as_dict()["samples"]["before"] == [1.0, 1.0, 9.0]


def test_the_garbage_collector_is_given_back_even_after_a_failure():
    clock = Clock()

    def fails():
        assert not gc.isenabled()
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        time_pair(fails, fails, seconds=1, clock=clock)
    assert gc.isenabled()


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
    speed = measure_speed(before, after, sequences(), config=QUICK, state_space=(int, int))
    assert before.training
    assert not after.training
    assert torch.get_num_threads() == threads
    section = json.loads(json.dumps(speed.as_dict(), allow_nan=False))
    assert section["path"] == "torch, cpu, float32, 1 thread"
    assert (section["batch_size"], section["length"]) == (10, 7)
    for name in ("per_batch", "per_step", "state_space_per_batch"):
        assert section[name]["before"] > 0
        assert section[name]["after"] > 0
    first, second = speed.per_sequence.medians
    assert first == pytest.approx(section["per_batch"]["before"] / 10)
    assert second == pytest.approx(section["per_batch"]["after"] / 10)


def test_what_was_not_measured_says_why():
    section = measure_speed(Bidirectional(), Bidirectional(), sequences(), config=QUICK).as_dict()
    assert section["per_step"]["before"] is None
    assert "whole sequence" in section["per_step"]["why"]
    assert section["state_space_per_batch"]["why"] == "not measured"


def test_models_in_different_dtypes_are_not_compared():
    with pytest.raises(InputError, match="float64"):
        measure_speed(Recurrence(), Recurrence().double(), sequences(), config=QUICK)
