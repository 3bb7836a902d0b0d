"""Rows that read the states that stay, refitted through the SiLU: against the formulas."""

import copy

import pytest
import torch
from torch.nn import functional

import ssmith as sm
from helpers.every_unit import MODELS, build
from helpers.selective import windows_of
from ssmith.calibrate import PassConfig
from ssmith.calibrate.grouped import sample_states
from ssmith.calibrate.observe import observe
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.families import ssm_sites
from ssmith.families.hf.double import in_double
from ssmith.families.hf.engine import engine
from ssmith.families.mamba2.grouped import GroupedLayer
from ssmith.spine import reading
from ssmith.spine.reading import held_out_of
from ssmith.surgery.reading import Reading, ReadingSamples, refit_reading

pytest.importorskip("transformers")


def problem(kept=3, n=5, width=4, steps=60):
    """K, C and samples of a group whose first states stay, and how these are read before."""
    draw = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(shape, generator=draw, dtype=torch.float64)

    given, taps, bias = random(steps, width, n), random(n, width), random(n)
    C = functional.silu(torch.einsum("twn,nw->tn", given, taps) + bias)
    H = random(steps, 7, n)
    K = torch.einsum("tcn,tcm->tnm", H, H)
    whole = torch.einsum("tn,tnm,tm->t", C, K, C)
    samples = ReadingSamples(
        own=K[:, :kept, :kept],
        wanted=torch.einsum("tkn,tn->tk", K[:, :kept], C),
        whole=whole,
        given=given,
        held=torch.arange(steps) % 4 == 3,
    )
    eye = torch.eye(n, dtype=torch.float64)[:kept]
    return (K, C), samples, Reading(mixing=eye, taps=taps[:kept], bias=bias[:kept])


def error(whole, samples, reading):
    """E[(C − C̃)ᵀ K (C − C̃)], step by step; states that are gone are read by nothing."""
    total = 0.0
    for t, (K, C) in enumerate(zip(*whole, strict=True)):
        left = C.clone()
        for k in range(len(reading.taps)):
            window = samples.given[t] @ reading.mixing[k]
            left[k] -= functional.silu(window @ reading.taps[k] + reading.bias[k])
        total += float(left @ K @ left)
    return total / len(samples.whole)


def test_the_error_is_the_formulas_and_only_falls():
    whole, samples, start = problem()
    found = refit_reading(samples, start)
    assert found.errors[0] == pytest.approx(error(whole, samples, start), rel=1e-10)
    assert found.errors[-1] == pytest.approx(error(whole, samples, found), rel=1e-10)
    assert found.errors[2] < found.errors[1] < 0.99 * found.errors[0]


def test_nothing_moves_where_nothing_went():
    _, samples, start = problem(kept=5)
    assert refit_reading(samples, start).errors[-1] == pytest.approx(0.0, abs=1e-12)
    torch.testing.assert_close(refit_reading(samples, start).mixing, start.mixing)


