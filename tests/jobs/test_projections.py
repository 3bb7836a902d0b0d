"""Projections, compensation and recovery on whole tiny models, against the same steps by hand."""

import copy

import pytest
import torch
from ssmith.calibrate.blockwise import WalkConfig
from ssmith.families.hf.blocks import ModelBlocks
from ssmith.jobs.selective import SelectiveConfig, prune_selective_
from ssmith.jobs.selective.allocation import shares_of
from ssmith.jobs.selective.projection_config import ProjectionConfig
from ssmith.jobs.selective.sizes import summed_numbers
from ssmith.jobs.selective.stages import Budgets, stages_of

from helpers.tiny_mamba import tiny
from helpers.tolerances import assert_close
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.pattern import Pattern
from ssmith.core.tokens import TokenWindows
from ssmith.criteria.weights import OBS
from ssmith.evaluation.perplexity import window_losses
from ssmith.families.hf import engine
from ssmith.families.mamba.units import PROJECTIONS
from ssmith.families.registry import find_selective

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


def pruned(base, config, part=None):
    cut = copy.deepcopy(base)
    done = prune_selective_(cut, windows() if part is None else part, config)
    return cut, done.receipt


def projections(**settings):
    settings = {"amount": 0.5, "allocation": "uniform"} | settings
    return SelectiveConfig(projections=ProjectionConfig(**settings))


def outputs(any_model, part):
    with torch.no_grad(), engine(any_model):
        return any_model(part.ids).logits


@pytest.mark.parametrize("name", ["mamba", "falcon_mamba"])
@pytest.mark.parametrize("method", ["obs", "sparsegpt", "wanda", "magnitude", "random"])
def test_half_of_all_projection_weights_go(name, method):
    cut, receipt = pruned(model(name), projections(method=method))
    for layer in find_selective(cut).values():
        for projection in PROJECTIONS:
            weight = getattr(layer.mixer, projection).weight
            assert int((weight == 0).sum()) == (weight.numel() + 1) // 2
    removed = receipt.removed["projections"]
    assert removed["before"] - removed["after"] == pytest.approx(removed["before"] / 2, abs=10)
    assert window_losses(cut, windows(seed=5)).isfinite().all()


def test_fresh_inputs_come_from_what_was_cut_before():
    """Every projection by hand, in order, each on inputs run through all cuts before it."""
    base, part = model(), windows()
    cut, _ = pruned(base, projections(targets=("in_proj", "x_proj", "out_proj")), part)
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
    cut, _ = pruned(model(), projections(amount=Pattern(keep=2, of=4), targets=targets))
    for layer in find_selective(cut).values():
        for name in targets:
            weight = getattr(layer.mixer, name).weight.flatten(1)
            assert bool(((weight != 0).unflatten(1, (-1, 4)).sum(-1) <= 2).all())


def test_obs_changes_the_outputs_less_than_magnitude():
    base, part = model(), windows(16)
    dense = outputs(base, part)

    def changed(**settings):
        cut, _ = pruned(base, projections(**settings), part)
        return float((outputs(cut, part) - dense).square().mean())

    assert changed(method="obs") < changed(method="wanda") < changed(method="random")


def test_the_convolution_is_spared_and_still_counts():
    base = model()
    cut, receipt = pruned(base, projections(allocation="spare-conv"))
    for layer, before in zip(
        find_selective(cut).values(), find_selective(base).values(), strict=True
    ):
        assert torch.equal(layer.mixer.conv1d.weight, before.mixer.conv1d.weight)
        weights = [getattr(layer.mixer, name).weight for name in PROJECTIONS]
        gone = sum(int((weight == 0).sum()) for weight in weights)
        assert gone == pytest.approx(sum(weight.numel() for weight in weights) / 2, abs=4)
    assert receipt.removed["projections"]["fraction"] == pytest.approx(0.5, abs=1e-3)
    with pytest.raises(InputError, match="left whole"):
        pruned(base, projections(allocation="spare-conv", amount=0.99))
    with pytest.raises(InputError, match="allocation uniform"):
        projections(allocation="spare-conv", targets=("conv1d",))


@pytest.mark.parametrize("allocation", ["local", "sensitivity", "sensitivity-trace", "measured"])
def test_allocations_spend_the_same_total(allocation):
    base = model(num_hidden_layers=4)
    _, receipt = pruned(base, projections(allocation=allocation, width=0.1))
    removed = receipt.removed["projections"]
    assert removed["fraction"] == pytest.approx(0.5, abs=2e-3)
    shares = {
        item["projections"][name]["amount"]
        for item in receipt.details["layers"]
        for name in item["projections"]
    }
    assert len(shares) > 1


def test_a_survey_leaves_the_model_as_it_was():
    base, part = model(), windows()
    config = ProjectionConfig(amount=0.5, allocation="measured")
    before = copy.deepcopy(base.state_dict())
    shares = shares_of(
        config, ModelBlocks(base), part, WalkConfig(),
        measure=lambda held: float(window_losses(base, held).sum()),
    )  # fmt: skip
    assert len(shares) == 2 * len(PROJECTIONS)
    for key, value in base.state_dict().items():
        assert torch.equal(value, before[key])


