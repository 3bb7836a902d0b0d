"""Full-precision masters under a half-precision model; checkpointing; combinations; selection."""

import pytest
import torch

from helpers.adapting import METHODS, PAIRS, SELECTIVE, build, disturb_, gap, run
from helpers.tiny_mamba import tiny, tokens
from ssmith import adapters
from ssmith.core.errors import UnsupportedError
from ssmith.families.paths import scan_backends
from ssmith.ops.backends import use_backend

HALF = [pair for pair in PAIRS if pair[0] in SELECTIVE]


@pytest.mark.parametrize(("family", "method"), HALF)
def test_a_half_precision_model_trains_full_precision_tensors(family, method):
    model = tiny(family, dtype=torch.bfloat16)
    report = adapters.attach_(model, METHODS[method])
    trained = adapters.trainable(model)
    assert {tensor.dtype for tensor in trained.values()} == {torch.float32}
    assert all(norm > 0 for norm in report.proof.values())
    ids = tokens(2, 8)
    model(input_ids=ids, labels=ids).loss.backward()
    # Steps too small for half precision still count.
    before = {name: tensor.detach().clone() for name, tensor in trained.items()}
    torch.optim.Adam(trained.values(), lr=1e-5).step()
    assert any(not torch.equal(before[name], tensor) for name, tensor in trained.items())
    assert all(t.dtype == torch.bfloat16 for n, t in model.named_parameters() if n not in trained)


@pytest.mark.parametrize("family", SELECTIVE)
def test_checkpointing_and_autocast_change_no_gradient(family):
    found = []
    for checkpointing, autocast in ((False, False), (True, False), (True, True)):
        model = tiny(family)
        both = [adapters.StateOffset(form="both"), adapters.LoRA(rank=2), adapters.PrefixTuning()]
        adapters.attach_(model, both, prove=False)
        disturb_(model)
        model.train()
        if checkpointing:
            model.activation_checkpointing_enable()
        ids = tokens(2, 9)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            model(input_ids=ids, labels=ids).loss.backward()
        found.append({name: t.grad.clone() for name, t in adapters.trainable(model).items()})
    for name, wanted in found[0].items():
        scale = float(wanted.abs().max())
        assert gap(found[1][name], wanted) < 1e-5 * max(scale, 1e-3), name
        assert bool(found[2][name].isfinite().all()), name
        assert bool(found[2][name].any()), name


@pytest.mark.parametrize("family", SELECTIVE)
def test_every_path_of_the_scan_gives_the_same_gradients(family):
    found = {}
    for backend in scan_backends(tiny(family)):
        model = tiny(family)
        methods = [
            adapters.StateOffset(form="both"),
            adapters.InitialState(),
            adapters.PrefixTuning(tokens=3),
            adapters.LoRA(rank=2),
            adapters.Parameters(targets=("A_log", "D", "conv1d")),
            *([] if family == "mamba2" else [adapters.AdditionalScan(states=3)]),
        ]
        with use_backend(backend):
            report = adapters.attach_(model, methods)
            assert all(norm > 0 for norm in report.proof.values())
            disturb_(model)
            ids = tokens(2, 9)
            model(input_ids=ids, labels=ids).loss.backward()
        found[backend] = {name: t.grad for name, t in adapters.trainable(model).items()}
    assert "reference" in found
    assert len(found) > 1
    for backend, grads in found.items():
        for name, wanted in found["reference"].items():
            scale = max(float(wanted.abs().max()), 1e-3)
            assert gap(grads[name], wanted) < 1e-4 * scale, (backend, name)


def test_part_of_a_combination_can_be_merged():
    model = build("mamba")
    adapters.attach_(model, [adapters.StateOffset(), adapters.LoRA(rank=2), adapters.BitFit()])
    disturb_(model)
    batch = {"input_ids": tokens(2, 9)}
    wanted = run(model, batch)
    with pytest.raises(UnsupportedError, match="no bias stands between the scan and the gate"):
        adapters.merge_(model)
    report = adapters.merge_(model, allow_partial=True)
    assert set(report.left) == {f"backbone.layers.{layer}.mixer.state_offset" for layer in range(2)}
    assert gap(run(model, batch), wanted) < 5e-6
    assert set(adapters.groups(model)) == {"state-offset-h"}


def test_groups_let_forms_learn_at_rates_of_their_own():
    model = build("mamba")
    adapters.attach_(model, [adapters.StateOffset(form="both"), adapters.LoRA(rank=2)])
    parts = adapters.groups(model)
    assert set(parts) == {"state-offset-h", "state-offset-y", "lora"}
    assert all(name.endswith(".y") for name in parts["state-offset-y"])


def test_selection_takes_the_channels_and_states_that_moved_most():
    model = build("mamba")
    adapters.attach_(model, adapters.SDT(channels=0.05, states=0.4), prove=False)
    moved = {3: (1, 4), 17: (0, 2)}
    with torch.no_grad():
        for tensor in adapters.trainable(model).values():
            for channel, states in moved.items():
                tensor[channel, list(states)] += 0.5
            tensor[5, 0] += 0.1
    base = run(model, {"input_ids": tokens(2, 9)})
    report = adapters.select_(model)
    mixer = model.backbone.layers[0].mixer
    places = mixer.ssmith_adapters.default.sdt.index.tolist()
    assert places == [3 * 5 + 1, 3 * 5 + 4, 17 * 5 + 0, 17 * 5 + 2]
    width = mixer.x_proj.in_features
    rows = mixer.x_proj.ssmith_adapters.default.sdt.index
    assert sorted({int(place) % width for place in rows}) == [3, 17]
    assert len(rows) == 2 * 10
    assert sum(report.values()) == 2 * (4 + 20)
    # Reset: the model is the base again, and only the chosen numbers can move.
    after = run(model, {"input_ids": tokens(2, 9)})
    with adapters.disabled(model):
        assert torch.equal(run(model, {"input_ids": tokens(2, 9)}), after)
    assert not torch.equal(after, base)
    assert all(norm > 0 for norm in adapters.prove(model).values())


def test_tied_weights_stay_tied_while_tuned():
    model = build("mamba")
    assert model.lm_head.weight is model.backbone.embeddings.weight
    adapters.attach_(model, adapters.FullFineTuning())
    disturb_(model)
    assert model.lm_head.weight is model.backbone.embeddings.weight
    ids = tokens(2, 6)
    wanted = run(model, {"input_ids": ids})
    adapters.merge_(model)
    assert model.lm_head._parameters["weight"] is model.backbone.embeddings._parameters["weight"]
    assert gap(run(model, {"input_ids": ids}), wanted) < 5e-6


def test_the_proof_leaves_everything_as_it_was():
    model = build("mamba").eval()
    adapters.attach_(model, adapters.StateOffset(), prove=False)
    for tensor in adapters.trainable(model).values():
        tensor.grad = torch.ones_like(tensor)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random = torch.random.get_rng_state()
    adapters.prove(model)
    assert torch.equal(torch.random.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(bool((t.grad == 1).all()) for t in adapters.trainable(model).values())
    assert not any(part.training for part in model.modules())
