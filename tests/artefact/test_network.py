"""Networks of any make: saved, and opened by their own class; what is refused, and how."""

import copy
import functools
import json
import pickle

import pytest
import torch
from mambapy.mamba import MambaBlock, MambaConfig
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import MambaConfig as StockConfig
from transformers.models.mamba.modeling_mamba import MambaMixer

from ssmith.artefact import load, portable, save, verify
from ssmith.core.errors import ArtefactError, InputError, NumericalError, UnsupportedError
from ssmith.core.files import read_json
from ssmith.core.plan import Cut, Plan
from ssmith.families import S4DLayer, S5Layer, model_digest, sites
from ssmith.families.masks import masks_of
from ssmith.surgery import prune_


class Labeller(nn.Module):
    """Mixers in both directions, embedding and head tied."""

    def __init__(self, width=8, layers=2, states=6):
        super().__init__()
        self.embed = nn.Embedding(11, width)
        config = MambaConfig(d_model=width, n_layers=1, d_state=states, bias=True)
        self.mixers = nn.ModuleList(MambaBlock(config) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.head = nn.Linear(width, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        x = self.embed(ids)
        for norm, mixer in zip(self.norms, self.mixers, strict=True):
            x = x + mixer(norm(x)) + mixer(norm(x).flip(1)).flip(1)
        return self.head(x)


class Patches(nn.Module):
    """An image classifier that scans patches with transformers' mixers; has batch statistics."""

    def __init__(self, width=8, states=5):
        super().__init__()
        self.cut = nn.Conv2d(1, width, 4, stride=4)
        self.norm = nn.BatchNorm1d(width)
        config = StockConfig(hidden_size=width, state_size=states, num_hidden_layers=2)
        self.mixers = nn.ModuleList(MambaMixer(config, layer_idx=i) for i in range(2))
        self.head = nn.Linear(width, 3)

    def forward(self, image):
        x = self.norm(self.cut(image).flatten(2)).mT
        for mixer in self.mixers:
            x = x + mixer(x) + mixer(x.flip(1)).flip(1)
        return self.head(x.mean(1))


class UNet(nn.Module):
    """S5 and S4D layers at two resolutions, and a complex parameter."""

    def __init__(self, width=4, states=6):
        super().__init__()
        self.down = S5Layer(width, states)
        self.low = S4DLayer(width, states)
        self.up = S5Layer(width, states)
        self.phase = nn.Parameter(torch.ones(width, dtype=torch.complex128))

    def forward(self, u):
        x = u + self.down(u)
        low = self.low(x[:, ::2]).repeat_interleave(2, 1)[:, : x.shape[1]]
        return self.up(x + low) * self.phase.abs().to(u)


def ids():
    return torch.arange(18).view(2, 9) % 11


def pictures():
    return torch.linspace(-1, 1, 2 * 64).view(2, 1, 8, 8)


def series():
    return torch.linspace(-1, 1, 2 * 9 * 4).view(2, 9, 4)


NETWORKS = {
    Labeller: (Labeller, ids), Patches: (Patches, pictures), UNet: (UNet, series),
}  # fmt: skip


def made(kind, seed=0):
    torch.manual_seed(seed)
    model = kind()
    with torch.no_grad():
        # Some parameters of a mixer are not drawn by its constructor.
        for name, value in model.named_parameters():
            if name.endswith(("A_log", ".D")):
                value.uniform_(0.5, 1.5)
    return model


def outputs(model, batch):
    with torch.no_grad():
        return model.eval()(batch)


def cut_(model, unit, mode=None, *, seed=0, equal=False):
    """Cut a unit of every site that has it; unless equal, another number in every layer."""
    generator = torch.Generator().manual_seed(seed)
    for number, site in enumerate(sites(model).values()):
        for coupling in [item for item in site.couplings if item.unit == unit]:
            keep = torch.ones(coupling.count, dtype=torch.bool)
            gone = 2 if equal else 1 + number
            keep[torch.randperm(coupling.count, generator=generator)[:gone]] = False
            site.cut_(coupling, keep.view(coupling.grid), mode)


CUTS = {
    "dense": lambda model: None,
    "states removed": lambda model: cut_(model, "state", "shrink"),
    "states masked": lambda model: cut_(model, "state", "mask"),
    "masked, then removed": lambda model: (
        cut_(model, "state", "mask"), cut_(model, "state", "shrink", seed=1)
    ),
    "entries": lambda model: cut_(model, "entry"),
    "weights": lambda model: cut_(model, "weight"),
    "all": lambda model: (
        cut_(model, "state", "shrink"), cut_(model, "entry"), cut_(model, "weight")
    ),
}  # fmt: skip


def assert_same(first, second, batch):
    pairs = first.state_dict(), second.state_dict()
    assert list(pairs[0]) == list(pairs[1])
    assert model_digest(first) == model_digest(second)
    assert torch.equal(outputs(first, batch), outputs(second, batch))
    for mine, theirs in zip(masks_of(first), masks_of(second), strict=True):
        assert (mine[0], mine[2]) == (theirs[0], theirs[2])
        assert torch.equal(mine[1], theirs[1])
    for (name, site), other in zip(sites(first).items(), sites(second).values(), strict=True):
        assert name == other.name
        for mine, theirs in zip(site.couplings, other.couplings, strict=True):
            assert mine == theirs
            assert torch.equal(site.present(mine), other.present(theirs))
        for key in ("ssmith_semantics", "ssm_state_size"):
            assert getattr(site.module, key, None) == getattr(other.module, key, None)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_saved_is_opened_by_its_own_class(kind, cut, dtype, tmp_path):
    build, batch = NETWORKS[kind]
    model = made(build)._apply(lambda item: item.to(dtype) if item.is_floating_point() else item)
    CUTS[cut](model)
    path = save(model, tmp_path / "small")
    found, rows = load(path, build=build), batch()
    rows = rows.to(dtype) if rows.is_floating_point() else rows
    assert type(found) is build
    assert_same(found, model, rows)
    # A second round changes nothing.
    assert_same(load(save(found, tmp_path / "again"), build=build), model, rows)
    assert all(check.passed for check in verify(path, build=build))
    assert all(check.passed for check in verify(path))


def test_cut_weights_stay_cut_when_the_opened_network_is_trained(tmp_path):
    model = made(Labeller)
    cut_(model, "weight")
    cut_(model, "entry")
    found = load(save(model, tmp_path / "m"), build=Labeller).train()
    steps = torch.optim.SGD(found.parameters(), lr=0.5)
    found(ids()).square().mean().backward()
    steps.step()
    found(ids())
    assert list(masks_of(found))
    for name, keep, fill in masks_of(found):
        assert bool((found.get_parameter(name)[~keep] == fill).all())
        assert not torch.equal(found.get_parameter(name), model.get_parameter(name))


class Striped(nn.Module):
    """Every second block reads its input backwards: which block was dropped is in no tensor."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Stripe(index % 2 == 1) for index in range(4))

    def forward(self, u):
        for block in self.blocks:
            u = block(u)
        return u


class Stripe(nn.Module):
    def __init__(self, flips):
        super().__init__()
        self.flips, self.ssm = flips, S5Layer(4, 6)

    def forward(self, u):
        return u + (self.ssm(u.flip(1)).flip(1) if self.flips else self.ssm(u))


def test_a_plan_of_blocks_and_states_is_saved_and_opened(tmp_path):
    dense = made(Striped)
    draw = torch.Generator().manual_seed(0)
    cuts = (
        Cut(unit="block", keep={"blocks": torch.tensor([True, False, False, True])}),
        Cut(unit="state", keep={
            f"blocks.{number}.ssm": torch.randperm(6, generator=draw) < 2 + number
            for number in range(2)
        }),
    )  # fmt: skip
    plan = Plan(cuts=cuts, model_digest=model_digest(dense))
    assert portable(dense, plan)[1] == "no; ssmith opens it, given the class of the network: " + (
        "load(path, build=…)"
    )
    model = copy.deepcopy(dense)
    prune_(model, plan)
    path = save(model, tmp_path / "small", parent=plan.model_digest, extra_files=plan.files())
    found = load(path, build=Striped)
    assert [block.flips for block in found.blocks] == [False, True]
    assert_same(found, model, series())
    again = made(Striped)
    prune_(again, Plan.load(path))
    assert model_digest(again) == read_json(path / "ssmith.json")["digest"]


def test_offsets_come_back_and_act(tmp_path):
    model = made(Patches)
    mixer = model.mixers[0]
    cut_(model, "state", equal=True)
    mixer.register_buffer("state_offset", torch.full_like(mixer.A_log, 0.5).detach())
    mixer.register_buffer("output_offset", torch.full_like(mixer.D, 0.25).detach())
    path = save(model, tmp_path / "m")
    found = load(path, build=Patches)
    assert torch.equal(found.mixers[0].state_offset, mixer.state_offset)
    assert torch.equal(found.mixers[0].output_offset, mixer.output_offset)
    assert model_digest(found) == model_digest(model)
    assert not [name for name in load_file(path / "model.safetensors") if "offset" in name]
    plain = load(path, build=Patches)
    for name in ("state_offset", "output_offset"):
        delattr(plain.mixers[0], name)
    assert (outputs(found, pictures()) - outputs(plain, pictures())).abs().max() > 1e-4


def test_shared_tensors_are_stored_once_and_tied_again(tmp_path):
    model = made(Labeller)
    path = save(model, tmp_path / "m")
    assert read_json(path / "ssmith.json")["shared"] == {"head.weight": "embed.weight"}
    assert "head.weight" not in load_file(path / "model.safetensors")
    found = load(path, build=Labeller)
    assert found.head.weight is found.embed.weight

    def untied():
        other = Labeller()
        other.head.weight = nn.Parameter(other.head.weight.detach().clone())
        return other

    refuse(path, untied, ArtefactError, "tie the same weights")


def test_a_function_gives_the_class_its_arguments(tmp_path):
    torch.manual_seed(0)
    model = Labeller(width=6, layers=1)
    path = save(model, tmp_path / "m")
    found = load(path, build=functools.partial(Labeller, width=6, layers=1))
    assert_same(found, model, ids())


def test_a_network_without_state_space_layers_is_saved_too(tmp_path):
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).to(torch.bfloat16)
    found = load(
        save(model, tmp_path / "m"),
        build=lambda: nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)),
    )
    assert model_digest(found) == model_digest(model)


def refuse(path, build, kind, words):
    with pytest.raises(kind, match=words) as caught:
        load(path, build=build)
    assert "\n" not in str(caught.value)


@pytest.fixture
def saved(tmp_path):
    model = made(Labeller)
    cut_(model, "state", "shrink")
    cut_(model, "entry")
    return save(model, tmp_path / "saved")


def test_without_build_the_class_is_named(saved):
    refuse(saved, None, InputError, r"Labeller, which its own class opens; .*build=Labeller")
    refuse(saved, lambda: 3, InputError, "build made a int")


OTHERS = [
    (lambda: nn.Linear(2, 2), "the built Linear has no mixers.0"),
    (functools.partial(Labeller, layers=3), r"lack \['mixers.2"),
    (functools.partial(Labeller, width=10), r"embed.weight is \(11, 8\), not \(11, 10\)"),
    (functools.partial(Labeller, states=3), "mixers.0 cannot be given its size: state: 5 were"),
    (UNet, "the built UNet has no mixers.0"),
]


@pytest.mark.parametrize(("build", "words"), OTHERS)
def test_another_network_is_refused_by_what_differs(saved, build, words):
    refuse(saved, build, ArtefactError, words)


def test_a_layer_that_is_not_known_has_a_cure(saved):
    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.A_log = nn.Parameter(torch.zeros(2))

    def build():
        other = Labeller()
        other.mixers[1] = Hidden()
        return other

    refuse(saved, build, ArtefactError, r"mixers.1 is a Hidden.*ssmith.register\(Hidden")


def test_files_that_are_broken(saved):
    whole = (saved / "model.safetensors").read_bytes()
    (saved / "model.safetensors").write_bytes(whole[:-40])
    refuse(saved, Labeller, ArtefactError, "truncated")
    (saved / "model.safetensors").write_bytes(pickle.dumps({}))
    refuse(saved, Labeller, ArtefactError, "not safetensors")
    (saved / "model.safetensors").rename(saved / "model.pt")
    refuse(saved, Labeller, ArtefactError, "model.pt is a pickle and is not opened")
    (saved / "model.safetensors").write_bytes(whole)
    tensors = load_file(saved / "model.safetensors")
    tensors["embed.weight"][0, 0] += 1
    save_file(tensors, saved / "model.safetensors")
    refuse(saved, Labeller, ArtefactError, "not those that ssmith.json names")
    (saved / "model.pt").unlink()
    names = [check.name for check in verify(saved) if not check.passed]
    assert names == ["file model.safetensors", "weights"]


def change(content, *path, value):
    for key in path[:-1]:
        content = content[key]
    content[path[-1]] = value


FACTS = [
    (("sites", "mixers.0", "sizes", "state"), -1),
    (("sites", "mixers.0", "sizes", "state"), "five"),
    (("sites", "mixers.0", "sizes", "state"), 10**12),
    (("sites", "mixers.0", "sizes", "wing"), 3),
    (("sites", "mixers.0", "sizes"), []),
    (("sites", "mixers.0", "family"), "s5"),
    (("sites", "mixers.0", "semantics"), "fast-decay"),
    (("sites",), None),
    (("masked", "mixers.0.A_log", "fill"), 3.0),
    (("masked", "mixers.0.A_log", "shape"), [1, 2]),
    (("masked", "mixers.0.A_log"), None),
    (("masked", "mixers.7.A_log"), {"shape": [1], "fill": 0.0}),
    (("norms",), {"norms.0": {"share": "1/2", "epsilon": 1e-5}}),
    (("norms",), {"norms.0": {"share": "1/0", "epsilon": 1e-5}}),
    (("shared",), {}),
    (("pairs",), ["embed.weight"]),
    (("digest",), "00"),
    (("version",), 1),
    (("colour",), "red"),
]


@pytest.mark.parametrize(("path", "value"), FACTS, ids=str)
def test_each_fault_of_what_lies_beside_the_weights(saved, path, value):
    content = json.loads((saved / "ssmith.json").read_text())
    change(content, *path, value=value)
    (saved / "ssmith.json").write_text(json.dumps(content))
    refuse(saved, Labeller, ArtefactError, ".")


def test_what_cannot_be_saved_is_said(tmp_path):
    class Noted(nn.Linear):
        def get_extra_state(self):
            return {"note": 1}

        def set_extra_state(self, state):
            pass

    with pytest.raises(UnsupportedError, match="_extra_state is a dict"):
        save(Noted(2, 2), tmp_path / "m")
    with pytest.raises(UnsupportedError, match="run the network once"):
        save(nn.LazyLinear(2), tmp_path / "m")
    model = made(Labeller)
    with torch.no_grad():
        model.embed.weight[0, 0] = torch.nan
    with pytest.raises(NumericalError, match=r"embed\.weight"):
        save(model, tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_the_card_says_what_it_is(saved):
    card = (saved / "README.md").read_text()
    assert "| class | `Labeller` |" in card
    assert "| layers | 2 × mamba |" in card
    assert "| state | 4–5 a layer, 9 in all |" in card
    assert "load(path, build=…)" in card
