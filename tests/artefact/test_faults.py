"""Each way a saved model can be broken, and the one line that says so."""

import json
import pickle
import shutil
import sys
import types
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from helpers.models import Kind, make_model
from helpers.plans import random_plan
from ssmith.artefact import EMBEDDED, embedded_names, load, locate, save, verify
from ssmith.core.directories import MANIFEST, manifest_of
from ssmith.core.errors import (
    ArtefactError,
    InputError,
    MissingExtraError,
    ModelError,
    SsmithError,
)
from ssmith.core.files import write_json
from ssmith.families import model_digest
from ssmith.surgery import prune_


class Bomb:
    """Goes off if anyone unpickles it."""

    armed = Path("/nonexistent")

    def __reduce__(self):
        return Path.touch, (self.armed,)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    model = make_model(Kind("s5"), dtype=torch.float32)
    prune_(model, random_plan(model, seed=1), "mask")
    return save(model, tmp_path_factory.mktemp("original") / "model")


@pytest.fixture
def saved(original, tmp_path):
    return Path(shutil.copytree(original, tmp_path / "model"))


def refuse(path, kind, words=None):
    """Assert that loading is refused in one line of ours."""
    with pytest.raises(kind, match=words) as caught:
        load(path)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)


def edit(path, change):
    content = json.loads((path / "config.json").read_text())
    change(content)
    (path / "config.json").write_text(json.dumps(content))


def failed(path):
    return [check.name for check in verify(path) if not check.passed]


@pytest.mark.parametrize("share", [0.0, 0.001, 0.02, 0.5, 0.9])
def test_truncated_weights(saved, share):
    path = saved / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refuse(saved, ArtefactError, "truncated or not safetensors")
    assert failed(saved) == ["file model.safetensors", "loads"]


@pytest.mark.parametrize("tail", [-1, -8, 1])
def test_a_few_bytes_too_few_or_too_many(saved, tail):
    path = saved / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:tail] if tail < 0 else content + b"x")
    refuse(saved, ArtefactError, "truncated or not safetensors")


@pytest.mark.parametrize("header", [b"\xff" * 8, b"\x00" * 8, (2**62).to_bytes(8, "little")])
def test_a_header_that_lies(saved, header):
    path = saved / "model.safetensors"
    path.write_bytes(header + path.read_bytes()[8:])
    refuse(saved, ArtefactError, "truncated or not safetensors")


def test_one_flipped_bit_is_found(saved):
    path = saved / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    assert failed(saved) == ["file model.safetensors", "loads", "weights"]
    refuse(saved, ArtefactError, "the weights are not those")


def rewrite(path, change, *, manifest=False):
    tensors = load_file(path / "model.safetensors")
    change(tensors)
    save_file(tensors, path / "model.safetensors")
    if manifest:
        write_json(path / MANIFEST, manifest_of(path))


def swap(tensors):
    names = ("blocks.0.norm.weight", "blocks.1.ssm.D")
    tensors[names[0]], tensors[names[1]] = tensors[names[1]], tensors[names[0]]


@pytest.mark.parametrize(("manifest", "found"), [
    (False, ["file model.safetensors", "loads", "weights"]),
    (True, ["loads", "weights"]),
])  # fmt: skip
def test_swapped_tensors_are_found_even_under_a_new_manifest(saved, manifest, found):
    rewrite(saved, swap, manifest=manifest)
    assert failed(saved) == found


def test_a_tensor_under_another_name(saved):
    rewrite(saved, lambda tensors: tensors.update(other=tensors.pop("head.bias")))
    refuse(saved, ArtefactError, r"lack \['head.bias'\], hold unknown \['other'\]")


