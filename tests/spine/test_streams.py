"""Output maps refitted to the dense model's stream: by formula, whole, resumed, and refused."""

import copy

import pytest
import torch

import ssmith as sm
from helpers.every_unit import build
from helpers.selective import windows_of
from ssmith.calibrate import PassConfig
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.families.hf.engine import engine

pytest.importorskip("transformers")
RIDGE = 1e-3
CASES = {
    ("mamba2", "state"): "mixer.out_proj",
    ("bamba", "neuron"): "feed_forward.down_proj",
    ("granitemoehybrid", "neuron"): "shared_mlp.output_linear",
}


@pytest.fixture(scope="module")
def rows():
    return windows_of(3, 20)


def budget_of(unit, *terms):
    return sm.Budget(unit, 0.5, compensate=terms)


def dense_of(name):
    """A model, one of those that multiply what a block adds by something else than one."""
    model = build(name)
    for block in model.model.layers if name == "granitemoehybrid" else ():
        block.residual_multiplier = 0.37
    return model


def cut_by(dense, plan):
    cut = copy.deepcopy(dense)
    sm.prune_(cut, plan)
    return cut


@torch.no_grad()
def seen(model, rows, path, block):
    """Return what a map is given, and the stream behind its block, step by step."""
    found = {}

    def note(name, value):
        found[name] = (value[0] if isinstance(value, tuple) else value).flatten(0, 1)

    hooks = [
        model.get_submodule(path).register_forward_hook(lambda _, x, __: note("given", x)),
        model.get_submodule(block).register_forward_hook(lambda _, __, y: note("behind", y)),
    ]
    with engine(model):
        model(input_ids=rows.batch(range(len(rows))).inputs.ids, use_cache=False)
    for hook in hooks:
        hook.remove()
    return found["given"], found["behind"]


@pytest.mark.parametrize(("name", "unit"), CASES)
def test_what_a_map_gives_is_ridge_regression_on_what_the_stream_lacks(name, unit):
    """With W₀ before and ``W = W₀ + s ΔW`` after, ``(t − ΔW f) fᵀ = λ ΔW``: the ridge's is left."""
    rows, dense, inner = windows_of(24, 20), dense_of(name), CASES[name, unit]
    scale = 0.37 if name == "granitemoehybrid" else 1.0
    plan = sm.plan(dense, budget_of(unit, "S"), rows)
    start = sm.plan(dense, budget_of(unit, "O"), rows).values
    cut = cut_by(dense, plan)
    paths = [key.removesuffix(".weight") for key in plan.values if key.endswith(f"{inner}.weight")]
    shares = [
        item["share of the fit"] for item in plan.facts["stages"] if item["stage"] == "recovery"
    ]
    assert max(shares) > 0.1
    assert len(paths) == len(plan.cuts[0].keep) > 1
    # What neurons leave is made up for before: of the first map it is what the plain refit makes.
    chosen = slice(1 if unit == "neuron" else None)
    for path, share in zip(paths[chosen], shares[chosen], strict=True):
        block = path.removesuffix(f".{inner}")
        given, behind = seen(cut, rows, path, block)
        left = (seen(dense, rows, path, block)[1] - behind) / scale
        new, old = cut.get_submodule(path).weight, dense.get_submodule(path).weight
        if unit == "neuron":
            old = start[f"{path}.weight"]
        ridge = RIDGE * given.square().sum(0).mean()
        if not share:
            # The plain refit made up for all that the first of these maps can.
            assert unit == "neuron"
            assert torch.equal(new, old)
            continue
        change = (new - old) / share
        # What W leaves is what ΔW leaves, and the part of it that was not made.
        wanted = ridge * change + (1 - share) * change @ given.mT @ given
        torch.testing.assert_close(left.mT @ given, wanted, rtol=1e-6, atol=1e-9)


def test_the_stream_is_nearer_than_by_the_plain_refit(rows):
    """Of what comes out of the last block, where cuts before are made up for as well."""
    dense = dense_of("mamba2")
    path, block = "backbone.layers.1.mixer.out_proj", "backbone.layers.1"
    wanted, errors = seen(dense, rows, path, block)[1], []
    for terms in ("O", "S"):
        cut = cut_by(dense, sm.plan(dense, budget_of("state", terms), rows))
        errors.append(float((seen(cut, rows, path, block)[1] - wanted).square().mean()))
    assert errors[1] < errors[0]


@pytest.mark.parametrize(
    ("name", "unit"), [("mamba2", "state"), ("mamba2", "head"), ("bamba", "neuron")]
)
def test_a_kept_pass_goes_on_to_the_same_plan(tmp_path, rows, name, unit):
    model, budget = build(name), budget_of(unit, "S")
    whole = sm.plan(model, budget, rows)
    config = PassConfig(work_dir=tmp_path / "work")
    assert sm.plan(model, budget, rows, run=config).diff(whole) == ()
    assert sm.plan(model, budget, rows, run=config).diff(whole) == ()


def test_steps_that_do_not_count_change_nothing(rows):
    model, budget = build("mamba2"), budget_of("state", "S")
    ids = [torch.randint(1, 60, (2, 12), generator=torch.manual_seed(s)) for s in range(2)]
    padded = [
        {"ids": torch.cat([row, torch.full((2, 5), 7)], 1), "valid": torch.arange(17) < 12}
        for row in ids
    ]

    def forward(net, batch):
        return net(input_ids=batch["ids"], use_cache=False)

    plain = sm.plan(model, budget, sm.rows([{"ids": row} for row in ids], forward=forward))
    same = sm.plan(
        model, budget,
        sm.rows(padded, forward=forward, valid=lambda batch: batch["valid"].expand(2, -1)),
    )  # fmt: skip
    for name, value in plain.values.items():
        torch.testing.assert_close(same.values[name], value, rtol=1e-9, atol=1e-11)


def test_what_has_no_stream_behind_it_is_refused_by_name(rows):
    for name, budget, error, said in [
        ("bamba", budget_of("state", "S"), UnsupportedError, "mamba is not the last"),
        ("mamba", budget_of("state", "S"), InputError, "selective layers"),
        ("bamba", budget_of("neuron", "C"), InputError, "S: output maps refitted to the dense"),
    ]:
        with pytest.raises(error, match=said):
            sm.plan(build(name), budget, rows)
    together = PassConfig(order="together")
    with pytest.raises(UnsupportedError, match="the order sequential"):
        sm.plan(build("mamba2"), budget_of("state", "S"), rows, run=together)


def test_coarse_numbers_hide_no_layer_behind_a_map(rows):
    """In bfloat16 what is last is found all the same, and what is not is refused in every block."""
    for name, unit, refused in [("mamba2", "state", ""), ("bamba", "neuron", ""),
                                ("bamba", "state", "layers.0.mamba is not the last")]:  # fmt: skip
        dense = build(name, torch.float32).bfloat16()
        if refused:
            with pytest.raises(UnsupportedError, match=refused):
                sm.plan(dense, budget_of(unit, "S"), rows)
        else:
            plan = sm.plan(dense, budget_of(unit, "S"), rows)
            terms = [stage["terms"] for stage in plan.facts["stages"] if "terms" in stage]
            assert terms == ["S"] * len(plan.cuts[0].keep)
