"""What a budget of states of S5 and S4D asks for, and what comes of it."""

import pytest
import torch

import ssmith as sm
from helpers.models import Kind, make_model
from helpers.parts import make_part
from ssmith.calibrate import PassConfig
from ssmith.core.errors import InputError
from ssmith.criteria import LAST, Hinf, Magnitude, Random, StateOBS
from ssmith.evaluation import predict
from ssmith.spine.lti import REDUCTIONS, StatePlanner, method_of
from ssmith.spine.measured import loss_curves

LENGTHS = [12, 9, 12, 12, 7, 12, 12, 11]


def states(sparsity=0.5, **settings):
    return sm.Budget("state", sparsity, **settings)


def asked(has_data=True, **settings):
    return method_of(states(**settings), has_data=has_data)


@pytest.fixture
def model():
    return make_model(Kind("s5"), states=(10, 10), seed=3)


@pytest.fixture
def part(model):
    return make_part(model, LENGTHS)


def test_a_budget_says_criterion_and_refit():
    plain, refitted = asked(method="LAST"), asked(method="last", compensate="readout")
    assert (plain.criterion, plain.refit, plain.label) == (LAST(), "none", "LAST")
    assert (refitted.criterion, refitted.refit) == (LAST(), "readout")
    assert refitted.label == "LAST + refit"
    once = asked(method="aire", compensate="once")
    assert (once.refit, once.label) == ("once", "AIRE + refit at once")
    ours = asked(method="state_obs")
    assert (ours.criterion, ours.refit) == (StateOBS(weigh="sensitivity"), "full")
    assert ours.label == "State-OBS"
    assert (ours.config.direct, ours.config.rounds) == (True, 2)
    assert asked(method="state-obs", compensate="readout").label == "State-OBS + refit"
    assert asked(method="aire", compensate="full").label == "AIRE + full refit"
    assert asked(method="state-obs", scope="measured").label == "State-OBS, measured loss"
    assert asked(method="random", seed=4).criterion == Random(seed=4)
    with pytest.raises(InputError, match="did you mean 'last'"):
        asked(method="lasst")


def test_what_is_left_to_choose_depends_on_the_data():
    assert asked().name == "state-obs"
    assert (asked(has_data=False).name, asked(has_data=False).needs_data) == ("last", False)


def test_white_noise_takes_the_place_of_data():
    white = asked(has_data=False, method="state-obs", compensate="white")
    assert (white.criterion, white.refit, white.needs_data) == (StateOBS(), "white", False)
    assert white.label == "State-OBS (energy) + refit under white noise"
    assert asked(method="balanced", compensate="white").label == (
        "Balanced truncation under white noise"
    )


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions_refit_in_full(name):
    method = asked(method=name)
    assert (method.refit, method.poles, method.config.poles) == (
        "full", REDUCTIONS[name][0], REDUCTIONS[name][0],
    )  # fmt: skip
    assert method.label == REDUCTIONS[name][1]
    with pytest.raises(InputError, match="compensate is 'none' for states"):
        asked(method=name, compensate="none")


def test_settings_and_scopes_belong_to_methods():
    assert asked(method="magnitude-uniform", scope="global").criterion == Magnitude(pool="model")
    assert asked(method="hinf-global", scope="uniform").criterion == Hinf(pool="layer")
    assert asked(method="last", settings={"norm": "exact"}).criterion == LAST(norm="exact")
    with pytest.raises(InputError, match="last has no setting colour"):
        asked(method="last", settings={"colour": "red"})
    with pytest.raises(InputError, match="says itself what is compared"):
        asked(method="last", scope="uniform")
    with pytest.raises(InputError, match="scope is 'sensitivity' for states"):
        asked(method="last", scope="sensitivity")
    with pytest.raises(InputError, match=r"compensate is \('D',\) for states"):
        asked(method="last", compensate="D")


@pytest.mark.parametrize(
    "settings", [{"method": "state-obs"}, {"method": "aire", "compensate": "readout"}], ids=str
)
def test_without_sequences_there_is_no_refit(model, settings):
    with pytest.raises(InputError, match="is fitted to data, and there is none"):
        sm.plan(model, states(**settings))