@pytest.mark.parametrize(("value", "words"), [
    (torch.zeros(3), r"head\.bias is \(3,\), not \(4,\)"),
    (torch.zeros(4, dtype=torch.float64), "the weights are not those"),
])  # fmt: skip
def test_a_tensor_of_another_shape_or_type(saved, value, words):
    rewrite(saved, lambda tensors: tensors.update({"head.bias": value}))
    refuse(saved, ArtefactError, words)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_weight_that_is_not_finite(saved, value):
    rewrite(saved, lambda tensors: tensors["head.bias"].fill_(value), manifest=True)
    refuse(saved, ModelError, r"head\.bias has 4 non-finite values of 4")
    assert failed(saved) == ["loads"]


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"])
def test_a_pickle_is_refused_by_its_name(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(Bomb, "armed", tmp_path / "exploded")
    path = tmp_path / f"model{suffix}"
    path.write_bytes(pickle.dumps(Bomb()))
    refuse(path, ArtefactError, "pickle, which can run code")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pth", "weights.pkl", "last.ckpt"])
def test_a_directory_with_a_pickle_in_place_of_the_weights(saved, name):
    (saved / "model.safetensors").rename(saved / name)
    refuse(saved, ArtefactError, f"no model.safetensors; {name} is a pickle and is not opened")


def test_a_pickle_in_the_clothes_of_safetensors(saved, monkeypatch):
    monkeypatch.setattr(Bomb, "armed", saved / "exploded")
    (saved / "model.safetensors").write_bytes(pickle.dumps(Bomb()))
    refuse(saved, ArtefactError, "not safetensors")
    assert not (saved / "exploded").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [("config.json", "has no config.json"), ("model.safetensors", "has no model.safetensors")],
)
def test_a_missing_file(saved, name, words):
    (saved / name).unlink()
    refuse(saved, ArtefactError, words)


def test_verify_needs_a_manifest_and_names_every_difference(saved):
    (saved / "README.md").unlink()
    (saved / "stranger.txt").write_text("x")
    assert failed(saved) == ["file README.md", "no further files"]
    (saved / MANIFEST).unlink()
    with pytest.raises(ArtefactError, match=r"no manifest\.json"):
        verify(saved)


@pytest.mark.parametrize("content", ["[]", "{}", '{"files": 3}', '{"files": {"a": 1}}', "{"])
def test_a_manifest_that_is_none(saved, content):
    (saved / MANIFEST).write_text(content)
    with pytest.raises(ArtefactError) as caught:
        verify(saved)
    assert "\n" not in str(caught.value)


def test_an_untouched_model_passes_every_check(saved):
    checks = verify(saved)
    assert failed(saved) == []
    assert {"file config.json", "no further files", "loads", "weights"} <= {
        check.name for check in checks
    }
    assert all(check.detail for check in checks)


