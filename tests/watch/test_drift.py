"""Drift: unchanged data is left alone for years, and changes are found, dated and forgotten."""

import numpy as np
import pytest
from scipy import stats

from ssmith.release.disk import digest_of
from ssmith.watch.drift import Alarms, counted, find_drift
from ssmith.watch.sketch import Sketch
from ssmith.watch.stream import FILE, LookBlock, Stream

MEAN, COST = "input/channel 0/mean", "cut/layer/cost"


def sketches(names=(MEAN,), count=300, seed=0):
    random = np.random.default_rng(seed)
    return {name: Sketch.of(random.normal(size=count)) for name in names}


def looked(known, *looks, alarms=None):
    """Look at lists of readings, one after the other; return the last result by name."""
    stream = Stream()
    for number, readings in enumerate(looks):
        rows = len(next(iter(readings.values())))
        stream = stream.after(counted(known, readings, f"t{number}", rows))
    found = find_drift(known, stream, looks[-1], alarms or Alarms())
    return {f"{item.kind}/{item.place}/{item.what}": item for item in found}


def test_a_year_of_hourly_looks_alarms_at_most_once_in_twenty_years():
    """20 years of 8,760 looks of 10 rows at one reading, in every window: at most one alarm."""
    alarms = Alarms(least=0.0)
    known, years, rows = 100, 20, 10
    looks, sizes = windows_of_a_year(alarms.looks_per_year)
    tests, weight = np.bincount(looks), known * rows * sizes / (known + rows * sizes)
    found = 0
    for year in range(years):
        random = np.random.default_rng(year)
        sketch = Sketch.of(random.random(known))
        # The shares of the truth between points of the grid, of a uniform reading.
        parts = np.diff(np.concatenate([[0.0], sketch.grid, [1.0]]))
        counts = random.multinomial(rows, parts, size=alarms.looks_per_year)[:, :-1]
        sums = np.zeros((len(sketch.grid), len(counts) + 1))
        sums[:, 1:] = counts.cumsum(1).cumsum(0).T
        apart = np.zeros(len(looks))
        # One point of the grid at a time, whose numbers all stay in the processor's cache.
        for below, share in zip(sums, sketch.shares, strict=True):
            seen = (below[looks] - below[looks - sizes]) / (rows * sizes)
            np.maximum(apart, np.abs(seen - share), out=apart)
        # By the bound of Dvoretzky, Kiefer and Wolfowitz: what is left is not worth its time.
        near = np.exp(-2 * weight * apart**2) <= 1000 * alarms.per_look
        chance = stats.kstwo.sf(apart[near], np.maximum(weight[near].round(), 1))
        found += any(
            np.any(np.sort(own) <= alarms.per_look * np.arange(1, len(own) + 1) / tests[look])
            for look in np.unique(looks[near])
            for own in [chance[looks[near] == look]]
        )
    assert found <= 1


def windows_of_a_year(looks):
    """Return the look and the size of every window that is tested in a year."""
    stream, found = Stream(), []
    for number in range(1, looks + 1):
        stream = stream.after(LookBlock(since="", looks=1, rows=1, counts={}))
        sizes = np.cumsum([block.looks for block in reversed(stream.blocks)])
        found += [(number, size) for size in sizes]
    return np.array(found).T


def test_blocks_are_powers_of_two_and_no_look_is_lost():
    stream = Stream()
    for number in range(100):
        one = LookBlock(since=str(number), looks=1, rows=3, counts={MEAN: np.array([number, 1])})
        stream = stream.after(one)
        sizes = [block.looks for block in stream.blocks]
        assert sum(sizes) == stream.looks == number + 1
        assert sizes == sorted(sizes, reverse=True) and sizes[-1] == 1
        assert all(size & (size - 1) == 0 and sizes.count(size) <= 2 for size in sizes)
    whole = stream.windows()[-1]
    assert whole.since == "0" and whole.rows == 300
    assert whole.counts[MEAN].tolist() == [sum(range(100)), 100]


def test_a_change_is_found_with_the_row_it_began_at():
    random = np.random.default_rng(1)
    values = random.normal(size=200)
    values[120:] += 2.0
    found = looked(sketches(), {MEAN: values})[MEAN]
    assert found.alarm and found.since == "t0"
    assert found.row == pytest.approx(120, abs=8)
    assert found.adjusted <= Alarms().per_look


def test_a_slow_change_is_found_over_several_looks_and_dated():
    random = np.random.default_rng(2)
    looks = [{MEAN: random.normal(size=25)} for _ in range(4)]
    looks += [{MEAN: random.normal(0.9, size=25)} for _ in range(8)]
    assert not looked(sketches(), *looks[:5])[MEAN].alarm
    found = looked(sketches(), *looks)[MEAN]
    assert found.alarm and found.rows > 25
    assert found.since in ("t3", "t4", "t5", "t6")


def test_what_is_over_is_no_alarm():
    random = np.random.default_rng(3)
    shifted, normal = {MEAN: random.normal(3, size=100)}, {MEAN: random.normal(size=100)}
    assert looked(sketches(), shifted)[MEAN].alarm
    assert not looked(sketches(), shifted, normal)[MEAN].alarm
    assert looked(sketches(), shifted, normal, shifted)[MEAN].alarm


def test_a_cut_that_costs_less_is_no_alarm():
    random = np.random.default_rng(4)
    known = sketches((MEAN, COST))
    less, more = random.normal(-3, size=100), random.normal(3, size=100)
    found = looked(known, {MEAN: less, COST: less})
    assert found[MEAN].alarm and not found[COST].alarm
    assert looked(known, {MEAN: more, COST: more})[COST].alarm


def test_small_distances_are_not_minded():
    random = np.random.default_rng(5)
    known = {MEAN: Sketch.of(random.normal(size=20000))}
    little = {MEAN: random.normal(0.2, size=20000)}
    assert not looked(known, little)[MEAN].alarm
    assert looked(known, little, alarms=Alarms(least=0.05))[MEAN].alarm


def test_one_of_many_readings_is_found_and_the_others_are_left_alone():
    random = np.random.default_rng(6)
    names = [f"input/channel {index}/mean" for index in range(60)]
    readings = {name: random.normal(size=120) for name in names}
    readings[names[7]] += 1.5
    found = looked(sketches(names), readings)
    assert [name for name, item in found.items() if item.alarm] == [names[7]]


def test_a_stream_is_read_as_it_was_written(tmp_path):
    random = np.random.default_rng(7)
    known, stream = sketches((MEAN, COST)), Stream(memory={"quality": {"count": 3}})
    for number in range(6):
        readings = {name: random.normal(size=30) for name in known}
        stream = stream.after(counted(known, readings, f"t{number}", 30))
    file = tmp_path / FILE
    file.write_bytes(content := stream.content())
    read = Stream.load(file, digest_of(content))
    assert (read.looks, read.memory) == (stream.looks, stream.memory)
    for old, new in zip(stream.blocks, read.blocks, strict=True):
        assert (old.since, old.looks, old.rows) == (new.since, new.looks, new.rows)
        assert all((old.counts[name] == new.counts[name]).all() for name in known)
    assert Stream.load(tmp_path / "none", None).looks == 0
