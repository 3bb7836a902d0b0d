"""Tasks of lm-eval: a local one through the real package, and what is said where it is missing."""

import json
import sys

import pytest

from helpers.tiny_mamba import tiny
from ssmith.core.errors import InputError, MissingExtraError
from ssmith.data import ByteTokenizer
from ssmith.evaluation.harness import (
    HarnessConfig,
    TaskResult,
    check_harness,
    compare_tasks,
    run_tasks,
)

TASK = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
target_delimiter: ""
metric_list:
  - metric: acc
"""


def result(*values, metric="acc", value=None):
    mean = sum(values) / len(values) if values else value
    return TaskResult(
        task="t", metric=metric, value=mean, error=None, count=len(values),
        higher_is_better=True, per_document=values,
    )  # fmt: skip


@pytest.fixture
def task(tmp_path):
    rows = [
        {"question": "a", "choices": ["b", "\x01\x02"], "answer": 0},
        {"question": "b", "choices": ["c", "d", "e"], "answer": 2},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    file = tmp_path / "choose.yaml"
    file.write_text(TASK.format(name="choose", data=tmp_path / "rows.jsonl"))
    return file


def test_a_local_task_runs_offline_on_the_live_model(task, tmp_path, monkeypatch):
    pytest.importorskip("lm_eval")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    model = tiny("mamba", vocab_size=256)
    config = HarnessConfig(tasks=(str(task),))
    (found,) = run_tasks(model, ByteTokenizer(), config)
    assert (found.task, found.metric, found.count) == ("choose", "acc", 2)
    assert found.value == sum(found.per_document) / 2
    (row,) = compare_tasks([found], [found])
    assert row.difference.value == row.difference.low == 0
    (first,) = run_tasks(model, ByteTokenizer(), HarnessConfig(tasks=(str(task),), limit=1))
    assert first.per_document == found.per_document[:1]


def test_a_task_that_is_unknown_is_refused(task):
    pytest.importorskip("lm_eval")
    (task.parent / "nameless.yaml").write_text("dataset_path: json\n")
    nameless = HarnessConfig(tasks=(str(task.parent / "nameless.yaml"),))
    with pytest.raises(InputError, match="names no task"):
        run_tasks(tiny("mamba", vocab_size=256), ByteTokenizer(), nameless)


def test_differences_are_of_the_same_documents():
    (row,) = compare_tasks([result(0, 1, 1, 0)], [result(0, 0, 1, 0)])
    assert (row.before, row.after) == (0.5, 0.25)
    difference = row.difference
    assert difference.low <= difference.value == -0.25 <= difference.high <= 0
    (whole,) = compare_tasks([result(value=3.0, metric="f1")], [result(value=2.0, metric="f1")])
    assert whole.difference.value == -1
    assert "whole set" in whole.difference.why_no_interval


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tasks": ()}, "no task is named"),
        ({"tasks": ("missing.yaml",)}, "no task file missing.yaml"),
        ({"limit": 0}, "limit is 0"),
        ({"few_shot": -1}, "few_shot is -1"),
    ],
)
def test_settings_outside_their_domain_are_refused(change, words):
    with pytest.raises(InputError, match=words):
        HarnessConfig(**{"tasks": ("piqa",), **change})


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    check_harness(None)
    with pytest.raises(MissingExtraError, match="lm-eval"):
        check_harness(HarnessConfig(tasks=("piqa",)))
