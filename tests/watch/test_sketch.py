"""A sketch holds at most 256 numbers, and tells what all of them would have told."""

import numpy as np
import pytest
from scipy import stats

from ssmith.watch.sketch import POINTS, Sketch


@pytest.fixture
def random():
    return np.random.default_rng(0)


def table(sketch, *many):
    return np.stack([sketch.counts(values) for values in many])


def test_distance_is_that_of_scipy_where_all_values_fit_the_grid(random):
    old, new = random.normal(size=200), random.normal(0.4, size=150)
    sketch = Sketch.of(old)
    distance, place = sketch.apart(table(sketch, new))
    exact = stats.ks_2samp(new, old)
    assert distance[0] == pytest.approx(exact.statistic, abs=1 / 150)
    assert sketch.grid[place[0]] == pytest.approx(exact.statistic_location, abs=0.2)


def test_distance_is_never_larger_than_that_of_all_values(random):
    old = random.gamma(2.0, size=5000)
    sketch = Sketch.of(old)
    for shift in (0.0, 0.1, 1.0):
        new = random.gamma(2.0, size=300) + shift
        distance = sketch.apart(table(sketch, new))[0][0]
        exact = stats.ks_2samp(new, old).statistic
        assert exact - 1.5 / POINTS <= distance <= exact + 1e-12


def test_chances_are_those_of_scipy_or_larger(random):
    old = random.normal(size=150)
    sketch = Sketch.of(old)
    new = [random.normal(shift, size=60) for shift in (0.0, 0.5, 1.5)]
    found = sketch.chances(table(sketch, *new), matters=1.0)
    wanted = [stats.ks_2samp(item, old).pvalue for item in new]
    assert all(found >= np.array(wanted) * (1 - 1e-9))
    assert found == pytest.approx(wanted, rel=0.5)


def test_one_sided_chances_ignore_what_became_smaller(random):
    sketch = Sketch.of(random.normal(size=300))
    smaller, larger = random.normal(-2, size=50), random.normal(2, size=50)
    found = sketch.chances(table(sketch, smaller, larger), up=True)
    exact = stats.ks_2samp(larger, sketch.drawn(), alternative="less").pvalue
    assert found[0] > 0.9
    assert exact <= found[1] < 1e-12


def test_counts_of_parts_add_up(random):
    sketch, new = Sketch.of(random.normal(size=500)), random.normal(size=99)
    parts = sketch.counts(new[:40]) + sketch.counts(new[40:])
    assert (parts == sketch.counts(new)).all()
    assert parts.sum() == 99 and len(parts) == len(sketch.grid) + 1 <= POINTS + 1


def test_wasserstein_is_a_shift_in_the_unit_of_the_values(random):
    old = random.uniform(0, 100, size=4000)
    sketch = Sketch.of(old)
    assert sketch.moved(sketch.counts(old)) == pytest.approx(0, abs=1e-9)
    inside = random.uniform(0, 50, size=4000)
    assert sketch.moved(sketch.counts(inside)) == pytest.approx(25, abs=1.5)


def test_rounding_of_another_batch_is_no_drift(random):
    old = np.ones(300) + 1e-8 * random.normal(size=300)
    sketch = Sketch.of(old)
    new = np.ones(200) + 1e-8
    assert sketch.apart(table(sketch, new))[0][0] == 0
    assert sketch.apart(table(sketch, new + 1e-3))[0][0] == 1


def test_a_sketch_of_one_value_and_of_zeros():
    for values in (np.zeros(10), np.array([3.0])):
        sketch = Sketch.of(values)
        assert sketch.apart(table(sketch, values))[0][0] == 0
        assert sketch.count == len(values)
