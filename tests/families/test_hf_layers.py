"""What is said of a Hugging Face model's selective layers, and what is refused."""

import pytest
import torch
from torch import nn

from helpers.tiny_mamba import NAMES, tiny
from ssmith import api
from ssmith.core.errors import ModelError, UnsupportedError
from ssmith.families import describe, find_layers, scan_of
from ssmith.families.hf import engine

pytest.importorskip("transformers")


@pytest.mark.parametrize("name", NAMES)
def test_each_mixer_is_described(name):
    model = tiny(name)
    layers = describe(model)
    assert [layer.name for layer in layers] == [f"backbone.layers.{i}.mixer" for i in range(2)]
    assert {layer.family for layer in layers} == {name}
    for layer in layers:
        assert (layer.units["state"], layer.width) == (5, 40)
        mixer = model.get_submodule(layer.name)
        assert layer.parameters == sum(item.numel() for item in mixer.parameters())
        assert layer.units.keys() == layer.grid.keys() == layer.masked.keys()
    assert scan_of(model) == ("ssd" if name == "mamba2" else "selective_scan")


@pytest.mark.parametrize("name", NAMES)
def test_the_engine_changes_nothing_that_is_said(name):
    model = tiny(name)
    before = describe(model)
    with engine(model):
        assert describe(model) == before


def test_tied_tensors_are_counted_once():
    model = tiny("mamba")
    found = api.inspect(model)
    assert found.tensor_bytes == 4 * found.parameters
    assert "5 state, 40 channel" in str(found)


def test_cutting_is_refused_with_what_works():
    with pytest.raises(UnsupportedError, match=r"no fixed modes.*by unit"):
        find_layers(tiny("mamba"))


def test_a_model_without_layers_is_another_error():
    for ask in (find_layers, describe, scan_of):
        with pytest.raises(ModelError, match="no state space layer"):
            ask(nn.Linear(2, 2))


def test_offloaded_mixers_are_named():
    model = tiny("mamba")
    model.backbone.layers[0].mixer._hf_hook = object()
    facts = api.inspect(model).facts
    assert "backbone.layers.0.mixer" in facts["not run by the engine"]
    assert len(describe(model)) == 1
    assert facts["dtype"] == str(torch.float32).removeprefix("torch.")
