"""Sound examples of what commands keep for later: lines, profiles, states, stages, receipts."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import shutil
from argparse import Namespace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from fuzz.seed import Read, Seed
from helpers.writers import make_start, words
from helpers.year import make_year
from report.conftest import full
from ssmith.calibrate.store import DirectoryStore
from ssmith.cli.main import _as_ours, main, parser
from ssmith.cli.output import Output
from ssmith.cli.recipe import resolve
from ssmith.core.files import read_json
from ssmith.core.preparation import Preparation, PrepareConfig
from ssmith.core.receipt import Receipt
from ssmith.core.selective import BlockRecord
from ssmith.cycle import read_cycle
from ssmith.dashboard.reading import read_story
from ssmith.dashboard.site import render
from ssmith.families.state import SiteState
from ssmith.recordings import new_rows, prepare
from ssmith.release.evidence import read_paper
from ssmith.release.keys import read_key
from ssmith.release.line import Line
from ssmith.release.policy import Policy, Promote, Slices, read_policy
from ssmith.release.verify import verify
from ssmith.report import write_report
from ssmith.serving.parts import KeptParts, PartFacts
from ssmith.watch.profile import Profile
from ssmith.watch.stream import Stream

_TUNE = "tune series --method state-offset-y --data data.npz --steps 4 --out tuned"
_PILOT = (
    "pilot series --data data.npz --samples 4 --at 0.25,0.5 --baselines random "
    "--max-loss '99 points' --speed-seconds 0.001 --resume --out pilot"
)
_TRIAL = "trial series small --data rows.jsonl --state state"
_CUT = {
    "command": "prune", "model": "series", "batch_size": 4,
    "cuts": [{"unit": "state", "sparsity": 0.33, "method": "last", "targets": [], "seed": 0}],
    "calibration": {"data": "data.npz", "samples": None, "length": None, "split": "train"},
}  # fmt: skip
_MADE = (
    _TUNE, _PILOT, _TRIAL,
    "compare series small --data data.npz --speed-seconds 0.001 --out compared",
    "audit series small --data data.npz --out audit",
    "canary small --requests 4 --longest 4 --out canary",
)  # fmt: skip


def kept(root: Path) -> dict[str, Seed]:
    """Make all examples below a directory."""
    place = root / "start"
    place.mkdir()
    make_start(place, _run, [*_MADE, "watch watched"])
    for command in _MADE:
        assert _run(words(command, place), place) in (0, 1), command
    (place / "r.yaml").write_text(json.dumps(_CUT))
    return {
        **_commands(place), **_receipts(place), **_lines(root, place), **_states(root, place),
        **_recordings(root, place),
    }  # fmt: skip


def _commands(place: Path) -> dict[str, Seed]:
    """Directories in which a command goes on."""

    def given(command: str) -> Read:
        return lambda where: _raising(shlex.split(command), where)

    watch = "watch watched --data today.npz --speed-seconds 0"

    return {
        "watch": Seed(place, given(watch), below="watched"),
        "trial": Seed(place, given(_TRIAL), ("trial.json", "rows.jsonl")),
        "pilot": Seed(place, given(_PILOT), below="pilot/stages"),
        "recipe.yaml": Seed(place, given("prune --recipe r.yaml --dry-run"), ("r.yaml",)),
    }


def _receipts(place: Path) -> dict[str, Seed]:
    """Receipts of every kind, as the report reads them."""

    def report(path: Path) -> object:
        return write_report(Receipt.load(path), path.parent / "report")

    full().save(place.parent / "full.json")
    found = {"receipt full": Seed(place.parent / "full.json", report)}
    for name in ("tuned", "pilot", "compared", "audit", "canary"):
        found[f"receipt {name}"] = Seed(place / name / "receipt.json", report)
    return found


def _lines(root: Path, place: Path) -> dict[str, Seed]:
    (root / "years").mkdir()
    make_year(root / "years" / "line", root / "years" / "models")
    promote = Promote(
        max_loss="1 points", slices=Slices(column="site", max_loss="2 %"), parity=True,
    )  # fmt: skip
    (root / "policy.toml").write_text(Policy(promote=promote).as_toml())

    def line(path: Path) -> object:
        opened = Line.open(path)
        return opened.versions(), opened.live, verify(opened)

    def key(path: Path) -> object:
        path.chmod(0o600)
        return read_key(path)

    def site(path: Path) -> object:
        return render([read_story(path)], "en")

    return {
        "kept line": Seed(root / "years" / "line", line),
        "dashboard": Seed(root / "years" / "line", site),
        "policy.toml": Seed(root / "policy.toml", read_policy),
        "cycle.toml": Seed(place / "cycle.toml", read_cycle),
        "own.key": Seed(place / "own.key", key),
        "paper": Seed(place / "small" / "receipt.json", read_paper),
    }


def _recordings(root: Path, place: Path) -> dict[str, Seed]:
    """Tables and sounds, and how rows were made of them."""
    whole = PrepareConfig()
    config = PrepareConfig(task="classification", sequence="name", label=("y",), time="t")
    made = prepare(place / "table.csv", config).preparation
    (root / "preparation.json").write_text(json.dumps(made.as_dict()))

    def preparation(path: Path) -> object:
        return new_rows(Preparation.from_dict(read_json(path), path.name), place / "table.csv")

    found = {
        "table.csv": Seed(place / "table.csv", lambda path: prepare(path, config)),
        "preparation": Seed(root / "preparation.json", preparation),
    }
    if find_spec("soundfile"):
        found["sounds"] = Seed(_sounds(root / "sounds"), lambda path: prepare(path, whole))
    return found


def _sounds(place: Path) -> Path:
    """Make a directory of short sounds of two kinds."""
    place.mkdir()
    for number in range(8):
        label = place / "ab"[number % 2]
        label.mkdir(exist_ok=True)
        wave = np.sin(np.arange(1600) * (1 + number % 2) / 10)
        import_module("soundfile").write(label / f"{number}.wav", wave, 8000)
    return place


def _states(root: Path, place: Path) -> dict[str, Seed]:
    profile = next((place / "watched" / "profiles").rglob("profile.json")).parent
    shutil.copytree(profile, root / "profile")
    sites = ["a", "b"]

    def store(path: Path) -> DirectoryStore:
        return DirectoryStore(directory=path, identity={"seed": 0}, sites=sites)

    def work(path: Path) -> object:
        held = store(path)
        held.open()
        flows = held.read(1, "0") if held.holds(1, ["0"]) else None
        return flows, [held.outcome(site) for site in sites[: held.finished()]]

    def profiled(path: Path) -> object:
        return Profile.load(path).files(), Stream.load(path, None).windows()

    def parts(path: Path) -> object:
        kept = KeptParts(path / "out.csv")
        done = kept.open({"seed": 0}, overwrite=False)
        kept.finish(None)
        return done

    (root / "answers").mkdir()
    kept = KeptParts(root / "answers" / "out.csv")
    kept.open({"seed": 0}, overwrite=False)
    for rows in (2, 4):
        table = import_module("pyarrow").table({"row": ["a", "b"], "value": [1.5, 2.5]})
        kept.add(table, PartFacts(rows=rows, labelled=rows, sums={"right": 1.0}))
    (root / "work").mkdir()
    held = store(root / "work")
    held.open()
    held.write(1, "0", [torch.ones(2, 3)])
    state = SiteState(
        tensors={"w": torch.ones(3)}, masks={"m": torch.ones(3).bool()}, fills={"m": 0.0}
    )
    record = BlockRecord(
        layer="a", stage="s", keep={"state": torch.ones(3).bool()}, facts={"steps": 1.0}
    )
    for site in sites:
        held.finish(site, state, [record])
    return {
        "profile": Seed(root / "profile", profiled),
        "work": Seed(root / "work", work),
        "answers": Seed(root / "answers", parts),
    }


def _run(given: list[str], place: Path) -> int:
    """Run a command line in a directory, quietly."""
    with contextlib.chdir(place), contextlib.redirect_stdout(io.StringIO()):
        return main([*given, "--quiet"])


def _raising(given: list[str], place: Path) -> object:
    """Run a command line as `main` does, but let its errors out."""
    arguments = Namespace()
    with (
        contextlib.chdir(place),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        try:
            parser().parse_args([*given, "--quiet"], arguments)
            resolve(arguments)
            arguments.command_line = ("ssmith", *given)
            return arguments.run(arguments, Output(as_json=False, quiet=True))
        except (Exception, KeyboardInterrupt) as error:
            raise _as_ours(error) from error
