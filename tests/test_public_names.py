"""The public names: pinned, there, and documented."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import ssmith

PUBLIC = [
    "Budget",
    "Line",
    "LiveTrial",
    "Metric",
    "PathParityConfig",
    "PilotConfig",
    "Plan",
    "Policy",
    "Receipt",
    "Recipe",
    "SsmithError",
    "Target",
    "Task",
    "TuneConfig",
    "Watch",
    "__version__",
    "adapt_",
    "adapters",
    "attribute",
    "check_paths",
    "compare",
    "criteria",
    "evaluate",
    "fine_tune",
    "inspect",
    "load",
    "load_adapter_",
    "load_data",
    "load_text",
    "merge_adapter_",
    "parity",
    "pilot",
    "plan",
    "predict",
    "prune_",
    "register",
    "rows",
    "save",
    "save_adapter",
    "stream",
    "train",
    "verify",
    "write_report",
]
CRITERIA = ["AIRE", "LAMP", "LAST", "Criterion", "Hinf", "Magnitude", "Random", "StateOBS"]


def test_no_name_came_or_went_unnoticed():
    assert sorted(ssmith.__all__) == sorted(PUBLIC)
    assert len(set(ssmith.__all__)) == len(ssmith.__all__)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_name_is_there_and_documented(name):
    thing = getattr(ssmith, name)
    if name != "__version__":
        assert inspect.getdoc(thing), f"{name} has no docstring"


@pytest.mark.parametrize("name", ssmith.adapters.__all__)
def test_every_name_of_the_adapters_is_documented(name):
    assert inspect.getdoc(getattr(ssmith.adapters, name))


@pytest.mark.parametrize("name", CRITERIA)
def test_every_criterion_is_public_and_documented(name):
    assert name in ssmith.criteria.__all__
    assert inspect.getdoc(getattr(ssmith.criteria, name))


def test_completion_offers_the_list():
    assert dir(ssmith) == sorted(PUBLIC)
    with pytest.raises(AttributeError, match="'prune'"):
        _ = ssmith.prune


def test_each_name_is_what_a_type_checker_takes_it_for():
    """The catalogue says twice where a name comes from: lazily, and to type checkers."""
    tree = ast.parse(Path(ssmith.__file__).read_text(encoding="utf-8"))
    (guard,) = [node for node in tree.body if isinstance(node, ast.If)]
    said = {
        alias.name: getattr(importlib.import_module(node.module), alias.name)
        for node in guard.body
        for alias in node.names
    }
    assert {*said, "__version__"} == set(PUBLIC)
    for name, thing in said.items():
        assert getattr(ssmith, name) is thing


def test_importing_the_package_does_not_import_torch():
    code = "import ssmith, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
