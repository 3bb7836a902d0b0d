"""Saved is loaded, bit for bit, whatever was done to the model before."""

import copy
import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.models import FAMILIES, KINDS, Kind, make_input, make_model
from helpers.plans import random_plan
from ssmith.artefact import load, save, verify
from ssmith.core.errors import (
    InputError,
    NumericalError,
    OutputExistsError,
)
from ssmith.families import model_digest
from ssmith.surgery import prune_


def assert_same_model(first, second, x):
    assert first.config == second.config
    pairs = [model.state_dict() for model in (first, second)]
    assert set(pairs[0]) == set(pairs[1])
    for name, item in pairs[0].items():
        assert item.dtype == pairs[1][name].dtype
        assert torch.equal(item, pairs[1][name]), name
    assert model_digest(first) == model_digest(second)
    with torch.no_grad():
        assert torch.equal(first(x), second(x))


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_loaded_is_saved(kind, dtype, tmp_path):
    model = make_model(kind, dtype=dtype)
    loaded = load(save(model, tmp_path / "model"))
    assert not loaded.training
    assert_same_model(loaded, model, make_input(model))


@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 10_000),
    share=st.sampled_from([0.0, 0.3, 0.7]),
    modes=st.lists(st.sampled_from(["mask", "shrink"]), min_size=1, max_size=3),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_cut_models_come_back_too(kind, seed, share, modes, tmp_path):
    model = make_model(kind, seed=seed)
    for index, mode in enumerate(modes):
        prune_(model, random_plan(model, seed=seed + index, keep=share), mode)
    path = save(model, tmp_path / "model", overwrite=True)
    loaded = load(path)
    assert_same_model(loaded, model, make_input(model))
    assert all(check.passed for check in verify(path))


@pytest.mark.parametrize(
    "settings",
    [
        {"vocabulary": 7, "pooling": "last", "activation": "gelu"},
        {"task": "forecast", "outputs": 6, "activation": "full_glu", "dropout": 0.1},
        {"classes": ("a", "b", "λ"), "outputs": 3},
        {"options": {"step_rescale": 2.0, "clip_eigs": True}},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", FAMILIES, ids=str)
def test_every_setting_comes_back(kind, settings, tmp_path):
    model = make_model(kind, **copy.deepcopy(settings))
    assert_same_model(load(save(model, tmp_path / "model")), model, make_input(model))


def test_loading_leaves_the_global_random_stream_alone_enough_to_repeat(tmp_path):
    model = make_model(Kind("s5"))
    path = save(model, tmp_path / "model")
    torch.manual_seed(1)
    assert model_digest(load(path)) == model_digest(model)
    torch.manual_seed(2)
    assert model_digest(load(path)) == model_digest(model)


def test_the_same_model_is_the_same_files(tmp_path):
    model = make_model(Kind("s4d"))
    first, second = (save(model, tmp_path / name) for name in ("a", "b"))
    for item in sorted(first.iterdir()):
        assert item.read_bytes() == (second / item.name).read_bytes(), item.name


def test_what_stands_beside_the_weights(tmp_path):
    model = make_model(Kind("s5", bidirectional=True))
    facts = {"title": "Tiny", "text": ["One sentence."], "table": {"data": "none"}}
    path = save(
        model,
        tmp_path / "m",
        parent="ab" * 32,
        facts=facts,
        extra_files={"plan.json": "{}\n", "plan.safetensors": b"\x00\xff"},
    )
    names = ["README.md", "config.json", "manifest.json", "model.safetensors", "plan.json"]
    names += ["plan.safetensors", "ssmith.json"]
    assert sorted(item.name for item in path.iterdir()) == names
    content = json.loads((path / "ssmith.json").read_text())
    assert (path / "plan.safetensors").read_bytes() == b"\x00\xff"
    assert content["digest"] == model_digest(model)
    assert content["parent"] == "ab" * 32
    card = (path / "README.md").read_text()
    for words in (
        "# Tiny",
        "One sentence.",
        "s5, bidirectional",
        "| state | 6 a layer, 12 in all |",
        "none",
    ):
        assert words in card
    assert all(check.passed for check in verify(path))


def test_an_existing_model_is_replaced_only_on_request(tmp_path):
    first, second = make_model(Kind("s5")), make_model(Kind("s4d"))
    path = save(first, tmp_path / "m")
    with pytest.raises(OutputExistsError):
        save(second, path)
    assert model_digest(load(path)) == model_digest(first)
    save(second, path, overwrite=True)
    assert model_digest(load(path)) == model_digest(second)
    assert [item.name for item in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("change", ["half", "bfloat16", "mixed"])
def test_each_tensor_comes_back_in_its_own_type(change, tmp_path):
    model = make_model(Kind("s5"), dtype=torch.float32)
    if change == "mixed":
        model.head.double()
    else:
        getattr(model, change)()
    loaded = load(save(model, tmp_path / "m"))
    for name, value in model.state_dict().items():
        assert loaded.state_dict()[name].dtype == value.dtype
        assert torch.equal(loaded.state_dict()[name], value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_not_written(value, tmp_path):
    model = make_model(Kind("s5"))
    with torch.no_grad():
        model.get_parameter("head.bias")[0] = value
    with pytest.raises(NumericalError, match=r"head\.bias"):
        save(model, tmp_path / "m")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "../out", "a/b", ""])
def test_a_further_file_stays_in_its_place(name, tmp_path):
    with pytest.raises(InputError, match="further file"):
        save(make_model(Kind("s5")), tmp_path / "m", extra_files={name: "x"})
    assert not list(tmp_path.iterdir())


def test_only_an_earlier_model_is_overwritten(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(OutputExistsError, match="not replaced"):
        save(make_model(KINDS[0]), other, overwrite=True)
    assert [item.name for item in other.iterdir()] == ["thesis.txt"]
