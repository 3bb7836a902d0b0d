"""State space layers in networks of any make: found by what they are, tried, and cut."""

import copy

import pytest
import torch
from mambapy.mamba import MambaBlock, MambaConfig
from torch import nn
from transformers import MambaConfig as StockConfig
from transformers.models.mamba.modeling_mamba import MambaMixer

import ssmith as sm
from helpers.foreign import (
    OWN,
    BothWays,
    Counting,
    OwnMixer,
    SimpleMamba,
    SimpleMamba2,
    SquaredGate,
)
from helpers.unchecked import unchecked
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.families import S5Layer, sites, ssm_sites


@pytest.fixture(autouse=True)
def _nothing_stays_registered(monkeypatch):
    monkeypatch.setattr("ssmith.families.layout._REGISTERED", {})


def mambapy(width):
    return MambaBlock(MambaConfig(d_model=width, n_layers=1, d_state=6, bias=True))


def jambapy(width):
    return MambaBlock(MambaConfig(d_model=width, n_layers=1, d_state=6, inner_layernorms=True))


def stock(width):
    config = StockConfig(hidden_size=width, state_size=6, num_hidden_layers=1)
    return MambaMixer(config, layer_idx=0)


def own(width):
    sm.register(OwnMixer, like="mamba", names=OWN, sizes={"state": ["n_state"]})
    return OwnMixer(width, 6)


MAKES = {
    "mamba_ssm": lambda width: SimpleMamba(width, d_state=6),
    "mambapy": mambapy,
    "mambapy with norms": jambapy,
    "transformers": stock,
    "own": own,
    "s5": lambda width: S5Layer(width, 6),
}


def network(make, dtype=torch.float64):
    torch.manual_seed(0)
    model = BothWays(MAKES[make], 8)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "A_log" not in name:
                parameter.normal_(0.0, 0.3)
    return model.to(dtype).eval()


