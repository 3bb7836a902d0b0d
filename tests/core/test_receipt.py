"""Receipts, inspections, modes and sequences: the nouns that carry facts."""

import dataclasses
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import torch

from ssmith.core.errors import ArtefactError, DataError, InputError
from ssmith.core.findings import Finding
from ssmith.core.inspection import Inspection
from ssmith.core.layers import LayerInfo
from ssmith.core.receipt import Receipt, versions
from ssmith.core.sections import MethodSection, ModelSection, SpeedSection, UnitRemoved
from ssmith.core.sequences import SequenceData, Sequences

KEPT = sorted((Path(__file__).parents[1] / "data" / "receipts").glob("*.json"))
"""Receipts as commands wrote them, with long lists cut short."""


def make_receipt(**changes):
    base = {"action": "prune", "model": ModelSection(name="x"), "method": MethodSection()}
    return Receipt(**{**base, "seed": 3, "versions": versions(), **changes})


def test_a_receipt_comes_back_as_it_went(tmp_path):
    receipt = make_receipt(
        removed={"states": UnitRemoved(before=4, after=2, fraction=0.5)},
        findings=(Finding(layer="", kind="x", message="y"),),
    )
    receipt.save(tmp_path / "receipt.json")
    assert Receipt.load(tmp_path / "receipt.json") == Receipt.load(tmp_path) == receipt
    assert json.loads(receipt.to_json())["receipt_version"] == 2


def test_a_directory_without_a_receipt_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"holds no receipt\.json; allowed: a receipt, or a dir"):
        Receipt.load(tmp_path)


def said(content):
    """Leave out what is null or empty: nothing was measured there, however that is written."""
    if isinstance(content, dict):
        found = {name: said(value) for name, value in content.items()}
        return {name: value for name, value in found.items() if value not in (None, "", [], {})}
    return [said(item) for item in content] if isinstance(content, list) else content


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_a_receipt_that_lies_on_a_disk_is_read_and_written_as_it_stands(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    assert said(Receipt.load(path).as_dict()) == said(content)
    assert json.loads(Receipt.load(path).to_json()) == Receipt.load(path).as_dict()


@pytest.mark.parametrize(
    ("section", "value", "said"),
    [
        ("model", {"layers": "two"}, "model.layers is 'two'; allowed: an integer"),
        ("speed", {"per_batch": {"before": "x", "after": 1}}, "speed.per_batch.before is 'x'"),
        ("removed", {"state": {"before": 4}}, "removed.state lacks after, fraction"),
        ("parity", {"step_vs_scan": "0"}, "parity.step_vs_scan is '0'; allowed: a number"),
        ("size", {"bites": 3}, "size has unknown setting 'bites'"),
        ("details", {"layers": [{"kept": [1]}]}, r"details.layers[0].kept[0] is 1; allowed: true"),
    ],
)
def test_what_was_edited_is_named_with_the_file(tmp_path, section, value, said):
    path = tmp_path / "receipt.json"
    path.write_text(json.dumps(make_receipt().as_dict() | {section: value}))
    with pytest.raises(ArtefactError, match=re.escape(f"{path}: {said}")):
        Receipt.load(path)


def test_what_was_cut_off_or_is_of_somebody_else_is_named_with_the_file(tmp_path):
    path = tmp_path / "receipt.json"
    text = make_receipt().to_json()
    for content, said in (
        (text[:90], "is not valid JSON"),
        ('{"loss": 3}', "is not a receipt; "),
        (text.replace('"removed"', '"gone"'), "of ours: it lacks removed and has gone"),
        (text.replace('"receipt_version": 2', '"receipt_version": 9'), "receipt_version is 9"),
    ):
        path.write_text(content)
        with pytest.raises(ArtefactError, match=rf"{re.escape(str(path))}:? .*{said}"):
            Receipt.load(path)


def test_a_receipt_says_when_and_is_the_same_whenever_it_was_written():
    begun = datetime.now(UTC) - timedelta(milliseconds=1)
    receipt = make_receipt()
    assert begun <= datetime.fromisoformat(receipt.time) <= datetime.now(UTC)
    again = dataclasses.replace(receipt, time="2026-01-01T00:00:00.000Z")
    assert again == receipt
    assert Receipt.from_json(again.as_dict()).time == again.time


def test_a_receipt_of_the_first_version_says_no_time():
    content = {**make_receipt().as_dict(), "receipt_version": 1}
    del content["time"]
    assert Receipt.from_json(content).time is None
    assert Receipt.from_json(content).as_dict()["receipt_version"] == 2


def test_what_was_not_measured_is_empty():
    receipt = make_receipt()
    content = receipt.as_dict()
    assert content["quality"] == content["speed"] == content["memory"] == content["saving"] == {}


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("seed"),
        lambda content: content.update(extra=1),
        lambda content: content.update(receipt_version=3),
        lambda content: content.pop("receipt_version"),
        lambda content: content.pop("time"),
        lambda content: content.update(time=5),
    ],
    ids=range(6),
)
def test_another_receipt_is_refused(change):
    content = make_receipt().as_dict()
    change(content)
    with pytest.raises(ArtefactError):
        Receipt.from_json(content)


