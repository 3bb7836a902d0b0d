"""Adapters on disk: whole, checked, complete, and those of peft both ways."""

import contextlib
import json
import shutil
import subprocess
import sys
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.adapting import build, disturb_, gap, run
from helpers.tiny_mamba import tiny, tokens
from ssmith import adapters, load, load_adapter_, save, save_adapter, verify
from ssmith.core.errors import (
    ArtefactError,
    InputError,
    ModelError,
    OutputExistsError,
    UnsupportedError,
)

STATE_SPACE = {
    "mamba": ("A_log", "D", "conv1d", "dt_proj"),
    "falcon_mamba": ("A_log", "D", "conv1d", "dt_proj"),
    "mamba2": ("A_log", "D", "conv1d", "dt_bias"),
}
RELOAD = """
import sys
sys.path.insert(0, "tests")
from helpers.adapting import gap, run
from helpers.tiny_mamba import tiny, tokens
from safetensors.torch import load_file
from ssmith import load_adapter_
for family in ("mamba", "falcon_mamba", "mamba2"):
    model = tiny(family)
    load_adapter_(model, f"{sys.argv[1]}/{family}")
    wanted = load_file(f"{sys.argv[1]}/{family}.safetensors")["logits"]
    assert gap(run(model, {"input_ids": tokens(2, 14)}), wanted) < 1e-6, family
"""


def test_state_space_parameters_come_back_in_a_new_process(tmp_path):
    for family, names in STATE_SPACE.items():
        model = tiny(family)
        methods = [adapters.Parameters(targets=names), adapters.InitialState()]
        adapters.attach_(model, methods)
        disturb_(model)
        logits = run(model, {"input_ids": tokens(2, 14)})
        save_adapter(model, tmp_path / family)
        save_file({"logits": logits.contiguous()}, tmp_path / f"{family}.safetensors")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RELOAD, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def saved(tmp_path, method=None, family="mamba"):
    model = build(family)
    adapters.attach_(model, method or adapters.StateOffset(), prove=False)
    disturb_(model)
    return model, save_adapter(model, tmp_path / "saved", base="tiny", extra={"seed": 3})


