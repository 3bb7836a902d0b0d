"""Refitting layer after layer: each cut layer is fitted on what it really gets."""

import copy

import pytest
import torch

import ssmith as sm
from helpers.models import KINDS, Kind, make_model
from helpers.parts import make_part
from helpers.plans import compensated, plan_for, random_plan
from helpers.recorded import recorded_of
from helpers.tapped import tapped
from ssmith.allocate import allocate
from ssmith.calibrate import PassConfig, measure_moments, white_moments
from ssmith.calibrate.shards import Group
from ssmith.calibrate.sites import LTIView
from ssmith.core.compensation import RefitConfig
from ssmith.core.errors import ArtefactError, InputError
from ssmith.criteria import StateOBS
from ssmith.families import find_layers, modes_of
from ssmith.spine.refit import LayerRefits, refit_by_layer, refit_white
from ssmith.surgery import refit

LENGTHS = [30, 21, 30, 8]


def outputs(model, part):
    """Every layer's output at the valid steps."""
    with tapped(model) as tap, torch.no_grad():
        model(part.x.double(), part.lengths)
    return {
        name: torch.cat([row[:n] for row, n in zip(y, LENGTHS, strict=True)])
        for name, (_, y) in tap.items()
    }


def distance(first, second, part, name):
    """Mean squared distance of a layer's outputs, summed over channels."""
    y, other = outputs(first, part)[name], outputs(second, part)[name]
    return float(((y - other) ** 2).mean(0).sum())


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_error_told_is_the_distance_to_the_dense_layers_output(kind):
    model = make_model(kind)
    part = make_part(model, LENGTHS)
    plan = random_plan(model, seed=4, keep=0.6)
    _, found = refit_by_layer(model, plan.cuts[0], part)
    cut = copy.deepcopy(model)
    sm.prune_(cut, compensated(model, plan, found))
    for name, readout in found.readouts.items():
        assert readout.error[1] == pytest.approx(distance(model, cut, part, name), rel=1e-6)


def test_it_changes_neither_model_nor_plan():
    model = make_model(Kind("s5"))
    plan = random_plan(model, seed=4)
    before = copy.deepcopy(model.state_dict())
    keep, found = refit_by_layer(model, plan.cuts[0], make_part(model, LENGTHS))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    for name, mask in plan.cuts[0].keep.items():
        assert torch.equal(keep[name], mask)
    assert found.settings["fitted"] == "layer by layer"
    assert found.settings["steps"] == sum(LENGTHS)


def test_the_first_layer_is_fitted_as_if_alone_and_later_ones_better_in_place():
    model = make_model(Kind("s5"), seed=3, layers=3, states=(10,) * 3)
    part = make_part(model, LENGTHS)
    plan = random_plan(model, seed=4, keep=0.3)
    once = refit(model, plan.cuts[0], measure_moments(model, part))
    _, by_layer = refit_by_layer(model, plan.cuts[0], part)
    first, *rest = find_layers(model)
    torch.testing.assert_close(once.readouts[first].C, by_layer.readouts[first].C)
    models = []
    for found in (once, by_layer):
        cut = copy.deepcopy(model)
        sm.prune_(cut, compensated(model, plan, found))
        models.append(cut)
    # The second layer gets the same input in both models, so least squares cannot lose.
    assert distance(model, models[1], part, rest[0]) < distance(model, models[0], part, rest[0])


@pytest.mark.parametrize("kind", [Kind("s5", bidirectional=True), Kind("s4d_ragged")], ids=str)
def test_choosing_anew_keeps_the_numbers_and_fits_better(kind):
    model = make_model(kind, seed=2)
    part = make_part(model, LENGTHS)
    (cut,) = random_plan(model, seed=4).cuts
    first = next(iter(cut.keep))
    _, there = refit_by_layer(model, cut, part)
    anew, found = refit_by_layer(model, cut, part, criterion=StateOBS())
    for name, keep in cut.keep.items():
        assert anew[name].shape == keep.shape
        assert int(anew[name].sum()) == int(keep.sum())
    assert found.readouts[first].error[1] <= there.readouts[first].error[1] * (1 + 1e-9)


def test_an_emptied_layer_stays_empty():
    model = make_model(Kind("s5"))
    (cut,) = random_plan(model, keep=0.0).cuts
    keep, _ = refit_by_layer(model, cut, make_part(model, LENGTHS), criterion=StateOBS())
    assert not any(bool(mask.any()) for mask in keep.values())


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_plan_by_layer_is_what_the_refit_gives(kind):
    model = make_model(kind)
    part = make_part(model, LENGTHS)
    budget = sm.Budget("state", 0.5, method="last", compensate="readout")
    plan = sm.plan(model, budget, part)
    plain = sm.plan(model, sm.Budget("state", 0.5, method="last"))
    _, found = refit_by_layer(model, plain.cuts[0], part)
    assert plan.diff(compensated(model, plain, found)) == ()
    assert plan.facts["refit"]["fitted"] == "layer by layer"


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_plan_at_once_is_what_the_refit_gives(kind):
    model = make_model(kind)
    part = make_part(model, LENGTHS)
    plan = sm.plan(model, sm.Budget("state", 0.5, method="last", compensate="once"), part)
    plain = sm.plan(model, sm.Budget("state", 0.5, method="last"))
    found = refit(model, plain.cuts[0], measure_moments(model, part))
    assert plan.diff(compensated(model, plain, found)) == ()


