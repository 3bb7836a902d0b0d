"""Every flag of every command is read or refused: what is given changes the job or ends it."""

import argparse
import dataclasses
import json
from collections.abc import Mapping

import pytest

from helpers.commands import words_of
from helpers.lines import Shelf
from helpers.receipts import receipt_of
from ssmith.cli import main as door
from ssmith.cli.main import COMMANDS, parser
from ssmith.release.keys import make_key
from ssmith.release.promotion import promote

JOBS = {
    "data": "ssmith.jobs.data.look",
    "inspect": "ssmith.api.load",
    "prune": "ssmith.jobs.prune.prune",
    "eval": "ssmith.jobs.evaluate.evaluate",
    "compare": "ssmith.jobs.compare.compare",
    "predict": "ssmith.serving.job.answer",
    "audit": "ssmith.trials.audit.audit",
    "canary": "ssmith.trials.canary.job.run_canary",
    "trial": "ssmith.trials.follow.follow",
    "pilot": "ssmith.jobs.pilot.pilot",
    "verify": "ssmith.api.verify",
    "parity": "ssmith.jobs.paths.compare_paths",
    "train": "ssmith.jobs.train.train",
    "tune": "ssmith.jobs.tuning.fine_tune",
    "merge": "ssmith.jobs.merge.merge",
    "report": "ssmith.report.write_report",
    "dashboard": "ssmith.dashboard.write_site",
    "cycle": "ssmith.cycle.run_cycle",
    "watch": "ssmith.cli.watch.watching",
    "list": "ssmith.jobs.catalogue.catalogue",
    "release init": "ssmith.release.begin.init",
    "release add": "ssmith.release.adding.keep",
    "release note": "ssmith.release.adding.keep_papers",
    "release parity": "ssmith.cli.release.bringing.check_parity",
    "release promote": "ssmith.release.promotion.promote",
    "release check": "ssmith.release.promotion.rules_for",
    "release rollback": "ssmith.release.promotion.rollback",
    "release history": "ssmith.release.line.Line.entries",
    "release verify": "ssmith.release.verify.verify",
    "release log": "ssmith.cli.output.Output.exactly",
    "release export": "ssmith.release.export.export",
    "release mirror": "ssmith.release.mirror.mirror",
    "release policy": "ssmith.release.consent.change_policy",
    "release sign": "ssmith.release.consent.sign",
    "release key": "ssmith.release.keys.make_key",
}
"""What each command calls in the end."""
NEEDED = {
    "data": ("plant.csv",),
    "inspect": ("model",),
    "prune": ("model", "--cut", "state=0.5", "--out", "out"),
    "eval": ("model", "--data", "data.npz"),
    "compare": ("model", "model", "--data", "data.npz"),
    "predict": ("model", "--data", "data.npz", "--out", "out.csv"),
    "audit": ("model", "model", "--data", "data.npz"),
    "canary": ("model", "--url", "http://127.0.0.1:9"),
    "trial": ("model", "model", "--data", "rows.jsonl", "--state", "state"),
    "pilot": ("model", "--data", "data.npz", "--out", "out"),
    "verify": ("model",),
    "parity": ("model",),
    "train": ("recipe.json", "--out", "out"),
    "tune": ("model", "--method", "state-offset-y", "--data", "data.npz", "--out", "out"),
    "merge": ("model", "--out", "out"),
    "report": ("receipt.json", "--out", "out"),
    "dashboard": ("line", "--out", "out"),
    "cycle": ("line", "--config", "cycle.toml"),
    "watch": ("line", "--data", "data.npz"),
    "list": (),
    "release init": ("other",),
    "release add": ("line", "model"),
    "release note": ("line", "live", "--reason", "because"),
    "release parity": ("line", "live"),
    "release promote": ("line", "live"),
    "release check": ("line", "live"),
    "release rollback": ("line",),
    "release history": ("line",),
    "release verify": ("line",),
    "release log": ("line",),
    "release export": ("line", "live", "--out", "out"),
    "release mirror": ("line", "--uri", "http://127.0.0.1:9"),
    "release policy": ("line", "--set", "policy.toml"),
    "release sign": ("line", "live", "--key", "own.key"),
    "release key": ("--out", "out"),
}
VALUES = {
    "whole": "7",
    "number": "0.377",
    "amount": "0.377",
    "wholes": "7,9",
    "numbers": "0.377,0.4",
    "words": "first,second",
    "Path": "new",
    "str": "word",
    "int": "7",
    "seconds_of": "7m",
}
# The command line itself reads these.
COMMON = ("--json", "--quiet", "--debug", "--help", "-h")