def test_a_trainable_tensor_outside_of_the_adapter_is_an_error_at_saving(tmp_path):
    model, _ = saved(tmp_path)
    model.backbone.norm_f.weight.requires_grad_(True)
    with pytest.raises(InputError, match=r"would not be saved: backbone\.norm_f\.weight"):
        save_adapter(model, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_the_files_are_those_of_the_ecosystem(tmp_path):
    model, path = saved(tmp_path)
    assert sorted(item.name for item in path.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "manifest.json",
    ]
    config = json.loads((path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny"
    assert config["ssmith"]["methods"] == [adapters.StateOffset().as_plain()]
    assert config["ssmith"]["extra"] == {"seed": 3}
    assert len(config["ssmith"]["base_model_digest"]) == 64
    tensors = load_file(path / "adapter_model.safetensors")
    assert all(key.startswith("base_model.model.backbone.layers.") for key in tensors)
    assert sum(value.numel() for value in tensors.values()) == config["ssmith"]["parameters"]
    with pytest.raises(OutputExistsError):
        save_adapter(model, path)
    save_adapter(model, path, overwrite=True, extra_files={"notes.txt": "as told"})
    assert (path / "notes.txt").read_text() == "as told"
    with pytest.raises(InputError, match="further file"):
        save_adapter(model, tmp_path / "other", extra_files={"../notes.txt": ""})


def test_another_base_is_refused_by_its_digest(tmp_path):
    model, path = saved(tmp_path)
    other = build("mamba", seed=1)
    with pytest.raises(ModelError, match="trained on a base model with digest"):
        load_adapter_(other, path)
    assert adapters.adapters_of(other) == {}
    report = load_adapter_(other, path, any_base=True)
    assert [finding.kind for finding in report.findings] == ["base"]
    second = load_adapter_(model, path, name="second")
    assert second.findings == ()


@pytest.mark.parametrize("fault", ["truncated", "other", "missing", "pickle", "version"])
def test_damaged_files_are_refused_and_leave_the_model_alone(tmp_path, fault):
    _, path = saved(tmp_path)
    weights, config = path / "adapter_model.safetensors", path / "adapter_config.json"
    if fault == "truncated":
        weights.write_bytes(weights.read_bytes()[:-9])
    elif fault == "other":
        save_file({"base_model.model.x": torch.zeros(2)}, weights)
    elif fault == "version":
        config.write_text(config.read_text().replace('"version": 1', '"version": 2'))
    else:
        weights.unlink()
        if fault == "pickle":
            torch.save({}, path / "adapter_model.bin")
    model = build("mamba")
    with pytest.raises(ArtefactError):
        load_adapter_(model, path)
    assert adapters.adapters_of(model) == {}


def test_verify_checks_an_adapter(tmp_path):
    _, path = saved(tmp_path)
    checks = {check.name: check for check in verify(path)}
    assert all(check.passed for check in checks.values())
    assert checks["base"].detail == "tiny, not checked: it is not on this machine"
    weights = path / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    broken = {check.name: check for check in verify(path) if not check.passed}
    assert list(broken) == ["file adapter_model.safetensors", "adapter"]
    assert "not the file" in broken["adapter"].detail


def test_a_flipped_bit_is_seen_in_every_file_of_an_adapter(tmp_path):
    model, _ = saved(tmp_path)
    files = {"receipt.json": "{}", "curve.svg": "<svg/>", "raw.bin": bytes(range(9))}
    path = save_adapter(model, tmp_path / "whole", extra_files=files)
    assert all(check.passed for check in verify(path))
    for item in sorted(path.iterdir()):
        before = item.read_bytes()
        item.write_bytes(bytes([before[0] ^ 1]) + before[1:])
        # Of the manifest itself nothing is left to read.
        with contextlib.suppress(ArtefactError):
            assert any(not check.passed for check in verify(path)), item.name
        item.write_bytes(before)
    (path / "run").mkdir()
    (path / "run" / "manifest.json").write_text("{}")
    failed = [check.name for check in verify(path) if not check.passed]
    assert failed == ["no further files"]


def test_an_adapter_is_traced_to_the_base_it_names(tmp_path):
    base = tiny("mamba")
    save(base, tmp_path / "base")
    adapters.attach_(base, [adapters.StateOffset()], name="default")
    path = save_adapter(base, tmp_path / "tuned", base=str(tmp_path / "base"))
    assert {check.name: check.passed for check in verify(path)}["base"]
    save(tiny("mamba", seed=1), tmp_path / "base", overwrite=True)
    (failed,) = [check for check in verify(path) if not check.passed]
    assert failed.name == "base"


def tuned_on(place):
    base = tiny("mamba")
    save(base, place / "base")
    adapters.attach_(base, [adapters.StateOffset()], name="default")
    disturb_(base)
    save_adapter(base, place / "tuned", base=str(place / "base"))
    return run(base, {"input_ids": tokens(2, 14)})


def test_a_base_that_moved_is_named(tmp_path):
    wanted = tuned_on(tmp_path)
    (tmp_path / "base").rename(tmp_path / "moved")
    with pytest.raises(InputError, match="base"):
        load(tmp_path / "tuned")
    model = load(tmp_path / "tuned", base=tmp_path / "moved")
    assert gap(run(model, {"input_ids": tokens(2, 14)}), wanted) < 1e-6
    save(tiny("mamba", seed=1), tmp_path / "other")
    with pytest.raises(ModelError, match="was trained on a base model with digest"):
        load(tmp_path / "tuned", base=tmp_path / "other")
    # Nothing of it is left behind.
    with pytest.raises(InputError, match="base"):
        load(tmp_path / "tuned")


@pytest.mark.parametrize("way", ["itself", "through another"])
def test_an_adapter_that_names_itself_as_base_is_refused_by_name(tmp_path, way):
    tuned_on(tmp_path)
    path = tmp_path / "tuned"
    config = json.loads((path / "adapter_config.json").read_text())
    other = path if way == "itself" else tmp_path / "second"
    if way != "itself":
        shutil.copytree(path, other)
        named = {**config, "base_model_name_or_path": str(path)}
        (other / "adapter_config.json").write_text(json.dumps(named))
    config["base_model_name_or_path"] = str(other)
    (path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ArtefactError, match="names itself as its base"):
        load(path)
    failed = [check for check in verify(path) if not check.passed]
    assert "base" in [check.name for check in failed]


def test_tensors_of_another_shape_or_not_finite_are_refused():
    model = build("mamba")
    adapters.attach_(model, adapters.StateOffset(), prove=False)
    tensors = {key: value.clone() for key, value in adapters.state(model).items()}
    key = next(iter(tensors))
    for wrong in (tensors[key][:-1], torch.full_like(tensors[key], torch.nan)):
        with pytest.raises(ArtefactError, match="state_offset"):
            adapters.load_state_(model, "default", {**tensors, key: wrong})
    with pytest.raises(ArtefactError, match="lack"):
        adapters.load_state_(model, "default", {})
    with pytest.raises(InputError, match="adapter 'other'"):
        adapters.state(model, "other")


LORAS = [
    ("mamba2", adapters.LoRA(targets=("in_proj",), rank=3, alpha=6)),
    ("mamba2", adapters.LoRA(targets=("in_proj",), rank=3, alpha=6, dora=True)),
    ("mamba", adapters.LoRA(targets=("in_proj", "x_proj"), rank=2)),
]


@pytest.mark.parametrize(("family", "lora"), LORAS)
def test_peft_opens_ours_and_we_open_its(tmp_path, family, lora):
    peft = pytest.importorskip("peft")
    model = tiny(family)
    adapters.attach_(model, lora, allow_partial=True)
    disturb_(model)
    batch = {"input_ids": tokens(2, 10)}
    wanted = run(model, batch)
    save_adapter(model, tmp_path / "ours")
    with warnings.catch_warnings():
        # It warns that it knows nothing of our own section.
        warnings.simplefilter("ignore")
        theirs = peft.PeftModel.from_pretrained(tiny(family), tmp_path / "ours").eval()
        assert gap(run(theirs, batch), wanted) < 2e-5
        theirs.save_pretrained(tmp_path / "theirs")
    back = tiny(family)
    report = load_adapter_(back, tmp_path / "theirs")
    assert gap(run(back, batch), wanted) < 1e-6
    assert "digest" in report.findings[0].message


def test_what_peft_cannot_hold_says_so_there(tmp_path):
    peft = pytest.importorskip("peft")
    _, path = saved(tmp_path)
    with pytest.raises(Exception, match="SSMITH"):
        peft.PeftModel.from_pretrained(tiny("mamba"), path)


def peft_files(path, **changes):
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["in_proj"]}
    tensors = {}
    for layer in range(2):
        place = f"base_model.model.backbone.layers.{layer}.mixer.in_proj"
        tensors[f"{place}.lora_A.weight"] = torch.full((2, 20), 0.1)
        tensors[f"{place}.lora_B.weight"] = torch.full((80, 2), 0.1)
    extra = changes.pop("tensors", {})
    path.mkdir()
    (path / "adapter_config.json").write_text(json.dumps(config | changes))
    save_file(tensors | extra, path / "adapter_model.safetensors")
    return path


def test_settings_of_peft_without_a_counterpart_are_refused(tmp_path):
    for number, change in enumerate(
        [{"peft_type": "IA3"}, {"bias": "all"}, {"rank_pattern": {"x": 3}},
         {"init_lora_weights": "pissa"}]
    ):  # fmt: skip
        with pytest.raises(UnsupportedError):
            load_adapter_(tiny("mamba"), peft_files(tmp_path / str(number), **change))
    strange = {"base_model.model.backbone.layers.0.mixer.conv1d.lora_C": torch.zeros(2)}
    with pytest.raises(ArtefactError, match="lora_C"):
        load_adapter_(tiny("mamba"), peft_files(tmp_path / "strange", tensors=strange))


def test_rank_stabilised_scaling_and_whole_modules_of_peft(tmp_path):
    head = {"base_model.model.lm_head.weight": torch.ones(61, 20)}
    stabilised = peft_files(tmp_path / "a", use_rslora=True, tensors=head)
    model = tiny("mamba")
    load_adapter_(model, stabilised)
    lora, whole = adapters.adapters_of(model)["a"]
    assert lora.rslora
    assert lora.alpha == 4
    assert whole.targets == ("lm_head.weight",)
    assert torch.equal(model.lm_head.weight.detach(), torch.ones(61, 20))


def test_a_bare_warm_up_and_a_selection_both_come_back(tmp_path):
    model = build("mamba")
    adapters.attach_(model, adapters.SDT(channels=0.2, states=0.4), prove=False)
    warm = build("mamba")
    disturb_(model)
    save_adapter(model, tmp_path / "warm")
    load_adapter_(warm, tmp_path / "warm")
    batch = {"input_ids": tokens(2, 8)}
    assert torch.equal(run(warm, batch), run(model, batch))
    assert adapters.select_(warm, "warm") == adapters.select_(model)
    disturb_(model)
    save_adapter(model, tmp_path / "chosen")
    back = build("mamba")
    load_adapter_(back, tmp_path / "chosen")
    assert torch.equal(run(back, batch), run(model, batch))
    with pytest.raises(InputError, match="in no warm-up"):
        adapters.select_(back, "chosen")


@pytest.mark.parametrize("family", ["mamba", "s5"])
def test_a_model_that_carries_an_adapter_is_not_saved_as_a_model(tmp_path, family):
    model = build(family)
    adapters.attach_(model, adapters.StateOffset(form="y"), prove=False)
    with pytest.raises(UnsupportedError, match="carries adapter 'default'"):
        save(model, tmp_path / "model")
    assert not (tmp_path / "model").exists()
