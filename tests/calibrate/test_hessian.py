"""Second moments of projections' inputs against inputs that were materialised."""

import dataclasses

import pytest
import torch
from torch.nn import functional

from helpers.tiny_mamba import tiny, tokens
from helpers.tolerances import assert_close
from ssmith.calibrate.hessian import hessians, input_energies
from ssmith.families.hf import engine
from ssmith.families.mamba.units import PROJECTIONS
from ssmith.families.registry import find_selective

LINEAR = ("in_proj", "x_proj", "out_proj")


def first_layer(name, valid=None, length=11, dtype=torch.float64):
    """A model's first layer, what flows through it, and what its modules were really given."""
    model = tiny(name, dtype=dtype)
    layer = next(iter(find_selective(model).values()))
    hidden = model.get_input_embeddings()(tokens(3, length))
    seen = {}
    hooks = [
        getattr(layer.mixer, module).register_forward_hook(
            lambda _, given, __, module=module: seen.__setitem__(module, given[0])
        )
        for module in LINEAR
    ]
    with torch.no_grad(), engine(model):
        parts = layer.parts(hidden, valid)
        layer.mixer(hidden)
    for hook in hooks:
        hook.remove()
    return layer, parts, seen


@pytest.mark.parametrize("name", ["mamba", "falcon_mamba"])
def test_they_are_products_of_what_the_modules_are_given(name):
    layer, parts, seen = first_layer(name)
    found = hessians(layer, parts, PROJECTIONS)
    for module in LINEAR:
        x = seen[module].flatten(0, 1)
        assert_close("oracle", found[module], x.T @ x)
    rank = parts.rank.flatten(0, 1)
    assert_close("oracle", found["dt_proj"], rank.T @ rank)
    assert float(found["windows"]) == 3


@pytest.mark.parametrize("module", PROJECTIONS)
def test_bfloat16_is_not_summed_in_bfloat16(module):
    layer, parts, _ = first_layer("mamba", length=300, dtype=torch.bfloat16)
    found = hessians(layer, parts, [module])[module]
    wide = {name: getattr(parts, name).double() for name in ("x", "hidden", "raw", "rank")}
    expected = hessians(layer, dataclasses.replace(parts, **wide), [module])[module]
    scale = expected.abs().max()
    assert_close("oracle", (found / scale).float(), (expected / scale).float())


def test_a_filters_lags_stand_in_the_order_of_its_taps():
    layer, parts, _ = first_layer("mamba")
    found = hessians(layer, parts, ["conv1d"])["conv1d"]
    weight = layer.mixer.conv1d.weight.detach()
    out = functional.conv1d(parts.raw.mT, weight, padding=weight.shape[-1] - 1, groups=layer.e)
    out = out[..., : parts.raw.shape[1]]
    energy = torch.einsum("ek,ekj,ej->e", weight[:, 0], found, weight[:, 0])
    assert_close("oracle", energy, out.square().sum((0, 2)))


def test_padding_counts_for_nothing():
    lengths = torch.tensor([11, 4, 7])
    valid = torch.arange(11) < lengths[:, None]
    layer, parts, _ = first_layer("mamba", valid)
    padded = hessians(layer, parts, PROJECTIONS)
    alone = {}
    hidden = parts.hidden
    for row, length in enumerate(lengths.tolist()):
        with torch.no_grad():
            single = layer.parts(hidden[row : row + 1, :length])
        for key, value in hessians(layer, single, PROJECTIONS).items():
            alone[key] = alone.get(key, 0) + value
    for key, value in alone.items():
        assert_close("oracle", padded[key], value)


def test_energies_are_the_diagonals():
    layer, parts, _ = first_layer("mamba", torch.arange(11)[None] < torch.tensor([[11], [5], [9]]))
    whole, energies = hessians(layer, parts, PROJECTIONS), input_energies(layer, parts, PROJECTIONS)
    assert set(whole) == set(energies)
    for name in PROJECTIONS:
        expected = whole[name].diagonal(dim1=-2, dim2=-1).flatten()
        assert_close("oracle", energies[name], expected)