def test_the_released_order_measures_on_inputs_no_layer_sees(tmp_path):
    base, part = model(), windows()
    fresh, _ = pruned(base, projections(), part)
    released, _ = pruned(base, projections(method="sparsegpt", activations="released"), part)
    dense = outputs(base, part)
    lost = [float((outputs(cut, part) - dense).square().mean()) for cut in (fresh, released)]
    assert lost[0] < lost[1]
    with pytest.raises(UnsupportedError, match="released order"):
        prune_selective_(
            copy.deepcopy(base), part, projections(activations="released"),
            walk_config=WalkConfig(work_dir=tmp_path / "work"),
        )  # fmt: skip


@pytest.mark.parametrize("rows", ["C", "CB"])
def test_compensated_columns_change_the_outputs_less(rows):
    base, part = model(state_size=8), windows(16)
    dense = outputs(base, part)
    lost = {}
    for compensate in ("none", rows):
        config = SelectiveConfig(columns=0.5, method="refit-greedy", compensate=compensate)
        cut, receipt = pruned(base, config, part)
        assert all(layer.n == 4 for layer in find_selective(cut).values())
        lost[compensate] = float((outputs(cut, part) - dense).square().mean())
    assert lost[rows] < lost["none"]
    for item in receipt.details["layers"]:
        for refit in ("refit of C", "refit of B"):
            if refit in item:
                assert item[refit]["error_after"] <= item[refit]["error_before"]


def test_b_rows_give_more_than_c_rows_alone():
    base, part = model(state_size=8, num_hidden_layers=1), windows(16)
    dense, lost = outputs(base, part), []
    for rows in ("C", "CB"):
        cut, _ = pruned(base, SelectiveConfig(columns=0.5, compensate=rows), part)
        lost.append(float((outputs(cut, part) - dense).square().mean()))
    assert lost[1] < lost[0]


def test_falcons_norms_refuse_a_mix_of_rows():
    with pytest.raises(UnsupportedError, match="normalises B and C"):
        pruned(model("falcon_mamba"), SelectiveConfig(columns=0.5, compensate="C"))


@pytest.mark.parametrize("name", ["mamba", "falcon_mamba"])
@pytest.mark.parametrize("cuts", [{"a_log": 0.5}, {"columns": 0.5}])
def test_recovery_lowers_the_error_it_was_fitted_to(name, cuts):
    base, part = model(name, num_hidden_layers=1), windows(16)
    dense = outputs(base, part)
    lost = {}
    for terms in ("", "D", "Dh", "Dhy"):
        cut, receipt = pruned(base, SelectiveConfig(recover=terms, **cuts), part)
        lost[terms] = float((outputs(cut, part) - dense).square().mean())
        errors = [item["error"] for item in receipt.details["layers"] if "terms" in item]
        assert len(errors) == (1 if terms else 0)
        assert all(error["after"] <= error["before"] for error in errors)
    assert lost["D"] < lost[""]


@pytest.mark.parametrize(
    "config",
    [
        SelectiveConfig(a_log=0.5, method="gram-greedy", spread="layer"),
        SelectiveConfig(columns=0.5),
        SelectiveConfig(a_log=0.5, recover="Dh", spread="layer"),
        projections(),
        projections(refresh="block"),
        projections(refresh="block", activations="released", method="sparsegpt"),
    ],
)
def test_no_stage_sums_more_than_the_preflight_says(config):
    base, config = model(), config.resolved(refits=True)
    layer = next(iter(find_selective(base).values()))
    hidden = base.get_input_embeddings()(windows().ids).detach()
    largest = 0
    with torch.no_grad(), engine(base):
        for stage in stages_of(config, layer, Budgets(columns={layer.name: 2})):
            if stage.collect is not None:
                sums = stage.collect(layer, layer.parts(hidden))
                largest = max(largest, sum(item.numel() for item in sums.values()))
    said = summed_numbers(config, layer)
    # Weights, energies and counts come on top of the large ones.
    assert said / 2 <= largest <= said + 2 * layer.e * (layer.n + 2)


def test_padding_does_not_count():
    lengths = [24, 10, 24, 17, 24, 24, 5, 24]
    base, config = model(), projections()
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
        ProjectionConfig(amount=Pattern(keep=2, of=4), allocation="sensitivity")
    with pytest.raises(InputError, match="letters D, h, y"):
        SelectiveConfig(a_log=0.5, recover="Dx")
    with pytest.raises(InputError, match="no column"):
        SelectiveConfig(a_log=0.5, compensate="C")
    with pytest.raises(InputError, match="no state"):
        SelectiveConfig(projections=ProjectionConfig(amount=0.5), recover="D")
    with pytest.raises(InputError, match="'in_proj', 'conv1d'"):
        ProjectionConfig(amount=0.5, targets=("fc1",))
    with pytest.raises(InputError, match="at least 2"):
        pruned(model(), projections(allocation="measured"), windows(1))
    with pytest.raises(UnsupportedError, match="cut before"):
        cut, _ = pruned(model(), projections())
        prune_selective_(cut, windows(), projections())
