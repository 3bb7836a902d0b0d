"""Runs timed in turns, by a clock that only the runs move."""

import gc
from itertools import chain, cycle, repeat

import pytest

from ssmith.evaluation.timing import Timing, time_pair


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


def test_runs_take_turns_in_the_warm_up_and_after():
    clock = Clock()
    timing = time_pair(
        clock.run("A", 2.0), clock.run("B", 1.0), seconds=7.5, min_repeats=3, clock=clock
    )
    assert "".join(clock.order) == "ABABAB" + "ABABAB"
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
    assert timing.section().samples.before == (1.0, 1.0, 9.0)


def test_the_garbage_collector_is_given_back_even_after_a_failure():
    clock = Clock()

    def fails():
        assert not gc.isenabled()
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        time_pair(fails, fails, seconds=1, clock=clock)
    assert gc.isenabled()


def costing(clock, costs):
    """A run whose calls cost what an iterator says."""

    def work():
        clock.now += next(costs)

    return work


def test_a_ramp_is_warmed_up_and_not_measured():
    clock = Clock()
    ramp = [12.0, 8.0, 5.0, 3.0, 2.0, 1.5]
    timing = time_pair(
        costing(clock, chain(ramp, repeat(1.0))),
        costing(clock, repeat(1.0)),
        seconds=100,
        clock=clock,
    )
    assert set(timing.before) == {1.0}
    assert timing.warm_up.settled
    # The ramp, and two calls that took the same time.
    assert timing.warm_up.calls == len(ramp) + 2
    assert timing.warm_up.seconds == sum(ramp) + 2.0 + timing.warm_up.calls
    assert timing.unsettled == ""
    assert timing.section().warm_up.settled is True


def test_both_runs_must_settle():
    clock = Clock()
    timing = time_pair(
        costing(clock, repeat(1.0)),
        costing(clock, chain([8.0, 4.0, 2.0], repeat(1.0))),
        seconds=100,
        clock=clock,
    )
    assert timing.warm_up.calls == 5
    assert set(timing.after) == {1.0}


@pytest.mark.parametrize(("seconds", "calls"), [(10_000, 20), (20, 4), (1, 3)])
def test_warming_up_ends_by_number_and_by_time(seconds, calls):
    clock = Clock()
    restless = [costing(clock, cycle([1.0, 2.0])) for _ in range(2)]
    timing = time_pair(*restless, seconds=seconds, clock=clock)
    assert timing.warm_up.calls == calls
    assert not timing.warm_up.settled
    assert f"after {calls} calls" in timing.unsettled


def test_the_first_calls_do_not_use_up_the_time_to_settle():
    clock = Clock()
    costs = [chain([500.0, 4.0, 2.0], repeat(1.0)) for _ in range(2)]
    timing = time_pair(*(costing(clock, item) for item in costs), seconds=100, clock=clock)
    assert timing.warm_up.settled
    assert set(timing.before) == {1.0}


def test_slow_first_calls_do_not_shorten_the_samples():
    clock = Clock()
    costs = [chain([2**-6, 2**-9, 2**-10, 2**-11], repeat(2**-13)) for _ in range(2)]
    timing = time_pair(*(costing(clock, item) for item in costs), seconds=1.0, clock=clock)
    assert timing.loops == 9
