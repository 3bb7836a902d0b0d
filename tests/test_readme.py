"""The README's Python runs as it stands there, and its shell lines name real commands."""

import json
import re
import statistics
from pathlib import Path

import pytest

from ssmith.cli.main import parser

README = Path(__file__).resolve().parent.parent / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S
    )


def test_readme_shows_code_before_line_40():
    lines = README.read_text(encoding="utf-8").splitlines()
    assert lines.index("```python") < 40


def test_every_python_block_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert blocks("python")
    for block in blocks("python"):
        exec(compile(block, str(README), "exec"), {"__name__": "readme"})
    assert "states" in capsys.readouterr().out


def commands() -> list[str]:
    return [
        line for block in blocks("sh") for line in block.splitlines() if line.startswith("ssmith ")
    ]


@pytest.mark.parametrize("line", commands())
def test_every_command_line_is_understood(line):
    parser().parse_args(line.split("#", maxsplit=1)[0].split()[1:])


def test_the_make_targets_exist():
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")
    for name in re.findall(r"make ([\w-]+)", README.read_text(encoding="utf-8")):
        target = "bench-%" if name.startswith("bench-") else name
        assert re.search(rf"^{re.escape(target)}:", makefile, re.M), name


def test_the_table_of_losses_is_what_was_measured():
    results = json.loads((README.parent / "benchmarks/results/lti.json").read_text("utf-8"))
    rows = [row for row in results["quality"] if row["ratio"] == 0.33]
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    text = README.read_text(encoding="utf-8")
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
