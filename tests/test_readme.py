"""The README runs as it stands there, and its tables are what was measured."""

import json
import statistics
from pathlib import Path

from helpers.pages import ROOT, run_page

README = ROOT / "README.md"
EVIDENCE = ROOT / "docs" / "evidence.md"


def test_readme_shows_code_before_line_40():
    lines = README.read_text(encoding="utf-8").splitlines()
    assert lines.index("```python") < 40


def test_what_the_readme_shows_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_page(README)
    text = README.read_text(encoding="utf-8")
    names = {item.name + "/" * item.is_dir() for item in Path("pilot").iterdir()}
    assert {name for name in names if f"`{name}`" not in text} == set()
    assert "state" in capsys.readouterr().out


def test_the_table_of_losses_is_what_was_measured():
    results = json.loads((README.parent / "benchmarks/results/lti.json").read_text("utf-8"))
    rows = [row for row in results["quality"] if row["ratio"] == 0.33]
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    text = EVIDENCE.read_text(encoding="utf-8")
    for method in dict.fromkeys(row["method"] for row in rows):
        means = [
            statistics.mean(
                100 * (row["dense"] - row["accuracy"])
                for row in rows
                if (row["method"], row["task"]) == (method, task)
            )
            for task in tasks
        ]
        cells = [f"{value + 0.0:.2f}" for value in (*means, statistics.mean(means))]
        assert f"| {method} | {' | '.join(cells)} |" in text


def test_the_table_of_refits_is_what_was_measured():
    results = json.loads((README.parent / "benchmarks/results/obs.json").read_text("utf-8"))
    hits = {
        (row["method"], row["ratio"], row["task"], row["seed"]): row["hits"].count("1")
        for row in results["rows"]
        if "hits" in row
    }
    lengths = {row["task"]: len(row["hits"]) for row in results["rows"] if "hits" in row}
    dense = {key[2:]: count for key, count in hits.items() if key[1] == 0.0}
    text = README.read_text(encoding="utf-8")
    for method in ("LAST", "AIRE", "State-OBS"):
        means = []
        for ratio in (0.5, 0.7, 0.8, 0.9):
            lost = {
                task: statistics.mean(
                    100 * (count - hits[method, ratio, name, seed]) / lengths[name]
                    for (name, seed), count in dense.items()
                    if name == task
                )
                for task in lengths
            }
            means.append(statistics.mean(lost.values()))
        assert f"| {method} | {' | '.join(f'{value:.2f}' for value in means)} |" in text


def test_the_table_of_cut_language_models_is_what_was_measured():
    results = json.loads((README.parent / "benchmarks/results/selective.json").read_text("utf-8"))
    methods = {
        "half of A_log": ("A_log", "50 %", "Gram greedy + D (ours)", "SparseSSM v2, released"),
        "three quarters of A_log": (
            "A_log", "75 %", "Gram greedy + D (ours)", "SparseSSM v2, released",
        ),
        "half of the state columns": (
            "columns", "50 %", "greedy after refit + C + D (ours)", "SparseSSM structured",
        ),
        "half of the projections": (
            "projections", "50 %", "OBS + refit (ours)", "SparseGPT, fresh",
        ),
    }  # fmt: skip
    text = README.read_text(encoding="utf-8")
    for title, (unit, level, *named) in methods.items():
        plain = "magnitude, uniform" if unit == "projections" else "magnitude"
        cells = []
        for method in (*named, plain):
            rows = [
                row
                for row in results["rows"]
                if (row["model"], row["text"]) == ("reference", "code")
                and (row["unit"], row["level"], row["method"]) == (unit, level, method)
            ]
            found = [100 * (row["perplexity"] / row["dense"] - 1) for row in rows]
            cells.append(f"{statistics.mean(found):.2f}")
        assert f"| {title} | {' | '.join(cells)} |" in text


def test_the_table_of_speed_is_what_was_measured():
    summary = json.loads((README.parent / "benchmarks/results/scan.json").read_text("utf-8"))
    text = EVIDENCE.read_text(encoding="utf-8")
    for key, row in {
        "scan_fwd_vs_loop": "scan forward | transformers' loop",
        "scan_fwd_vs_mambapy": "scan forward | mambapy",
        "scan_fwd_vs_compiled": "scan forward | compiled torch",
        "scan_fwdbwd_vs_mambapy": "scan forward and backward | mambapy",
        "hf_train_vs_default": "training step, four layers, length 1,024 | transformers' default",
        "hf_train_vs_mambapy": "training step, four layers, length 1,024 | mambapy",
        "generate_vs_default": "`generate`, 130M shape | transformers' default",
    }.items():
        ratios = [summary["summary"][key + suffix] for suffix in ("", "_tuned")]
        cells = [f"{ratio:.{0 if ratio >= 10 else 1}f}" for ratio in ratios]
        assert f"| {row} | {' | '.join(cells)} |" in text
