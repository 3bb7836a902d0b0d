"""An adapter's configuration is read with types: what is damaged is refused by its key."""

import copy
import json

import pytest

from ssmith.artefact.adapter_config import AdapterConfig, PeftLoRA
from ssmith.core.errors import ArtefactError
from ssmith.tune.adapters import LoRA

SOUND = {
    "peft_type": "LORA",
    "r": 2,
    "base_model_name_or_path": "base",
    "ssmith": {
        "version": 1,
        "methods": [{"method": "lora", "targets": ["out_proj"], "rank": 2}],
        "base_model_digest": "5a" * 32,
        "weights_sha256": "3f" * 32,
        "extra": {"data": "walks"},
    },
}


def read(tmp_path, content):
    (tmp_path / "adapter_config.json").write_text(json.dumps(content))
    return AdapterConfig.read(tmp_path)


def test_what_was_written_is_read(tmp_path):
    found = read(tmp_path, SOUND)
    assert found.base == "base" and found.content == SOUND
    assert found.own.methods == (LoRA(targets=("out_proj",), rank=2),)
    assert found.own.extra == {"data": "walks"}
    assert read(tmp_path, {"peft_type": "LORA"}) == AdapterConfig(
        base=None, own=None, content={"peft_type": "LORA"}
    )


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("base_model_name_or_path",), 3, "base_model_name_or_path is 3"),
        (("ssmith",), [1], "ssmith is"),
        (("ssmith", "version"), 2, "version 2"),
        (("ssmith", "version"), None, "version None"),
        (("ssmith", "base_model_digest"), 7, "base_model_digest is 7"),
        (("ssmith", "weights_sha256"), None, "weights_sha256 is None"),
        (("ssmith", "methods"), "lora", "methods is 'lora'"),
        (("ssmith", "methods", 0, "rank"), "x", "rank is 'x'"),
        (("ssmith", "extra"), [], "extra is"),
        (("ssmith", "other"), 1, "unknown setting 'other'"),
    ],
)
def test_a_value_of_another_type_is_refused_by_its_key(tmp_path, path, value, named):
    content = copy.deepcopy(SOUND)
    section = content
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    with pytest.raises(ArtefactError) as caught:
        read(tmp_path, content)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    "damaged", [{"r": "2"}, {"lora_alpha": "x"}, {"use_dora": 1}, {"r": None}, {"lora_dropout": []}]
)
def test_what_peft_writes_has_types_as_well(damaged):
    [name] = damaged
    with pytest.raises(ArtefactError, match=f"{name} is "):
        PeftLoRA.of({"peft_type": "LORA", "r": 2, **damaged}, "adapter_config.json")
    assert PeftLoRA.of({"peft_type": "LORA", "r": 2, "more": 1}, "x").lora_alpha is None
