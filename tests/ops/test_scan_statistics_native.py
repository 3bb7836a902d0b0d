"""Statistics and votes on the CPU kernels against the torch forms in float64."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.scan_cases import EVERYTHING, leaves, scan_inputs
from ssmith.core.errors import InputError
from ssmith.ops.backends import use_backend
from ssmith.ops.native import LEVELS, force_level, library
from ssmith.ops.selective_scan.statistics import (
    QUANTITIES,
    StatisticsConfig,
    selective_scan_statistics,
)
from ssmith.ops.votes import votes_for_smallest

pytestmark = pytest.mark.skipif(library() is None, reason="no compiled kernels here")


@pytest.fixture(params=LEVELS)
def level(request):
    loaded = library()
    if LEVELS.index(request.param) > loaded.best_level:
        pytest.skip(f"this processor has no {request.param}")
    with force_level(request.param):
        yield request.param


def same(one, other, tolerance=3e-6):
    scale = float(other.abs().max()) or 1.0
    assert float((one.double() - other).abs().max()) <= tolerance * scale


def check(inputs, config):
    narrow, _ = leaves(inputs, torch.float32)
    y, h_last, found = selective_scan_statistics(narrow, config)
    wanted_y, wanted_h, wanted = selective_scan_statistics(inputs, config)
    same(y, wanted_y)
    same(h_last, wanted_h)
    assert found.energies.keys() == wanted.energies.keys()
    for name, sums in wanted.energies.items():
        same(found.energies[name], sums)
    if config.gram is not None:
        same(found.gram, wanted.gram)
        assert torch.equal(found.gram, found.gram.mT)
    assert found.weight == pytest.approx(wanted.weight, rel=1e-6)


@settings(deadline=None, max_examples=30)
@given(
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 90), st.integers(1, 70), st.integers(1, 18)),
    options=st.sets(st.sampled_from(EVERYTHING)), gated=st.booleans(), weighted=st.booleans(),
    asked=st.sets(st.sampled_from(QUANTITIES)), gram=st.sampled_from((None, *QUANTITIES)),
)  # fmt: skip
def test_kernels_gather_what_torch_does(sizes, options, gated, weighted, asked, gram):
    b, length, _, _ = sizes
    weights = {
        "time_weights": torch.linspace(1, 2, length),
        "sample_weights": torch.arange(1.0, b + 1),
    }
    config = StatisticsConfig(
        energies=tuple(sorted(asked)), gram=gram, gated=gated, **(weights if weighted else {})
    )
    check(scan_inputs(sizes, tuple(options)), config)


@pytest.mark.parametrize("sizes", [(2, 65, 70, 5), (1, 600, 17, 16), (3, 33, 130, 1)])
def test_every_level_gathers_everything(level, sizes):
    config = StatisticsConfig(energies=QUANTITIES, gram="C_A_bar_h", gated=True)
    check(scan_inputs(sizes), config)


def test_visits_of_kernels_equal_those_of_torch(level):
    inputs = scan_inputs((3, 70, 40, 5))
    seen = {}
    for name, given_inputs in (("kernels", leaves(inputs, torch.float32)[0]), ("torch", inputs)):
        visits = seen.setdefault(name, [])
        config = StatisticsConfig(
            energies=(), sample_weights=torch.tensor([1.0, 0.5, 0.25]),
            visit=lambda start, squares, visits=visits: visits.append((start, squares.clone())),
        )  # fmt: skip
        outputs = selective_scan_statistics(given_inputs, config)
        seen[name + " outputs"] = outputs[:2]
    for visits in (seen["kernels"], seen["torch"]):
        ends = [start + len(squares) for start, squares in visits]
        assert [start for start, _ in visits] == [0, *ends[:-1]]
        assert ends[-1] == 70
    same(*(torch.cat([visit[1] for visit in seen[name]]) for name in ("kernels", "torch")))
    for got, wanted in zip(seen["kernels outputs"], seen["torch outputs"], strict=True):
        same(got, wanted)


@pytest.mark.parametrize(
    ("sizes", "options"),
    [
        ((3, 70, 40, 5), ("z", "D", "h0", "h_offset", "valid")),
        ((1, 600, 17, 16), ("z",)),
        ((2, 33, 130, 1), ()),
        ((4, 1, 70, 6), ("h0",)),
    ],
)
def test_sums_apart_of_kernels_equal_those_of_torch(level, sizes, options):
    inputs = scan_inputs(sizes, options)
    config = StatisticsConfig(
        energies=(), sample_weights=torch.linspace(0.5, 1, sizes[0]),
        apart=torch.linspace(2, 1, sizes[1]),
    )  # fmt: skip
    narrow = leaves(inputs, torch.float32)[0]
    for got, wanted in zip(
        selective_scan_statistics(narrow, config)[:2],
        selective_scan_statistics(inputs, config)[:2],
        strict=True,
    ):
        same(got, wanted)
    same(*(selective_scan_statistics(given, config)[2].apart for given in (narrow, inputs)))


@pytest.mark.parametrize("asked", [{}, {"energies": (), "apart": torch.ones(40)}])
def test_outputs_can_be_spared(asked):
    inputs = scan_inputs((2, 40, 20, 3), ("z", "D"), dtype=torch.float32)
    config = StatisticsConfig(**asked)
    for backend in ("native", "torch"):
        with use_backend(backend):
            _, h_last, found = selective_scan_statistics(inputs, config)
            y, spared_h, spared = selective_scan_statistics(inputs, replace(config, outputs=False))
        assert y is None
        assert torch.equal(h_last, spared_h)
        for name, value in found.energies.items():
            assert torch.equal(value, spared.energies[name])
        if found.apart is not None:
            assert torch.equal(found.apart, spared.apart)


def test_torch_can_be_asked_for():
    inputs = scan_inputs((1, 40, 6, 3), dtype=torch.float32)
    config = StatisticsConfig(energies=("h",))
    with use_backend("torch"):
        _, _, plain = selective_scan_statistics(inputs, config)
    same(selective_scan_statistics(inputs, config)[2].energies["h"], plain.energies["h"])


def test_threads_do_not_change_sums():
    inputs = scan_inputs((2, 50, 200, 4), dtype=torch.float32)
    config = StatisticsConfig(energies=QUANTITIES, gram="h")
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(selective_scan_statistics(inputs, config)[2])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0].gram, found[1].gram)
    for name in QUANTITIES:
        assert torch.equal(found[0].energies[name], found[1].energies[name])


def brute_force_votes(metric, count):
    votes = torch.zeros(metric.shape[1], dtype=torch.float64)
    for row in metric.tolist():
        units = sorted(range(len(row)), key=lambda unit: (row[unit], -unit))
        votes[units[:count]] += 1
    return votes


@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(1, 5), units=st.integers(1, 60), seed=st.integers(0, 99),
    ties=st.booleans(), share=st.floats(0, 1),
)  # fmt: skip
def test_votes_equal_sorting(rows, units, seed, ties, share):
    metric = torch.randn(rows, units, generator=torch.Generator().manual_seed(seed))
    if ties:
        metric = (2 * metric).round()
    count = round(share * units)
    wanted = brute_force_votes(metric, count)
    assert torch.equal(votes_for_smallest(metric, count), wanted)
    assert torch.equal(votes_for_smallest(metric.double(), count), wanted)


@pytest.mark.parametrize("count", [0, 1, 7, 30, 59, 60])
def test_votes_do_not_depend_on_the_order_of_memory(level, count):
    draw = torch.Generator().manual_seed(count)
    metric = (2 * torch.randn(4, 20, 3, generator=draw)).round()
    wanted = brute_force_votes(metric.flatten(1), count).view(20, 3)
    turned = metric.mT.contiguous().mT
    for given_metric in (metric, turned, turned[1:], metric.double()):
        votes = votes_for_smallest(given_metric, count)
        if len(given_metric) == 4:
            assert torch.equal(votes, wanted)
        else:
            assert torch.equal(votes, brute_force_votes(metric[1:].flatten(1), count).view(20, 3))


def test_votes_at_every_level_and_at_extremes(level):
    row = torch.tensor([[0.0, -0.0, 1e-30, -1e-30, torch.inf, -torch.inf, torch.nan, 0.0]])
    chosen = [votes_for_smallest(row, count).nonzero().flatten().tolist() for count in range(9)]
    order = [5, 3, 7, 1, 0, 2, 4, 6]
    assert chosen == [sorted(order[:count]) for count in range(9)]


ROWS = {
    "alike": lambda rows: rows,
    "growing": lambda rows: rows * torch.logspace(-30, 30, len(rows))[:, None],
    "alternating": lambda rows: rows * torch.tensor([1e-20, 1e20]).repeat(len(rows) // 2)[:, None],
    "of either sign": lambda rows: (
        rows.abs() * torch.tensor([1.0, -1.0]).repeat(len(rows) // 2)[:, None]
    ),
    "few values": lambda rows: rows.round(),
    "at the ends": lambda rows: rows.where(rows.abs() < 0.5, torch.inf * rows),
    "not numbers": lambda rows: rows.where(rows.abs() < 0.1, torch.nan),
}


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("share", [0.0003, 0.5, 0.9999])
def test_votes_of_rows_whose_limits_are_far_apart(level, kind, share):
    draw = torch.Generator().manual_seed(7)
    metric = ROWS[kind](torch.randn(12, 5003, generator=draw))
    count = round(share * 5003)
    keys = metric.nan_to_num(nan=torch.inf, posinf=torch.finfo(torch.float32).max)
    assert torch.equal(votes_for_smallest(metric, count), brute_force_votes(keys, count))


@pytest.mark.parametrize("count", [1, 31, 399])
def test_votes_scale_as_if_multiplied_before(level, count):
    draw = torch.Generator().manual_seed(count)
    metric = (3 * torch.randn(6, 50, 8, generator=draw)).round()
    scale = torch.randint(5, (50, 8), generator=draw) / 4
    wanted = brute_force_votes((metric * scale).flatten(1), count).view(50, 8)
    for given_metric in (metric, metric.mT.contiguous().mT, metric.double()):
        assert torch.equal(votes_for_smallest(given_metric, count, scale), wanted)


def test_too_many_votes_are_refused():
    with pytest.raises(InputError, match="0 to 4"):
        votes_for_smallest(torch.ones(2, 4), 5)


def test_a_chunked_call_continues_where_the_last_one_stopped():
    inputs = scan_inputs((1, 64, 20, 3), ("z", "h0"), dtype=torch.float32)
    config = StatisticsConfig(energies=("A_bar_h",))
    _, _, whole = selective_scan_statistics(inputs, config)
    h, total = inputs.h0, torch.zeros(20, 3, dtype=torch.float64)
    for part in (slice(0, 13), slice(13, 64)):
        piece = {name: getattr(inputs, name)[:, part] for name in ("x", "dt", "B", "C", "z")}
        _, h, found = selective_scan_statistics(replace(inputs, h0=h, **piece), config)
        total += found.energies["A_bar_h"]
    same(total, whole.energies["A_bar_h"])