@pytest.mark.parametrize("content", [None, [], "receipt", {}], ids=str)
def test_what_is_no_receipt(content):
    with pytest.raises(ArtefactError, match="is not a receipt"):
        Receipt.from_json(content)


def test_a_number_that_is_not_finite_is_not_written(tmp_path):
    receipt = make_receipt(speed=SpeedSection(training_seconds=float("nan")))
    with pytest.raises(ValueError, match="not JSON compliant"):
        receipt.save(tmp_path / "receipt.json")
    assert not (tmp_path / "receipt.json").exists()


def test_versions_name_what_matters():
    found = versions()
    assert found["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert set(found) == {"python", "machine", "ssmith", "torch", "numpy", "safetensors"}
    assert all(found.values())


def test_an_inspection_is_text_and_json():
    layer = LayerInfo(
        name="blocks.0.ssm",
        family="s5",
        units={"states": 6},
        grid={"states": (6,)},
        width=3,
        parameters=50,
        masked={"states": 2},
        notes=("bidirectional: no step mode",),
    )
    inspection = Inspection(
        name="digits",
        digest="ab",
        parameters=200,
        tensor_bytes=800,
        layers=(layer,),
        facts={"task": "classification"},
    )
    text = str(inspection)
    for words in ("digits: 200 parameters", "25%", "6 states (2 masked)", "no step mode", "task"):
        assert words in text
    assert json.loads(json.dumps(inspection.as_dict()))["layers"][0]["grid"]["states"] == [6]


def make_sequences(count=4):
    return Sequences(
        x=torch.arange(count * 5 * 2, dtype=torch.float32).reshape(count, 5, 2),
        lengths=torch.tensor([5, 2, 3, 1])[:count],
        y=torch.arange(count),
    )


def test_taking_sequences_trims_to_the_longest_of_them():
    taken = make_sequences().take(torch.tensor([3, 1]))
    assert taken.x.shape == (2, 2, 2)
    assert taken.lengths.tolist() == [1, 2]
    assert taken.y.tolist() == [3, 1]
    assert torch.equal(taken.x[1], make_sequences().x[1, :2])
    assert len(make_sequences().take(torch.tensor([], dtype=torch.int64))) == 0


def test_the_first_few():
    assert make_sequences().first(2).y.tolist() == [0, 1]
    assert len(make_sequences().first(99)) == 4
    assert len(make_sequences().first(0)) == 0


def test_splits_by_name():
    data = SequenceData(
        name="tiny",
        task="classification",
        splits={"train": make_sequences(), "test": make_sequences(0)},
        sha256="ab",
        source="here",
    )
    assert len(data.split("train")) == 4
    with pytest.raises(DataError, match="'test' of tiny is empty"):
        data.split("test")
    with pytest.raises(InputError, match="train, test"):
        data.split("valid")
    assert data.describe().counts == {"train": 4, "test": 0}