def rows():
    return torch.randn(3, 11, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("make", MAKES)
def test_any_network_is_cut(make):
    dense, u = network(make), rows()
    found = ssm_sites(dense)
    assert list(found) == ["mixers.0", "mixers.1"]
    keep = torch.tensor([True, False, True, True, False, True])
    shrunk, masked = copy.deepcopy(dense), copy.deepcopy(dense)
    for mode, model in (("shrink", shrunk), ("mask", masked)):
        for site in ssm_sites(model).values():
            site.cut_(site.coupling("state"), keep, mode)
            assert torch.equal(
                site.present(site.coupling("state")).all(), torch.tensor(mode == "shrink")
            )
    with torch.no_grad():
        out = shrunk(u)
        # transformers and mambapy take exp(A_log) in float32.
        torch.testing.assert_close(out, masked(u), rtol=0, atol=1e-6)
        assert (out - dense(u)).abs().max() > 1e-4
    fewer = [sum(item.numel() for item in model.parameters()) for model in (shrunk, dense)]
    assert fewer[0] < fewer[1]
    before = dense.state_dict()
    assert all(torch.equal(item, before[name]) for name, item in network(make).state_dict().items())


@pytest.mark.parametrize("make", [make for make in MAKES if make != "s5"])
def test_views_rebuild_what_a_mixer_computes(make):
    for site in ssm_sites(network(make)).values():
        layer, hidden = site.view(), torch.randn(2, 7, 8, dtype=torch.float64)
        with torch.no_grad():
            own_output = site.module(hidden)
            torch.testing.assert_close(
                layer.output(layer.branches(hidden)), own_output, rtol=0, atol=1e-6
            )
            assert layer.parts(hidden).scan.B.shape == (2, 7, 6)


@pytest.mark.parametrize("make", [make for make in MAKES if make != "s5"])
def test_channels_go_from_mixers_of_any_make(make):
    dense, u = network(make), rows()
    shrunk, masked = copy.deepcopy(dense), copy.deepcopy(dense)
    for mode, model in (("shrink", shrunk), ("mask", masked)):
        for site in ssm_sites(model).values():
            table = site.coupling("channel")
            site.cut_(table, torch.arange(table.count) % 3 != 1, mode)
    with torch.no_grad():
        torch.testing.assert_close(shrunk(u), masked(u), rtol=0, atol=1e-6)
        assert (shrunk(u) - dense(u)).abs().max() > 1e-4


@pytest.mark.parametrize("make", [make for make in MAKES if make != "s5"])
def test_entries_and_weights_stay_cut_under_training(make):
    model = network(make, torch.float32).train()
    names = []
    for site in ssm_sites(model).values():
        for coupling in site.couplings:
            if coupling.unit in ("entry", "weight"):
                keep = torch.rand(coupling.grid) > 0.5
                site.cut_(coupling, keep)
                names.append((site, coupling, keep))
    assert len(names) == 12
    steps = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        steps.zero_grad()
        model(rows().float()).square().mean().backward()
        steps.step()
    model(rows().float())
    for site, coupling, keep in names:
        (item,) = coupling.slices
        value = site.module.get_parameter(item.parameter)
        assert bool((value[~keep] == item.silent).all())
        assert not bool((value[keep] == item.silent).all())
        assert torch.equal(site.present(coupling), keep)


def test_a_shared_configuration_is_copied_before_it_is_written():
    config = MambaConfig(d_model=8, n_layers=2, d_state=6)
    model = nn.Sequential(MambaBlock(config), MambaBlock(config))
    first = next(iter(sites(model).values()))
    first.cut_(first.coupling("state"), torch.arange(6) < 2)
    assert (model[0].config.d_state, model[1].config.d_state, config.d_state) == (2, 6, 6)
    model(torch.randn(1, 3, 8))


@pytest.mark.parametrize(
    ("build", "units", "reason"),
    [
        (lambda: SquaredGate(8, 6), (), "not what a Mamba mixer makes of its parts"),
        (
            lambda: Counting(8, 6),
            ("entry", "weight", "channel"),
            "name the attributes that count them",
        ),
        (lambda: SimpleMamba(8, 1), ("entry", "weight", "channel"), "a single state"),
    ],
)
def test_what_is_refused_says_why_beforehand(build, units, reason):
    (site,) = sites(nn.Sequential(build())).values()
    assert tuple(dict.fromkeys(item.unit for item in site.couplings)) == units
    assert any(reason in note for note in site.info().notes)
    with pytest.raises(UnsupportedError, match=reason):
        site.coupling("state")


def test_a_count_that_is_named_is_lowered():
    sm.register(Counting, like="mamba", sizes={"state": ["order"]})
    (site,) = sites(nn.Sequential(Counting(8, 6))).values()
    site.cut_(site.coupling("state"), torch.arange(6) > 1)
    assert site.module.order == 4


def test_a_registered_class_without_the_parts_says_which():
    sm.register(OwnMixer, like="mamba", names=OWN | {"dt_proj": "step"})
    (site,) = sites(nn.Sequential(OwnMixer(8, 6))).values()
    with pytest.raises(UnsupportedError, match=r"no attribute .step"):
        site.coupling("state")


def test_only_known_words_are_registered():
    with pytest.raises(InputError, match="like"):
        sm.register(OwnMixer, like="rwkv")
    with pytest.raises(InputError, match="x_projection"):
        sm.register(OwnMixer, like="mamba", names={"x_projection": "select"})
    with pytest.raises(InputError, match="subclass of torch"):
        unchecked(sm.register)(OwnMixer(4, 2), like="mamba")


class Plain(nn.Module):
    """Two linear layers; ``odd`` takes the mean of the neurons between them away."""

    def __init__(self, odd=False):
        super().__init__()
        self.fc1, self.fc2, self.odd = nn.Linear(4, 6), nn.Linear(6, 4), odd

    def forward(self, x):
        hidden = torch.tanh(self.fc1(x))
        return self.fc2(hidden - hidden.mean(-1, keepdim=True) if self.odd else hidden)


@pytest.mark.parametrize("unit", ["state", "head", "head_dim"])
def test_mamba_ssms_second_mixer_is_cut_by_groups_heads_and_widths(unit):
    torch.manual_seed(0)
    dense = BothWays(lambda width: SimpleMamba2(width, d_state=6), 8).double()
    shrunk, masked, u = copy.deepcopy(dense), copy.deepcopy(dense), rows()
    for model, mode in ((shrunk, "shrink"), (masked, "mask")):
        for site in ssm_sites(model).values():
            table = site.coupling(unit)
            keep = torch.arange(table.count).view(table.per_block, -1) % 2 == 0
            site.cut_(table, keep.view(table.grid), mode)
    with torch.no_grad():
        torch.testing.assert_close(shrunk(u), masked(u), rtol=0, atol=1e-12)
        assert (shrunk(u) - dense(u)).abs().max() > 1e-4
    mixer = shrunk.mixers[0]
    left = {"state": mixer.d_state / 6, "head": mixer.nheads / 4, "head_dim": mixer.headdim / 4}
    assert left.pop(unit) == 0.5
    assert set(left.values()) == {1.0}
    assert mixer.d_inner == mixer.d_ssm == (16 if unit == "state" else 8)


def test_feed_forward_layers_of_ones_own_are_tried():
    (site,) = sites(nn.Sequential(Plain())).values()
    site.cut_(site.coupling("neuron"), torch.arange(6) != 2)
    assert site.module(torch.zeros(1, 4)).shape == (1, 4)
    assert site.module.fc1.out_features == site.module.fc2.in_features == 5
    (site,) = sites(nn.Sequential(Plain(odd=True))).values()
    with pytest.raises(UnsupportedError, match="shrunk and masked it computes different outputs"):
        site.coupling("neuron")


def test_weights_that_stand_in_two_mixers_are_not_cut_in_one_of_them():
    model = BothWays(MAKES["mamba_ssm"], 8)
    first, second = model.mixers
    first.in_proj.weight = second.in_proj.weight
    site = sites(model)["mixers.0"]
    assert site.coupling("state")
    assert site.coupling("weight", "x_proj.weight")
    with pytest.raises(UnsupportedError, match=r"in_proj.weight is mixers.1.in_proj.weight"):
        site.coupling("weight", "in_proj.weight")


def test_nothing_that_only_has_an_a_log_is_taken_for_a_mixer():
    odd = nn.Linear(3, 3)
    odd.A_log = nn.Parameter(torch.zeros(3, 2))
    assert sites(nn.Sequential(odd)) == {}