def test_a_refit_brings_the_layers_closer(model, part):
    plain = sm.plan(model, states(method="last"), part)
    refitted = sm.plan(model, states(method="last", compensate="readout"), part)
    assert plain.values == {}
    for name, keep in plain.cut("state").keep.items():
        assert torch.equal(refitted.cut("state").keep[name], keep)
    for error in refitted.facts["errors"].values():
        assert error["after"] < error["before"]


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "state-obs", "scope": "measured"},
        {"method": "balanced"},
        {"method": "singular-perturbation"},
        {"method": "h2-optimal"},
        {"method": "state-obs", "compensate": "none"},
        {"method": "state-obs", "compensate": "once"},
    ],
    ids=str,
)
def test_other_methods_cut_as_asked(model, part, settings):
    plan = sm.plan(model, states(**settings), part)
    assert plan.cut("state").kept == 10
    assert method_of(states(**settings), has_data=True).needs_data
    if settings.get("scope") == "measured":
        assert plan.cut("state").method["weigh"] == "measured loss"


def test_counts_and_targets(model, part):
    plan = sm.plan(model, states(7, method="last"))
    assert plan.cut("state").total - plan.cut("state").kept == 7
    plan = sm.plan(model, states(3, targets=("blocks.1.*",)), part)
    assert {name: int(mask.sum()) for name, mask in plan.cut("state").keep.items()} == {
        "blocks.1.ssm": 7
    }
    assert all(name.startswith("blocks.1.ssm.") for name in plan.values)


def test_curves_start_at_no_loss(model, part):
    planner = StatePlanner(model, asked(method="state-obs"), part)
    scores, moments = planner.scores, planner.moments
    curves = loss_curves(model, scores, moments, part)
    for name, keep in scores.values.items():
        counts = [count for count, _ in curves[name]]
        assert counts == sorted(set(counts))
        assert (counts[0], counts[-1]) == (0, keep.numel())
        assert curves[name][-1][1] == pytest.approx(0, abs=1e-6)
        assert curves[name][0][1] > 1e-6
    with pytest.raises(InputError, match=r"shares are \[2\]"):
        loss_curves(model, scores, moments, part, shares=[2])


def parameters(model):
    return sum(item.numel() for item in model.parameters())


@pytest.mark.parametrize("method", ["last", "state-obs"])
@pytest.mark.parametrize("amount", [0.5, 0.8, "absolute"])
def test_a_target_of_parameters_is_reached_and_hardly_more(model, part, method, amount):
    dense = parameters(model)
    wanted = 0.7 * dense if amount == "absolute" else amount * dense
    target = sm.Target(quantity="parameters", amount=wanted if amount == "absolute" else amount)
    cut = sm.plan(model, states(target, method=method), part).cut("state")
    one = 3 + 2 * 3 + 2 * 3
    left = dense - (cut.total - cut.kept) * one
    assert left <= wanted < left + one


def test_a_target_of_state_bytes_counts_complex_numbers(model):
    target = sm.Target(quantity="state_bytes", amount=9 * 16)
    assert sm.plan(model, states(target)).cut("state").kept == 9


@pytest.mark.parametrize("what", ["step_time", "prompt_time"])
@pytest.mark.parametrize("amount", [0.8, 8.0])
def test_a_target_of_time_is_held_to_what_was_timed(model, monkeypatch, what, amount):
    asked = set()

    def timed(cut, quantity):
        asked.add(quantity)
        return 10 * parameters(cut) / parameters(model)

    monkeypatch.setattr("ssmith.spine.reach.milliseconds_of", timed)
    cut = sm.plan(model, states(sm.Target(quantity=what, amount=amount))).cut("state")
    one = 3 + 2 * 3 + 2 * 3
    left = parameters(model) - (cut.total - cut.kept) * one
    assert left <= 0.8 * parameters(model) < left + one
    assert asked == {what}


def test_a_target_out_of_reach_says_what_could_be(model):
    with pytest.raises(InputError, match="parameters 10 cannot be reached by cutting state"):
        sm.plan(model, states(sm.Target(quantity="parameters", amount=10)))


def test_a_target_that_is_met_already_removes_nothing(model):
    target = sm.Target(quantity="parameters", amount=float(parameters(model)))
    cut = sm.plan(model, states(target)).cut("state")
    assert cut.kept == cut.total


def test_planning_leaves_model_and_mode_alone(model, part):
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    sm.plan(model, states(method="state-obs", scope="measured"), part)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert bool(torch.isfinite(predict(model.float(), part)).all())


def test_rows_pass_as_many_at_a_time_as_is_said_and_decide_the_same(model, part):
    seen = []
    for layer in model.modules():
        layer.register_forward_pre_hook(
            lambda _, given: seen.append(len(given[0])) if given else None
        )
    usual = sm.plan(model, states(method="state-obs"), part)
    assert max(seen) == len(LENGTHS)
    seen.clear()
    found = sm.plan(model, states(method="state-obs"), part, run=PassConfig(batch_size=3))
    assert max(seen) == 3
    for first, second in zip(usual.cuts, found.cuts, strict=True):
        assert all(torch.equal(first.keep[name], second.keep[name]) for name in first.keep)