def test_a_foreign_model(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama", "hidden_size": 8}')
    refuse(tmp_path, ModelError, "unknown model type 'llama'")
    (tmp_path / "config.json").write_text("[]")
    refuse(tmp_path, ModelError, "unknown model type None")
    (tmp_path / "config.json").write_text("{")
    refuse(tmp_path, ArtefactError, "not valid JSON")


FAULTS = [
    (ArtefactError, lambda content: content.update(version=1)),
    (ArtefactError, lambda content: content.pop("version")),
    (ArtefactError, lambda content: content.pop("facts")),
    (ArtefactError, lambda content: content.pop("kind")),
    (ArtefactError, lambda content: content.update(kind="pickle")),
    (InputError, lambda content: content.update(kind="network")),
    (ModelError, lambda content: content.pop("config")),
    (ModelError, lambda content: content.update(config=None)),
    (ModelError, lambda content: content["config"].update(wings=2)),
    (ModelError, lambda content: content["config"].pop("width")),
    (ModelError, lambda content: content["config"].update(states=[6, -1])),
    (ArtefactError, lambda content: content["config"].update(states=[6, 5])),
    (ArtefactError, lambda content: content["config"].update(states=[6])),
    (ArtefactError, lambda content: content["config"].update(states=[10**7, 6])),
    (ArtefactError, lambda content: content["config"].update(width=10**12)),
    (ArtefactError, lambda content: content["config"].update(outputs=10**30)),
    (ArtefactError, lambda content: content["config"].update(family="s4d")),
    (ModelError, lambda content: content["config"]["options"].update(dt_min=-1)),
]


@pytest.mark.parametrize(("kind", "change"), FAULTS, ids=range(len(FAULTS)))
def test_each_fault_of_the_configuration(saved, kind, change):
    edit(saved, change)
    refuse(saved, kind)


json_values = st.none() | st.booleans() | st.integers(-3, 10**6) | st.text(max_size=3)
json_values |= st.lists(json_values, max_size=2)


@given(key=st.sampled_from(["format", "version", "kind", "config", "facts"]), value=json_values)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_stands_in_the_configuration(saved, key, value):
    before = (saved / "config.json").read_text()
    try:
        edit(saved, lambda content: content.update({key: value}))
        load(saved)
    except SsmithError as error:
        assert "\n" not in str(error)
    finally:
        (saved / "config.json").write_text(before)


class Stopped(BaseException):
    """What a kill looks like from inside."""


@pytest.mark.parametrize("step", ["write_bytes", "write_json", "card", "write_text", "seal"])
@pytest.mark.parametrize("error", [Stopped(), OSError(28, "No space left on device")], ids=repr)
@pytest.mark.parametrize("before", [False, True], ids=["new", "overwrite"])
def test_a_save_that_is_stopped_leaves_what_was_there(tmp_path, monkeypatch, step, error, before):
    path, old = tmp_path / "m", make_model(Kind("s5"))
    if before:
        save(old, path)

    def stop(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules[save.__module__], step, stop)
        with pytest.raises(ArtefactError if isinstance(error, OSError) else Stopped):
            save(make_model(Kind("s4d")), path, overwrite=True)
    assert [item.name for item in tmp_path.iterdir()] == (["m"] if before else [])
    if before:
        assert model_digest(load(path)) == model_digest(old)
        assert failed(path) == []


def fake_hub(monkeypatch, answer):
    hub = types.ModuleType("huggingface_hub")
    calls = []

    def snapshot_download(repository, **given_values):
        calls.append((repository, given_values))
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    hub.snapshot_download = snapshot_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    return calls


def test_a_hub_id_is_downloaded_without_pickles(saved, monkeypatch):
    calls = fake_hub(monkeypatch, saved)
    load("someone/a-model.v1")
    ((repository, given_values),) = calls
    assert repository == "someone/a-model.v1"
    assert set(given_values["allow_patterns"]) == {"*.json", "*.safetensors", "*.md"}


@pytest.mark.parametrize("message", ["", "no network\nmore\nlines", "  "], ids=repr)
def test_a_hub_that_fails_is_one_line(monkeypatch, message):
    fake_hub(monkeypatch, ValueError(message))
    refuse("someone/model", ArtefactError, "cannot load 'someone/model' from the model hub: .")


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    refuse("someone/model", MissingExtraError, r"pip install 'ssmith\[hub\]'")


@pytest.mark.parametrize("spec", ["", "nowhere", "a/b/c", "/no/such/place", "embedded", "~/x"])
def test_nothing_there(spec, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(SsmithError) as caught:
        load(spec)
    assert "\n" not in str(caught.value)


def test_a_plain_file_is_no_model(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    refuse(tmp_path / "notes.txt", InputError, "is a file")


def test_a_mistyped_path_is_guessed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "waves-model").mkdir(parents=True)
    refuse("runs/nothing-like-it/x", InputError, "next: check the path")
    refuse(tmp_path / "runs" / "waves-modle", InputError, "did you mean 'waves-model' in ")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    refuse("runs/waves-modle", MissingExtraError, "did you mean 'waves-model' in runs")
    monkeypatch.chdir(tmp_path / "runs")
    refuse("waves-modle", InputError, "did you mean 'waves-model'")


def test_a_name_without_its_prefix_is_guessed():
    name = embedded_names()[0]
    refuse(name, InputError, f"did you mean {EMBEDDED}{name}")


def test_a_mistyped_name_is_guessed():
    name = embedded_names()[0]
    refuse(f"embedded:{name[:-1]}", InputError, f"did you mean embedded:{name}")
    refuse("embedded:../../core", InputError, "no embedded model")
    assert locate(f"embedded:{name}").name == name