@pytest.mark.parametrize("method", ["state-obs", "last", "balanced"])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_white_noise_needs_no_data(kind, method):
    model = make_model(kind, options={"step_rescale": 3.0})
    plan = sm.plan(model, sm.Budget("state", 0.5, method=method, compensate="white"))
    moments = {modes.layer: white_moments(modes) for modes in modes_of(model)}
    if method == "last":
        plain = sm.plan(model, sm.Budget("state", 0.5, method="last"))
    else:
        budget = sm.Budget("state", 0.5)
        (wanted, _) = allocate(StateOBS()(modes_of(model), moments), budget)
        plain = plan_for(model, wanted.keep)
    poles = "balanced" if method == "balanced" else "kept"
    config = RefitConfig(direct=True, rounds=2, poles=poles)
    found = refit_white(model, plain.cuts[0], config)
    assert plan.diff(compensated(model, plain, found)) == ()
    assert plan.facts["refit"]["source"] == "white"
    for error in plan.facts["errors"].values():
        assert error["after"] <= error["before"] * (1 + 1e-9) + 1e-12


def test_white_noise_tells_no_sensitivity():
    model = make_model(Kind("s5"))
    with pytest.raises(InputError, match="under white noise there is no data"):
        sm.plan(
            model,
            sm.Budget("state", 0.5, method="state-obs", compensate="white",
                      settings={"weigh": "sensitivity"}),
        )  # fmt: skip


def test_a_method_that_reads_data_says_so():
    model = make_model(Kind("s5"))
    with pytest.raises(InputError, match="state-obs is fitted to data, and there is none"):
        sm.plan(model, sm.Budget("state", 0.5, method="state-obs"))


@pytest.mark.parametrize("rounds", [0, 2])
@pytest.mark.parametrize("kind", [Kind("s5", bidirectional=True), Kind("s4d_ragged")], ids=str)
def test_one_pass_gives_what_a_run_of_both_models_for_every_layer_does(kind, rounds):
    """The oracle: the cut and the dense model run whole, anew for each layer."""
    model, config = make_model(kind, layers=3), RefitConfig(direct=rounds > 0, rounds=rounds)
    part = make_part(model, [30, 21, 30, 8, 17])
    (cut,) = random_plan(model, seed=4, keep=0.6).cuts
    keep, found = refit_by_layer(model, cut, part, config, run=PassConfig(batch_size=2))
    twin, oracle = copy.deepcopy(model), copy.deepcopy(model)
    refits = LayerRefits(keep=cut.keep, config=config)
    # In the batches of the pass: other sums round otherwise, and alternating refits amplify that.
    ranges = [some for _, items in Group().shards(len(part)) for some in part.ranges(2, items)]
    for name, layer in find_layers(oracle).items():
        recordings = recorded_of(oracle, part, name, reference=model, ranges=ranges)
        record = refits._refit_(LTIView(name, layer), recordings)
        other = find_layers(twin)[name]
        other.write_(found.readouts[name])
        other.mask_(keep[name])
        mine, theirs = found.readouts[name].error, record.facts["error"]
        assert mine == pytest.approx(theirs, rel=1e-12, abs=1e-16)
    given = [item(part.x.double(), part.lengths).detach() for item in (twin, oracle)]
    torch.testing.assert_close(*given, atol=1e-12, rtol=1e-12)


class StoppedError(Exception):
    """A kill."""


def stop_after(layers):
    """A listener that ends the run when that many layers are refitted."""

    def progress(what, done, total, name):
        del total, name
        if what == "refitting layers" and done >= layers:
            raise StoppedError

    return progress


@pytest.mark.parametrize(
    ("kind", "method"),
    [(kind, "state-obs") for kind in KINDS if kind.conj_sym and kind.discretisation == "zoh"]
    + [(Kind("s5"), "balanced")],
    ids=str,
)
def test_a_refit_that_was_killed_goes_on_from_its_directory(kind, method, tmp_path):
    model = make_model(kind)
    part, budget = make_part(model, [14, 9]), sm.Budget("state", 0.5, method=method)
    whole, run = sm.plan(model, budget, part), PassConfig(work_dir=tmp_path / "work")
    with pytest.raises(StoppedError):
        sm.plan(model, budget, part, run=run, progress=stop_after(1))
    finished = sorted((tmp_path / "work").glob("site-*"))
    before = {path: path.stat().st_mtime_ns for path in finished}
    assert len(before) == 1
    assert whole.diff(sm.plan(model, budget, part, run=run)) == ()
    assert {path: path.stat().st_mtime_ns for path in finished} == before
    assert whole.diff(sm.plan(model, budget, part, run=run)) == ()
    other = sm.Budget("state", 0.25, method=method)
    with pytest.raises(ArtefactError, match=r"cuts\.state\.budget\.sparsity was 0.5"):
        sm.plan(model, other, part, run=run)


def test_a_directory_for_what_is_done_at_once_is_refused(tmp_path):
    model = make_model(Kind("s5"))
    run = PassConfig(work_dir=tmp_path / "work")
    with pytest.raises(InputError, match="nothing is measured layer by layer"):
        sm.plan(model, sm.Budget("state", 0.5, method="last"), run=run)
