"""Weights, compensation and recovery on whole tiny models, against the same steps by hand."""

import copy

import pytest
import torch

import ssmith as sm
from helpers.plans import pruned as cut_by
from helpers.tiny_mamba import tiny
from helpers.tolerances import assert_close
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.tokens import TokenWindows
from ssmith.criteria.weights import OBS
from ssmith.evaluation.perplexity import window_losses
from ssmith.families.hf import engine
from ssmith.families.mamba.units import PROJECTIONS
from ssmith.families.registry import find_selective
from ssmith.spine.choice import choose
from ssmith.spine.sizes import summed_numbers
from ssmith.spine.states import Counts, stages_of

LENGTH = 24


def windows(count=8, seed=0, lengths=None):
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 61, (count, LENGTH), generator=draw)
    return TokenWindows(
        ids=ids,
        lengths=torch.full((count,), LENGTH) if lengths is None else torch.tensor(lengths),
        scored_from=torch.ones(count, dtype=torch.long),
        text_bytes=None,
        vocabulary=61,
        name="random tokens",
    )


def model(name="mamba", **settings):
    return tiny(name, dtype=torch.float64, **({"state_size": 4, "hidden_size": 16} | settings))


def pruned(base, budgets, part=None):
    cut, _, receipt = cut_by(base, budgets, windows() if part is None else part)
    return cut, receipt


def weights(sparsity=0.5, **settings):
    return sm.Budget("weight", sparsity, **({"scope": "uniform"} | settings))


def outputs(any_model, part):
    with torch.no_grad(), engine(any_model):
        return any_model(part.ids).logits


@pytest.mark.parametrize("name", ["mamba", "falcon_mamba"])
@pytest.mark.parametrize("method", ["obs", "sparsegpt", "wanda", "magnitude", "random"])
def test_half_of_all_projection_weights_go(name, method):
    cut, receipt = pruned(model(name), weights(method=method))
    for layer in find_selective(cut).values():
        for projection in PROJECTIONS:
            weight = getattr(layer.mixer, projection).weight
            assert int((weight == 0).sum()) == (weight.numel() + 1) // 2
    removed = receipt.removed["weight"]
    assert removed.before - removed.after == pytest.approx(removed.before / 2, abs=10)
    assert window_losses(cut, windows(seed=5)).isfinite().all()


def test_fresh_inputs_come_from_what_was_cut_before():
    """Every projection by hand, in order, each on inputs run through all cuts before it."""
    base, part = model(), windows()
    cut, _ = pruned(base, weights(targets=("in_proj", "x_proj", "out_proj")), part)
    byhand = copy.deepcopy(base)
    for layer in find_selective(byhand).values():
        for name in ("in_proj", "x_proj", "out_proj"):
            module, seen = getattr(layer.mixer, name), []
            hook = module.register_forward_hook(lambda _, given, __, seen=seen: seen.append(given))
            outputs(byhand, part)
            hook.remove()
            x = seen[0][0].flatten(0, 1)
            with torch.no_grad():
                module.weight.copy_(OBS()(module.weight.detach(), x.T @ x, 0.5).weight)
    for (key, ours), (_, wanted) in zip(
        cut.named_parameters(), byhand.named_parameters(), strict=True
    ):
        assert_close("twin", ours.detach(), wanted.detach(), message=key)


def test_patterns_hold_in_every_projection():
    targets = ("in_proj", "conv1d", "out_proj")
    cut, _ = pruned(model(), weights("2:4", targets=targets))
    for layer in find_selective(cut).values():
        for name in targets:
            weight = getattr(layer.mixer, name).weight.flatten(1)
            assert bool(((weight != 0).unflatten(1, (-1, 4)).sum(-1) <= 2).all())


def test_obs_changes_the_outputs_less_than_magnitude():
    base, part = model(), windows(16)
    dense = outputs(base, part)

    def changed(**settings):
        cut, _ = pruned(base, weights(**settings), part)
        return float((outputs(cut, part) - dense).square().mean())

    assert changed(method="obs") < changed(method="wanda") < changed(method="random")


