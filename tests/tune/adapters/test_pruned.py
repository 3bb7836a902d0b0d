"""What was pruned stays pruned: while an adapter trains, and after it is merged."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.adapting import build, disturb_, gap, run
from helpers.tiny_mamba import tiny, tokens
from ssmith import adapters
from ssmith.families.masks import apply_mask_

METHODS = {
    "lora": adapters.LoRA(targets=("in_proj", "x_proj", "out_proj"), rank=2),
    "dora": adapters.LoRA(targets=("in_proj", "x_proj", "out_proj"), rank=2, dora=True),
    "official": adapters.LoRA(targets="official", rank=2),
    "full": adapters.FullFineTuning(),
    "parameters": adapters.Parameters(targets=("in_proj", "x_proj", "conv1d", "A_log")),
}


def pruned(seed=0, share=0.5, dtype=torch.float64):
    """A model with random zeros in its projections, and memoryless entries in A_log."""
    model = tiny("mamba", dtype=dtype)
    draw = torch.Generator().manual_seed(seed)
    gone = {}
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if name.endswith(("_proj.weight", "conv1d.weight")):
                off = torch.rand(tensor.shape, generator=draw) < share
                tensor[off] = 0.0
                gone[name] = off
    for number, layer in enumerate(model.backbone.layers):
        keep = torch.rand(layer.mixer.A_log.shape, generator=draw) >= share
        apply_mask_(layer.mixer, "A_log", keep, 38.0)
        gone[f"backbone.layers.{number}.mixer.A_log"] = ~keep
    return model, gone


def values(model, gone):
    stored = dict(model.named_parameters())
    return {name: stored[name].detach()[off].clone() for name, off in gone.items()}


@pytest.mark.parametrize("name", METHODS)
def test_every_pruned_number_is_as_it_was_after_tuning_and_merging(name):
    model, gone = pruned()
    before = values(model, gone)
    report = adapters.attach_(model, METHODS[name])
    assert any(finding.kind == "pruned" for finding in report.findings)
    optimiser = torch.optim.Adam(adapters.trainable(model).values(), lr=0.05)
    ids = tokens(2, 8)
    for _ in range(3):
        optimiser.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimiser.step()
    wanted = run(model, {"input_ids": ids})
    merged = adapters.merge_(model)
    after = values(model, gone)
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert merged.difference < 1e-5
    assert gap(run(model, {"input_ids": ids}), wanted) < 1e-4


@settings(max_examples=10)
@given(st.floats(0.1, 0.9), st.integers(0, 99))
def test_merging_keeps_any_pattern_of_zeros(share, seed):
    linear = torch.nn.Linear(6, 8, dtype=torch.float64)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        linear.weight[torch.rand(8, 6, generator=draw) < share] = 0.0
    zeros = linear.weight == 0
    for method in (adapters.LoRA(targets=("0",)), adapters.LoRA(targets=("0",), dora=True)):
        model = torch.nn.Sequential(linear)
        adapters.attach_(model, method, prove=False)
        disturb_(model, seed=seed)
        x = torch.randn(5, 6, generator=draw, dtype=torch.float64)
        with torch.no_grad():
            wanted = model(x)
            adapters.merge_(model)
            assert gap(model(x), wanted) < 1e-13
        alive = bool((~zeros).any())
        assert torch.equal(linear.weight == 0, zeros) or not alive


def test_a_pattern_of_two_in_four_survives():
    model = build("mamba")
    with torch.no_grad():
        for layer in model.backbone.layers:
            weight = layer.mixer.out_proj.weight
            weight.view(20, -1, 4)[..., :2] = 0.0
    adapters.attach_(model, adapters.LoRA())
    disturb_(model)
    adapters.merge_(model)
    for layer in model.backbone.layers:
        groups = layer.mixer.out_proj.weight.view(20, -1, 4)
        assert int((groups != 0).sum(-1).max()) == 2


def test_selection_never_picks_what_was_pruned():
    model, gone = pruned(share=0.6)
    adapters.attach_(model, adapters.SDT(channels=1.0, states=1.0), prove=False)
    disturb_(model)
    report = adapters.select_(model)
    for name, off in gone.items():
        if name.endswith("A_log"):
            assert report[name.removesuffix(".A_log")] == int((~off).sum())
    disturb_(model)
    before = values(model, gone)
    adapters.merge_(model)
    after = values(model, gone)
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_a_model_with_fewer_states_takes_offsets_of_its_size():
    model = build("mamba")
    small = tiny("mamba", dtype=torch.float64, state_size=3)
    shapes = []
    for each in (model, small):
        report = adapters.attach_(each, adapters.StateOffset())
        shapes.append(set(report.tensors.values()))
    assert shapes == [{(40, 5)}, {(40, 3)}]