class StopError(Exception):
    """What the job was called with."""


class Code(int):
    """An exit code that knows its error."""

    error: BaseException


class Reading(argparse.Namespace):
    """A namespace that notes what is read of it."""

    noted: set[str] = set()  # noqa: RUF012

    def __getattribute__(self, name):
        if not name.startswith("_"):
            type(self).noted.add(name)
        return super().__getattribute__(name)


def flags_of(name):
    command = parser().parse_args(name.split()).spec
    actions = command.parser._option_string_actions
    return [flag for flag in actions if flag not in COMMON]


def words_for(name, flag):
    action = parser().parse_args(name.split()).spec.parser._option_string_actions[flag]
    if action.nargs == 0:
        return (flag,)
    return (flag, VALUES[getattr(action.type, "__name__", "str")])


ALL = [(name, flag) for name in sorted(JOBS) for flag in flags_of(name)]


def plain(value):
    """Everything a call was given, as text, settings spelt out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items() if key != "command"}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return repr(value) if isinstance(value, str | int | float | bool) else type(value).__name__


def lay_out_a_line(place):
    """A line with a version that is live and one before it, a policy and a key."""
    shelf = Shelf(place)
    for text in ("one", "two"):
        promote(shelf.line, shelf.add(text))
    (place / "policy.toml").write_text("[promote]\nproof = true\n")
    (place / "cycle.toml").write_text('data = "new"\n')
    make_key(place / "own.key")


@pytest.fixture
def called(place, monkeypatch, capsys):
    """Run a command up to its job; return how it ended, and what was read meanwhile."""
    recipe = {
        "data": "data.npz",
        "model": {"family": "s5", "width": 4, "states": [4]},
        "fit": {"epochs": 1},
    }
    (place / "recipe.json").write_text(json.dumps(recipe))
    (place / "new").write_text("{}")
    monkeypatch.setattr("ssmith.core.receipt.Receipt.load", lambda _: receipt_of())
    resolve = door.resolve

    def then_note(arguments):
        resolve(arguments)
        Reading.noted = set()

    monkeypatch.setattr(door, "resolve", then_note)
    monkeypatch.setattr(argparse, "Namespace", Reading)

    def coded(error, *_):
        code = Code(2)
        code.error = error
        return code

    monkeypatch.setattr(door, "_fail", coded)

    def run(name, words):
        if (
            name.startswith(("release", "dashboard", "cycle", "watch"))
            and not (place / "line").exists()
        ):
            lay_out_a_line(place)

        def job(*given, **more):
            raise StopError([plain(given), plain(more)])

        monkeypatch.setattr(JOBS[name], job)
        ended = door.main([*name.split(), *words]).error
        capsys.readouterr()
        return ended, set(Reading.noted)

    return run


@pytest.mark.parametrize(("name", "flag"), ALL, ids=[" ".join(item) for item in ALL])
def test_a_flag_changes_the_job_or_is_refused_by_name(called, name, flag):
    words = words_for(name, flag)
    usual, _ = called(name, NEEDED[name])
    assert isinstance(usual, StopError), usual
    ended, read = called(name, (*NEEDED[name], *words))
    if isinstance(ended, StopError) and ended.args != usual.args:
        return
    own = flag.removeprefix("--").replace("-", "_")
    if isinstance(ended, StopError):
        # Of a place the command itself has seen to it before the job begins; of data that a
        # version's profile is taken on, after it.
        assert own in read, f"{flag} was accepted and changed nothing"
        assert own in ("overwrite", "resume", "out", "serve", "data", "work", "state")
        return
    field = next(
        item.dest for item in parser().parse_args(name.split()).spec.flags if item.name == flag
    )
    said = str(ended)
    assert any(
        word in said for word in (flag, own, field.rpartition(".")[2], words[-1].split(",")[0])
    ), said


def test_every_command_is_tried():
    assert set(JOBS) == set(NEEDED) == set(words_of(parser()))
    assert {name.split()[0] for name in JOBS} == set(COMMANDS)
