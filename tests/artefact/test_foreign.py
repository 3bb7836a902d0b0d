"""Models that others saved: Hugging Face directories and mamba_ssm checkpoints."""

import json
import pickle
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.tiny_mamba import NAMES, tiny, tokens
from ssmith.artefact import load, load_sequence_model
from ssmith.core.errors import ArtefactError, MissingExtraError, ModelError, UnsupportedError

pytest.importorskip("transformers")
NATIVE = {
    "d_model": 20, "n_layer": 2, "vocab_size": 61, "pad_vocab_size_multiple": 8,
    "ssm_cfg": {"d_state": 5},
}  # fmt: skip


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def saved(tmp_path):
    tiny("mamba").save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def native(tmp_path):
    weights = {
        key.replace("backbone.embeddings.", "backbone.embedding."): value.clone()
        for key, value in tiny("mamba", vocab_size=64).state_dict().items()
    }
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(NATIVE))
    return tmp_path


def refuse(place, kind, words):
    with pytest.raises(kind, match=words) as caught:
        load(place)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_hugging_face_directory_opens_as_it_was_saved(name, dtype, tmp_path, capfd):
    model, ids = tiny(name, dtype=dtype), tokens(2, 9)
    model.save_pretrained(tmp_path)
    capfd.readouterr()
    loaded = load(tmp_path)
    assert capfd.readouterr() == ("", "")
    assert type(loaded) is type(model)
    assert not loaded.training
    assert next(loaded.parameters()).dtype == dtype
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, model(ids).logits)


def test_shards_open_too_and_a_lost_one_is_named(tmp_path):
    tiny("mamba").save_pretrained(tmp_path, max_shard_size="10KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert load(tmp_path).config.model_type == "mamba"
    shards[1].unlink()
    refuse(tmp_path, ArtefactError, shards[1].name)


def test_a_native_checkpoint_opens_as_the_same_model(native):
    ids = tokens(2, 9)
    with torch.no_grad():
        ours, wanted = load(native)(ids).logits, tiny("mamba", vocab_size=64)(ids).logits
    assert (ours - wanted).abs().max() < 1e-5


@pytest.mark.parametrize("kind", ["saved", "native"])
def test_a_pickle_is_refused_with_the_cure(kind, request):
    place = request.getfixturevalue(kind)
    (place / "model.safetensors").unlink()
    (place / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    refuse(place, ArtefactError, "pytorch_model.bin is a pickle .* convert")


@pytest.mark.parametrize("kind", ["saved", "native"])
def test_a_truncated_file_is_refused(kind, request):
    path = request.getfixturevalue(kind) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    refuse(path.parent, ArtefactError, "truncated")


@pytest.mark.parametrize("kind", ["saved", "native"])
def test_weights_that_are_not_finite_are_refused(kind, request):
    path = request.getfixturevalue(kind) / "model.safetensors"
    weights = load_file(path)
    weights["backbone.layers.1.mixer.D"][3] = torch.nan
    save_file(weights, path, metadata={"format": "pt"})
    refuse(path.parent, ModelError, "mixer.D has 1 non-finite")


def test_weights_of_another_model_are_refused(saved, capfd):
    path = saved / "model.safetensors"
    weights = load_file(path)
    lost = weights.pop("backbone.layers.1.mixer.D")
    save_file(weights, path, metadata={"format": "pt"})
    refuse(saved, ArtefactError, "lack .*mixer.D")
    weights["backbone.layers.1.mixer.D"] = lost[:7].clone()
    save_file(weights, path, metadata={"format": "pt"})
    refuse(saved, ArtefactError, r"mixer.D is \(7,\), not \(40,\)")
    weights["backbone.layers.1.mixer.D"] = lost
    save_file({**weights, "stranger": lost.clone()}, path, metadata={"format": "pt"})
    refuse(saved, ArtefactError, "hold unknown .*stranger")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", ["saved", "native"])
def test_a_missing_package_is_named_with_its_extra(kind, request, monkeypatch):
    place = request.getfixturevalue(kind)
    monkeypatch.setitem(sys.modules, "transformers", None)
    refuse(place, MissingExtraError, r"ssmith\[hf\]")


SIZES = [
    ("saved", "hidden_size", 10**12), ("saved", "num_hidden_layers", 10**9),
    ("saved", "vocab_size", "many"), ("native", "d_model", 10**12), ("native", "n_layer", None),
    ("native", "ssm_cfg", [1]), ("native", "ssm_cfg", {"expand": "x"}),
    ("saved", "state_size", "x"), ("saved", "num_hidden_layers", 3),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "setting", "value"), SIZES)
def test_settings_without_sense_are_refused_in_one_line(kind, setting, value, request):
    path = request.getfixturevalue(kind) / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), setting: value}))
    refuse(path.parent, (ArtefactError, ModelError), "config.json|cannot open|lack|ssm_cfg")


def test_a_hub_id_is_downloaded_and_opened(saved, monkeypatch):
    """Stand in for the hub's client, so that no network is needed."""

    def download(repository, allow_patterns):
        assert repository == "owner/tiny"
        assert not any("bin" in pattern or "py" in pattern for pattern in allow_patterns)
        return str(saved)

    monkeypatch.setattr(pytest.importorskip("huggingface_hub"), "snapshot_download", download)
    assert load("owner/tiny").config.model_type == "mamba"


def test_other_kinds_of_models_are_refused_by_name(saved):
    path = saved / "config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "model_type": "rwkv"}))
    refuse(saved, ModelError, "unknown model type 'rwkv'")


def test_work_on_sequence_models_refuses_them_and_says_what_works(saved):
    with pytest.raises(UnsupportedError, match="prune and measure it on text"):
        load_sequence_model(saved)