def test_the_convolution_is_spared_and_still_counts():
    base = model()
    cut, receipt = pruned(base, weights(scope="auto"))
    for layer, before in zip(
        find_selective(cut).values(), find_selective(base).values(), strict=True
    ):
        assert torch.equal(layer.mixer.conv1d.weight, before.mixer.conv1d.weight)
        found = [getattr(layer.mixer, name).weight for name in PROJECTIONS]
        gone = sum(int((weight == 0).sum()) for weight in found)
        assert gone == pytest.approx(sum(weight.numel() for weight in found) / 2, abs=4)
    assert receipt.removed["weight"].fraction == pytest.approx(0.5, abs=1e-3)
    alone, _ = pruned(base, weights(scope="auto", targets=("conv1d",)))
    for layer in find_selective(alone).values():
        assert int((layer.mixer.conv1d.weight == 0).sum()) == layer.mixer.conv1d.weight.numel() // 2
    with pytest.raises(InputError, match="left whole"):
        pruned(base, weights(0.99, scope="auto"))


@pytest.mark.parametrize("scope", ["cost", "sensitivity", "sensitivity-trace", "measured"])
def test_scopes_spend_the_same_total(scope):
    base = model(num_hidden_layers=4)
    _, receipt = pruned(base, weights(scope=scope, settings={"width": 0.1}))
    removed = receipt.removed["weight"]
    assert removed.fraction == pytest.approx(0.5, abs=2e-3)
    shares = {
        facts["amount"]
        for item in receipt.as_dict()["details"]["stages"]
        for facts in item["weights"].values()
    }
    assert len(shares) > 1


def test_a_survey_leaves_the_model_as_it_was():
    base = model()
    before = copy.deepcopy(base.state_dict())
    _, receipt = pruned(base, weights(scope="measured"))
    surveyed = [name for item in receipt.as_dict()["details"]["stages"] for name in item["weights"]]
    assert len(surveyed) == 2 * len(PROJECTIONS)
    for key, value in base.state_dict().items():
        assert torch.equal(value, before[key])


@pytest.mark.parametrize("method", ["obs", "wanda", "magnitude"])
def test_a_count_is_what_each_target_loses(method):
    cut, _ = pruned(model(), weights(17, scope="auto", method=method))
    for layer in find_selective(cut).values():
        for name in PROJECTIONS:
            assert int((getattr(layer.mixer, name).weight == 0).sum()) == 17
    with pytest.raises(InputError, match=r"200 of 128 weights of .*conv1d are to go"):
        pruned(model(), weights(200))
    with pytest.raises(InputError, match="give a share"):
        pruned(model(), weights(17, scope="cost"))


def test_weights_are_counted_in_the_sizes_that_states_leave():
    base, budgets = model(state_size=8), [sm.Budget("state", 0.5), weights(scope="auto")]
    cut, receipt = pruned(base, budgets)
    total = gone = 0
    for layer in find_selective(cut).values():
        found = [getattr(layer.mixer, name).weight for name in PROJECTIONS]
        assert bool((layer.mixer.conv1d.weight != 0).all())
        sizes = sum(weight.numel() for weight in found)
        zeros = sum(int((weight == 0).sum()) for weight in found)
        # Each of four projections rounds by half a weight at most.
        assert abs(zeros - sizes / 2) <= 2
        total, gone = total + sizes, gone + zeros
    removed = receipt.removed["weight"]
    assert removed.before - removed.after == gone
    assert removed.before == total


@pytest.mark.parametrize("rows", ["C", "CB"])
def test_compensated_columns_change_the_outputs_less(rows):
    base, part = model(state_size=8), windows(16)
    dense = outputs(base, part)
    lost = {}
    for compensate in ("none", rows):
        budget = sm.Budget("state", 0.5, method="refit-greedy", compensate=compensate)
        cut, receipt = pruned(base, budget, part)
        assert all(layer.n == 4 for layer in find_selective(cut).values())
        lost[compensate] = float((outputs(cut, part) - dense).square().mean())
    assert lost[rows] < lost["none"]
    for item in receipt.as_dict()["details"]["stages"]:
        for refit in ("refit of C", "refit of B"):
            if refit in item:
                assert item[refit]["error_after"] <= item[refit]["error_before"]


