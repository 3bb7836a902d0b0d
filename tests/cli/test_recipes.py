"""``--recipe``: a file says what flags say, flags go before it, and results hold their own."""

import json
from pathlib import Path

import pytest

from helpers.commands import words_of
from ssmith.cli.generated import in_words, settings_of
from ssmith.cli.main import parser
from ssmith.core.settings import read_settings

COMPARE = ("compare", "model", "model", "--data", "data.npz", "--speed-seconds", "0.01")


def write(name, text):
    Path(name).write_text(text, encoding="utf-8")
    return name


@pytest.mark.parametrize(
    "text",
    [
        "model: model\ndata: data.npz\nmetric: cross-entropy\nbatch_size: 3\n",
        "command: eval\nmodel: model\ndata: data.npz\nmetric: cross-entropy\nbatch-size: 3\n",
        '{"model": "model", "data": "data.npz", "metric": "cross-entropy", "batch_size": 3}',
    ],
)
def test_a_recipe_says_what_flags_say(place, ssmith, text):
    name = write("r.json" if text.startswith("{") else "r.yaml", text)
    found = ssmith("eval", "--recipe", name, "--json")
    assert (found.code, found.err) == (0, "")
    flags = ("--data", "data.npz", "--metric", "cross-entropy", "--batch-size", "3")
    assert found.document == ssmith("eval", "model", *flags, "--json").document
    assert found.document["metric"] == "cross-entropy"


def test_flags_go_before_the_recipe(place, ssmith):
    write("r.yaml", "data: nowhere.npz\nmetric: cross-entropy\n")
    found = ssmith(
        "eval", "model", "--recipe", "r.yaml", "--data", "data.npz", "--metric", "accuracy",
        "--json",
    )  # fmt: skip
    assert found.document["metric"] == "accuracy"


@pytest.mark.parametrize(
    ("words", "text", "said"),
    [
        (("eval", "model"), "metrc: rmse\ndata: data.npz\n", "did you mean 'metric'"),
        (("eval", "model"), "data: 3\n", "data is 3; allowed: a text"),
        (("eval", "model"), "data: data.npz\nbatch_size: '3'\n", "allowed: an integer"),
        (("eval", "model"), "command: prune\n", "is a recipe of `ssmith prune`"),
        (("eval", "model"), "data: data.npz\nlength: 8\n", "length is for language models"),
        (("eval", "model"), "data: data.npz\nout: x\n", "unknown setting 'out'"),
        (("inspect", "model"), "depth: 3\n", "unknown setting 'depth'"),
        (("inspect",), "{}", "MODEL is missing"),
        (("eval", "model"), "- 1\n", "no mapping of settings"),
        (("tune", "model", "--out", "t"), "methods: [bitfit]\ndata: data.npz\nsteps: 3\n"
         "training: {steps: 2}\n", "holds steps and training.steps"),
    ],
)  # fmt: skip
def test_a_recipe_that_does_not_fit_is_refused(place, ssmith, words, text, said):
    write("r.yaml", text)
    ended = ssmith(*words, "--recipe", "r.yaml")
    assert ended.code == 2
    assert said in ended.err
    assert ended.err.count("\n") == 1


def test_a_comparison_holds_its_recipe(place, ssmith):
    assert ssmith(*COMPARE, "--seed", "3", "--out", "page").code == 0
    held = read_settings(place / "page" / "recipe.yaml")
    assert held["command"] == "compare"
    assert (held["before"], held["after"], held["data"], held["seed"]) == (
        "model", "model", "data.npz", 3,
    )  # fmt: skip
    again = ssmith("compare", "--recipe", "page/recipe.yaml", "--out", "again")
    assert (again.code, again.err) == (0, "")
    first, second = (
        json.loads((place / name / "receipt.json").read_text())["quality"]
        for name in ("page", "again")
    )
    assert first == second
    assert read_settings(place / "again" / "recipe.yaml") == held


def test_other_tools_words_lead_to_ours(place, ssmith):
    for words, said in (
        (("eval", "model", "--tasks", "piqa"), "did you mean --lm-eval?"),
        (("eval", "model", "--max-seq-length", "3"), "did you mean --length?"),
        (("tune", "model", "--learning_rate", "3"), "did you mean --rate?"),
        (("inspect", "model", "--sparsity", "0.5"), "that is --cut of `ssmith prune`"),
    ):
        ended = ssmith(*words)
        assert ended.code == 2
        assert said in ended.err


SOURCE = '''"""A module."""
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

MANY = 3
Kind = Literal["a", "b"]


@dataclass
class Config:
    """Some settings.

    Args:
        count: how many, ``"x"`` or
            more; all if None.
        share: of it, in (0, 1); None for none. And so on.
        kind: which.
        names: of them.
        size: of each.
        on: whether.

    Raises:
        InputError: never.
    """

    count: int | None = None
    share: float | None = None
    kind: Kind = "a"
    names: tuple[str, ...] = ("p", "q")
    size: int = MANY
    on: bool = True
'''


def test_a_config_is_read_from_its_source(tmp_path, monkeypatch):
    (tmp_path / "some.py").write_text(SOURCE, encoding="utf-8")
    monkeypatch.setattr("ssmith.cli.generated._ROOT", tmp_path)
    found = settings_of("ssmith.some:Config")
    assert [in_words(item) for item in found.values()] == [
        "how many, x or more (default: all)",
        "of it, in (0, 1). And so on (default: none)",
        "which (default: a)",
        "of them (default: p,q)",
        "of each (default: 3)",
        "whether",
    ]
    assert found["kind"].choices == ("a", "b")
    assert found["names"].kinds == ("str…",)
    assert found["count"].optional
    assert found["on"].default is True


@pytest.mark.parametrize("name", list(words_of(parser())))
def test_every_flag_says_what_it_is(name):
    command = parser().parse_args(name.split()).spec
    actions = command.parser._actions
    assert all(action.help for action in actions)
    keys = [flag.key for flag in command.flags if flag.name.startswith("--")]
    assert len(set(keys)) == len(keys)
