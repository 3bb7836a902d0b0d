"""Settings from JSON and back: every type is kept to, every unknown key refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from ssmith.core.checks import check_integer
from ssmith.core.errors import ArtefactError, InputError
from ssmith.core.settings import (
    from_mapping,
    read_settings,
    read_typed,
    to_mapping,
    to_yaml,
)


@dataclass(frozen=True)
class Pair:
    """A value that is written as ``2:4``."""

    keep: int
    of: int

    @classmethod
    def from_plain(cls, value):
        return cls(*map(int, value.split(":")))

    def as_plain(self):
        return f"{self.keep}:{self.of}"


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 1.0
    names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Outer:
    steps: int
    title: str = ""
    flag: bool = False
    inner: Inner = field(default_factory=Inner)
    maybe: Inner | None = None
    amount: float | int | Pair = 0.5
    kind: Literal["a", "b"] = "a"
    states: tuple[int | tuple[int, ...], ...] = ()
    span: tuple[float, float] = (0.9, 0.999)
    rates: Mapping[str, float] = field(default_factory=dict)
    path: Path | None = None
    free: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        check_integer("steps", self.steps, at_least=1)


FULL = Outer(
    steps=3,
    title="t",
    flag=True,
    inner=Inner(rate=0.25, names=("x", "y")),
    maybe=Inner(),
    amount=Pair(2, 4),
    kind="b",
    states=(4, (1, 2)),
    span=(0.5, 1.0),
    rates={"lora": 2.0},
    path=Path("a/b"),
    free={"any": [1, {"x": None}]},
)


@pytest.mark.parametrize("config", [FULL, Outer(steps=1)], ids=["full", "defaults"])
def test_what_goes_out_comes_back(config):
    content = json.loads(json.dumps(to_mapping(config)))
    assert from_mapping(Outer, content, where="here") == config


def test_plain_values_are_json():
    assert to_mapping(FULL)["amount"] == "2:4"
    assert to_mapping(FULL)["states"] == [4, [1, 2]]
    assert to_mapping(FULL)["path"] == "a/b"
    with pytest.raises(InputError, match="no form in JSON"):
        to_mapping(Outer(steps=1, free={"x": object()}))


@pytest.mark.parametrize(("given", "type_"), [(1, int), (0.5, float), ("2:4", Pair)])
def test_a_union_keeps_the_type_that_was_given(given, type_):
    assert type(from_mapping(Outer, {"steps": 1, "amount": given}, where="here").amount) is type_


def test_an_integer_is_a_number():
    made = from_mapping(Inner, {"rate": 2}, where="here")
    assert made.rate == 2.0
    assert type(made.rate) is float


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": 1.0}, "here: steps is 1.0; allowed: an integer"),
        ({"steps": True}, "here: steps is True; allowed: an integer"),
        ({"steps": "1"}, "here: steps is '1'; allowed: an integer"),
        ({"steps": 0}, "here: steps is 0; allowed: an integer ≥ 1"),
        ({"steps": 1, "title": 3}, "here: title is 3; allowed: a text"),
        ({"steps": 1, "flag": 1}, "here: flag is 1; allowed: true or false"),
        (
            {"steps": 1, "inner": {"names": "x"}},
            "here: inner.names is 'x'; allowed: a list of a text",
        ),
        ({"steps": 1, "inner": {"rate": None}}, "here: inner.rate is None; allowed: a number"),
        ({"steps": 1, "inner": 3}, "here: inner is 3; allowed: a mapping of rate, names"),
        ({"steps": 1, "inner": {"rte": 1}}, "unknown setting 'rte'.*did you mean 'rate'"),
        ({"steps": 1, "kind": "c"}, "here: kind is 'c'; allowed: 'a', 'b'"),
        ({"steps": 1, "span": [1]}, "here: span has 1 values; allowed: 2"),
        ({"steps": 1, "states": [4, ["x"]]}, r"states\[1\] is \['x'\]"),
        ({"steps": 1, "rates": {"lora": "x"}}, r"here: rates.lora is 'x'; allowed: a number"),
        ({}, "here lacks steps.*next: add steps"),
        ({"step": 1}, "here has unknown setting 'step'.*did you mean 'steps'"),
        ([1], "here is"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(given, message):
    with pytest.raises(InputError, match=message):
        from_mapping(Outer, given, where="here")


def test_what_is_decided_elsewhere_is_no_setting():
    assert from_mapping(Outer, {}, where="here", decided={"steps": 2}).steps == 2
    with pytest.raises(InputError, match="unknown setting 'steps'"):
        from_mapping(Outer, {"steps": 1}, where="here", decided={"steps": 2})


@pytest.mark.parametrize("name", ["a.json", "a.yaml", "a.yml"])
def test_files_are_read(tmp_path, name):
    path = tmp_path / name
    path.write_text('{"rate": 2e-4, "names": ["1e-3x"]}', encoding="utf-8")
    assert read_settings(path) == {"rate": 2e-4, "names": ["1e-3x"]}


@pytest.mark.parametrize(
    ("text", "value"),
    [("2:4", "2:4"), ("2e-4", 2e-4), ("010", "010"), ("1_000", "1_000"), (".5", 0.5), ("-3", -3)],
)
def test_numbers_are_those_of_yaml_1_2(tmp_path, text, value):
    path = tmp_path / "a.yaml"
    path.write_text(f"x: {text}", encoding="utf-8")
    found = read_settings(path)["x"]
    assert (found, type(found)) == (value, type(value))


def test_what_is_written_as_yaml_is_read_again(tmp_path):
    path = tmp_path / "a.yaml"
    content = {"a": "2:4", "b": 2e-4, "c": ["1e5", "true", "1", None], "d": {"e": True}}
    path.write_text(to_yaml(content), encoding="utf-8")
    assert read_settings(path) == content
    assert list(read_settings(path)) == list(content)


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("a.yaml", "rate: 1\nrate: 2", ArtefactError, "'rate' stands there twice"),
        ("a.yaml", "rate: [1", ArtefactError, "cannot read"),
        ("a.yaml", "- 1", InputError, "it holds a list"),
        ("a.json", "{", ArtefactError, "line 1, column 2"),
        ("a.toml", "", InputError, "a .json, .yaml or .yml file"),
    ],
)
def test_other_files_are_refused(tmp_path, name, content, error, message):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(error, match=message):
        read_settings(path)


@dataclass(frozen=True, kw_only=True)
class Written:
    name: str
    steps: tuple[int, ...] = ()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"name": 3}, "name is 3"),
        ({"name": "a", "steps": [1, "2"]}, r"steps\[1\] is '2'"),
        ({"name": "a", "stepz": []}, "unknown setting 'stepz'"),
        ({}, "lacks name"),
        ([], "a mapping of name, steps"),
        ({"name": "a", "steps": "x" * 9000}, "steps is 'xxx"),
    ],
)
def test_a_file_of_ours_that_was_changed_is_restored_not_corrected(tmp_path, content, said):
    path = tmp_path / "ours.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ArtefactError, match=said) as caught:
        read_typed(Written, path, next_step="write it again")
    assert len(str(caught.value)) < 3000
    path.write_text('{"name": "a", "steps": [1, 2]}')
    assert read_typed(Written, path, next_step="") == Written(name="a", steps=(1, 2))