def test_b_rows_give_more_than_c_rows_alone():
    base, part = model(state_size=8, num_hidden_layers=1), windows(16)
    dense, lost = outputs(base, part), []
    for rows in ("C", "CB"):
        cut, _ = pruned(base, sm.Budget("state", 0.5, compensate=rows), part)
        lost.append(float((outputs(cut, part) - dense).square().mean()))
    assert lost[1] < lost[0]


def test_falcons_norms_refuse_a_mix_of_rows():
    with pytest.raises(UnsupportedError, match="normalises B and C"):
        pruned(model("falcon_mamba"), sm.Budget("state", 0.5, compensate="C"))


@pytest.mark.parametrize("name", ["mamba", "falcon_mamba"])
@pytest.mark.parametrize("unit", ["entry", "state"])
def test_recovery_lowers_the_error_it_was_fitted_to(name, unit):
    base, part = model(name, num_hidden_layers=1), windows(16)
    dense = outputs(base, part)
    lost = {}
    for terms in ("none", "D", "Dh", "Dhy"):
        budget = sm.Budget(unit, 0.5, compensate=terms)
        cut, receipt = pruned(base, budget, part)
        lost[terms] = float((outputs(cut, part) - dense).square().mean())
        errors = [
            item["error"] for item in receipt.as_dict()["details"]["stages"] if "terms" in item
        ]
        assert len(errors) == (terms != "none")
        assert all(error["after"] <= error["before"] for error in errors)
    assert lost["D"] < lost["none"]


@pytest.mark.parametrize(
    "budget",
    [
        sm.Budget("entry", 0.5, method="gram-greedy", scope="uniform"),
        sm.Budget("state", 0.5),
        sm.Budget("entry", 0.5, compensate="Dh", scope="uniform"),
        weights(),
        weights(settings={"refresh": "block"}),
        weights(method="sparsegpt"),
    ],
    ids=str,
)
def test_no_stage_sums_more_than_the_preflight_says(budget):
    base, choice = model(), choose([budget], refits=True)
    layer = next(iter(find_selective(base).values()))
    hidden = base.get_input_embeddings()(windows().ids).detach()
    largest = 0
    with torch.no_grad(), engine(base):
        for stage in stages_of(
            choice, layer, Counts(states={layer.name: 2}, entries={layer.name: 9})
        ):
            if stage.collect is not None:
                sums = stage.collect(layer, layer.parts(hidden))
                largest = max(largest, sum(item.numel() for item in sums.values()))
    said = summed_numbers(choice, layer)
    # Weights, energies and counts come on top of the large ones.
    assert said / 2 <= largest <= said + 2 * layer.e * (layer.n + 2)


def test_padding_does_not_count():
    lengths = [24, 10, 24, 17, 24, 24, 5, 24]
    base, config = model(), weights()
    first = windows(lengths=lengths)
    noise = first.ids.clone()
    for row, length in enumerate(lengths):
        noise[row, length:] = 7
    second = TokenWindows(**(vars(first) | {"ids": noise}))
    one, other = (pruned(base, config, part)[0] for part in (first, second))
    for (key, a), (_, b) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        assert_close("twin", a.detach(), b.detach(), message=key)


def test_what_does_not_go_together_is_said():
    with pytest.raises(InputError, match="uniform"):
        choose([weights("2:4", scope="sensitivity")], refits=True)
    with pytest.raises(InputError, match=r"compensate is .* for weights"):
        choose([weights(compensate="D")], refits=True)
    with pytest.raises(InputError, match="refresh"):
        choose([weights(settings={"refresh": "never"})], refits=True)
    with pytest.raises(UnsupportedError, match="no weight that can be cut in fc1"):
        pruned(model(), weights(targets=("fc1",)))
    with pytest.raises(InputError, match="at least 2"):
        pruned(model(), weights(scope="measured"), windows(1))
    cut, _ = pruned(model(), weights())
    with pytest.raises(UnsupportedError, match="cut before"):
        pruned(cut, weights())