def test_a_step_is_that_of_gauss_and_newton():
    """Of a group of which one state stays: slopes by automatic differentiation, then a solve."""
    (K, C), samples, start = problem(kept=1)
    found = refit_reading(samples, start, sweeps=1)

    def read(theta):
        row, taps, bias = theta[:5], theta[5:9], theta[9]
        return functional.silu(samples.given @ row @ taps + bias)

    theta = torch.cat([start.mixing[0], start.taps[0], start.bias])
    slopes = torch.autograd.functional.jacobian(read, theta)
    weight = samples.own[:, 0, 0]
    lacking = (K[:, 0] * C).sum(1) - weight * read(theta)
    fitted = ~samples.held
    normal = slopes[fitted].mT @ (weight[:, None] * slopes)[fitted]
    normal += torch.diag(1e-3 * normal.diagonal() + 1e-9 * normal.diagonal().max())
    step = torch.linalg.solve(normal, (slopes.mT * fitted) @ lacking)
    moved = torch.cat([found.mixing[0], found.taps[0], found.bias]) - theta
    part = float((moved @ step) / (step @ step))
    assert part == pytest.approx(min((1.0, 0.5, 0.25, 0.1), key=lambda p: abs(p - part)))
    torch.testing.assert_close(moved, part * step, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", ["mamba2", "mamba2 with biases", "falcon_h1"])
def test_a_cut_layer_reads_as_well_as_its_receipt_says(name):
    rows, dense = windows_of(6, 24), build(name)
    budget = sm.Budget("state", 0.5, compensate=("C",), settings={"stride": 1})
    plan = sm.plan(dense, budget, rows)
    small = copy.deepcopy(dense)
    sm.prune_(small, plan)
    place, keep = next(iter(plan.cuts[0].keep.items()))
    told = next(item for item in plan.facts["stages"] if item.get("terms") == "C")
    ids = rows.batch(range(len(rows))).inputs.ids
    with torch.no_grad(), in_double(dense) as wide, engine(wide):
        mixer = wide.get_submodule(place)
        given = observe(lambda: wide(input_ids=ids, use_cache=False), {place: mixer})[place][
            0
        ].given
        view = ssm_sites(wide)[place].view()
        samples = list(sample_states(view, view.parts(given), 1))
        cut = ssm_sites(small)[place].view()
        read = cut.parts(given).scan.C
    errors = []
    for new in (None, read):
        total = 0.0
        for t, sample in enumerate(samples):
            for group in range(view.g):
                left = sample.C[:, group].double().clone()
                left[:, keep[group]] = 0 if new is None else left[:, keep[group]] - new[:, t, group]
                states = sample.states[:, group].double()
                lost = (states @ left[:, :, None])[..., 0]
                total += float((lost.square() * sample.gain[:, group]).sum())
        errors.append(total / (len(samples) * len(ids)))
    assert told["error"]["before"] == pytest.approx(errors[0], rel=1e-5)
    assert told["error"]["after"] == pytest.approx(errors[1], rel=1e-5)
    assert errors[1] < errors[0]


@pytest.mark.parametrize(
    ("begins", "held"),
    [
        ([1, 0, 1, 0, 0, 1, 1, 0, 1, 0], [6, 7]),
        ([1, 0, 0, 0, 1, 0, 0, 0, 0], [4, 5, 6, 7, 8]),
        ([1, 0, 0, 0, 0, 0, 0, 0, 0], [7, 8]),
        ([1] * 8, [3, 7]),
        ([1, 0], []),
    ],
)
def test_whole_rows_are_held_out_or_steps_of_few(begins, held):
    found = held_out_of(torch.tensor(begins, dtype=torch.float64))
    assert found.nonzero().flatten().tolist() == held


@pytest.mark.parametrize("name", ["mamba2", "falcon_h1"])
def test_it_does_not_matter_which_rows_share_a_batch(name, monkeypatch):
    rows = windows_of(7, 24)
    for looked in (reading.LOOKED, 60):
        monkeypatch.setattr(reading, "LOOKED", looked)
        found = [
            sm.plan(build(name), sm.Budget("state", 0.5), rows, run=PassConfig(batch_size=size))
            for size in (1, 3, 7)
        ]
        told = [item for item in found[0].facts["stages"] if item.get("terms") == "C"]
        # Every step of a row, or those that are looked at of 168, one in three.
        assert {item["looked at"] for item in told} == {168 if looked > 60 else 7 * 6}
        for plan in found[1:]:
            for key, value in plan.values.items():
                torch.testing.assert_close(value, found[0].values[key], rtol=2e-3, atol=2e-5)


def without_bias(mixer):
    mixer.conv1d.bias = None


def with_relu(mixer):
    mixer.activation, mixer.act = "relu", torch.nn.ReLU()


@pytest.mark.parametrize(("change_", "words"), [(without_bias, "no bias"), (with_relu, "relu")])
def test_what_a_layer_bars_is_left_out_unless_it_is_asked_for(change_, words):
    dense, rows = build("mamba2"), windows_of(4, 20)
    assert sm.plan(dense, sm.Budget("state", 0.5), rows).cuts[0].method["terms"] == "CO"
    for module in dense.modules():
        if hasattr(module, "conv1d"):
            change_(module)
    plan = sm.plan(dense, sm.Budget("state", 0.5), rows)
    assert plan.cuts[0].method["terms"] == "O"
    assert "reading" not in plan.cuts[0].method["label"]
    with pytest.raises(UnsupportedError, match=words):
        sm.plan(dense, sm.Budget("state", 0.5, compensate=("C", "O")), rows)


GROUPED = [
    name for name in MODELS
    if any(isinstance(site.view(), GroupedLayer) for site in ssm_sites(build(name)).values())
]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", GROUPED)
def test_narrow_models_are_refitted_too(name, dtype):
    dense, rows = build(name, dtype), windows_of(4, 20)
    plan = sm.plan(dense, sm.Budget("state", 0.5), rows)
    told = [item for item in plan.facts["stages"] if "terms" in item]
    assert {item["terms"] for item in told} == {"C", "O"}
    assert all(item["error"]["after"] <= 1.001 * item["error"]["before"] for item in told)
    sm.prune_(dense, plan)
    assert {value.dtype for value in dense.state_dict().values()} >= {dtype}


def test_a_single_row_refits_nothing_unless_it_is_asked_for():
    dense, rows = build("mamba2"), windows_of(1, 40)
    plan = sm.plan(dense, sm.Budget("state", 0.5), rows)
    assert plan.cuts[0].method["terms"] == ""
    assert [finding.kind for finding in plan.findings] == ["few-samples"]
    plain = sm.plan(dense, sm.Budget("state", 0.5, compensate="none"), rows)
    for name, value in plan.values.items():
        assert torch.equal(value, plain.values[name])
    asked = sm.plan(dense, sm.Budget("state", 0.5, compensate=("C", "O")), rows)
    assert asked.cuts[0].method["terms"] == "CO"


def test_a_plan_tells_the_stages_of_each_of_its_cuts():
    budgets = [sm.Budget("state", 0.5), sm.Budget("head", 0.5)]
    dense, rows = build("mamba2"), windows_of(4, 20)
    both = sm.plan(dense, budgets, rows).facts["stages"]
    first = sm.plan(dense, budgets[0], rows).facts["stages"]
    assert both[: len(first)] == first
    assert {item["stage"] for item in both[len(first) :]} >= {"head"}


def test_projected_states_are_read_by_their_own_map():
    with pytest.raises(InputError, match="part of the projection"):
        sm.plan(
            build("mamba2"), sm.Budget("state", 0.5, method="balanced", compensate=("C",)),
            windows_of(4, 20),
        )  # fmt: skip
