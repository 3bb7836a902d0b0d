"""The plots as files: their data is the receipt's, their drawings are well formed."""

import csv
from xml.etree import ElementTree

import pytest

from helpers.receipts import changed
from ssmith.report import write_report
from ssmith.report.layers import read_layers, shared_threshold, short_names


def table(directory, name):
    with (directory / "plots" / f"{name}.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("name", ["quality", "quality-narrow", "quality-near"])
def test_curves(accepted, tmp_path, name):
    write_report(accepted, tmp_path)
    rows = table(tmp_path, name)
    curve = accepted.as_dict()["details"]["curve"]
    assert rows[0]["method"] == "unpruned"
    assert float(rows[0]["value"]) == curve["dense"]["value"]
    for method, points in curve["methods"].items():
        found = [row for row in rows if row["method"] == method]
        assert [float(row["removed"]) for row in found] == [point["removed"] for point in points]
        for key, column in (
            ("sparsity", "asked"),
            ("value", "value"),
            ("low", "low"),
            ("high", "high"),
        ):
            assert [float(row[column]) for row in found] == [point[key] for point in points]


@pytest.mark.parametrize("which", ["accepted", "refused", "grid"])
def test_scores_and_kept_states(request, tmp_path, which):
    receipt = request.getfixturevalue(which)
    write_report(receipt, tmp_path)
    kept = table(tmp_path, "layers")
    for number, layer in enumerate(receipt.cut.layers, start=1):
        rows = table(tmp_path, f"scores-{number}")
        assert [int(row["rank"]) for row in rows] == list(range(1, len(rows) + 1))
        assert [float(row["score"]) for row in rows] == sorted(layer.scores, reverse=True)
        back = sorted(rows, key=lambda row: int(row["index"]))
        assert [float(row["score"]) for row in back] == list(layer.scores)
        assert [row["kept"] == "true" for row in back] == list(layer.kept)
        assert int(kept[number - 1]["before"]) == layer.before
        assert int(kept[number - 1]["after"]) == layer.after


def test_costs(refused, tmp_path):
    write_report(refused, tmp_path)
    rows = {row["cost"]: row for row in table(tmp_path, "costs")}
    assert (
        float(rows["one batch of 32"]["after"]) == refused.as_dict()["speed"]["per_batch"]["after"]
    )
    assert float(rows["file"]["before"]) == refused.as_dict()["size"]["bytes"]["before"]
    assert "one step, streaming" not in rows


def test_every_plot_has_its_data_and_stands_alone(accepted, tmp_path):
    write_report(accepted, tmp_path)
    drawings = list(tmp_path.glob("plots/*.svg"))
    assert {path.stem for path in drawings} == {path.stem for path in tmp_path.glob("plots/*.csv")}
    for path in drawings:
        source = path.read_text(encoding="utf-8")
        root = ElementTree.fromstring(source)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert float(root.get("width")) > 0
        assert "var(" not in source
        assert "<style" not in source


def test_drawings_on_the_page_use_its_colours_only(accepted, tmp_path):
    source = write_report(accepted, tmp_path).read_text(encoding="utf-8")
    drawings = source[source.index("<svg") : source.rindex("</svg>")]
    assert "fill: #" not in drawings
    assert "stroke: #" not in drawings
    assert "var(--accent)" in drawings


@pytest.mark.parametrize(
    "scores",
    [[0.0] * 4, [1.0] * 4, [0.0, 1.0, 2.0, 3.0], [-1.0, 0.0, 1.0, 2.0], [1e-300, 1, 2, 1e300]],
)
def test_scores_no_logarithm_likes(accepted, tmp_path, scores):
    layer = {"name": "a", "grid": [4], "before": 4, "after": 2, "scores": scores}
    details = {"layers": [layer | {"kept": [False, False, True, True]}]}
    write_report(changed(accepted, details=details), tmp_path)
    assert len(table(tmp_path, "scores-1")) == 4


def test_a_score_that_is_missing_is_counted(accepted, tmp_path):
    layer = {"name": "a", "scores": [None, 1.0, float("nan"), 2.0], "kept": [True] * 4}
    page = write_report(changed(accepted, details={"layers": [layer]}), tmp_path)
    assert len(table(tmp_path, "scores-1")) == 2
    assert "2 states have no finite score" in page.read_text(encoding="utf-8")


def test_a_threshold_exists_only_where_it_parts(accepted):
    layers = read_layers(accepted)
    cut = shared_threshold(layers)
    assert cut == min(s for layer in layers for _, s, kept in layer.scores if kept)
    layer = {"name": "a", "scores": [3.0, 1.0, 2.0], "kept": [True, True, False]}
    (mixed,) = read_layers(changed(accepted, details={"layers": [layer]}))
    assert mixed.threshold is None
    assert shared_threshold([*layers, mixed]) is None


def test_short_names_keep_what_differs():
    names = [f"encoder.stages.{index}.blocks.residual_branch.ssm" for index in range(12)]
    short = short_names(names, 24)
    assert short[3] == "…stages.3…"
    assert len(set(short)) == 12
    assert short_names(["a.0", "a.1"], 24) == ["a.0", "a.1"]
    assert short_names(["x" * 40], 11) == ["xxxxx…xxxxx"]
    assert short_names(["a", "a." + "b" * 40], 11) == ["a", "a.bbb…bbbbb"]
