import json
from datetime import UTC, datetime

import numpy as np
import pytest

from ssmith import api


def with_machines(place):
    """The same data with a column, in a file."""
    with np.load(place / "data.npz") as archive:
        arrays = dict(archive)
    count = len(arrays["x"])
    arrays["machine"] = np.array([f"m{item % 2}" for item in range(count)])
    np.savez(place / "machines.npz", **arrays)


def test_an_audit_says_what_changed_and_keeps_it(place, ssmith):
    with_machines(place)
    command = ("audit", "old", "new", "--data", "machines.npz", "--slice", "machine")
    ended = ssmith(*command, "--out", "page")
    assert ended.code == 0, ended.err
    assert "answers changed" in ended.out
    receipt = json.loads((place / "page" / "receipt.json").read_text())
    assert receipt["action"] == "audit"
    assert abs((datetime.now(UTC) - datetime.fromisoformat(receipt["time"])).days) < 1
    page = (place / "page" / "report.html").read_text(encoding="utf-8")
    assert "By machine" in page and "m1" in page
    models = [api.load(name) for name in ("old", "new")]
    part = api.load_data("machines.npz", models[0], columns=("machine",)).split("test")
    answers = [model(part.x, part.lengths).argmax(1) for model in models]
    flips = (answers[0] != answers[1]).double().mean()
    assert receipt["details"]["whole"]["changed"]["value"] == pytest.approx(float(flips))
    groups = receipt["details"]["groups"]
    assert {item["name"] for item in groups["machine"]} == {"m0", "m1"}
    assert {item["name"] for item in groups["class"]} == {"a", "b", "c"}
    again = ssmith("audit", "--recipe", "page/recipe.yaml", "--json")
    assert again.document["details"] == receipt["details"]


def test_data_stays_out_of_a_receipt_unless_asked_for(place, ssmith):
    command = ("audit", "old", "new", "--data", "data.npz", "--json")
    assert all("x" not in item for item in ssmith(*command).document["details"]["examples"])
    shown = ssmith(*command, "--with-data").document["details"]["examples"]
    assert shown
    assert all(item["x"] for item in shown)


def test_what_does_not_fit_is_one_line(place, ssmith):
    ended = ssmith("audit", "old", "new", "--data", "data.npz", "--slice", "machine")
    assert ended.code == 2
    assert "no column 'machine'" in ended.err
