"""Kill every command that writes at random moments, run it again, and compare bytes.

``python benchmarks/kills.py --points 20 --out benchmarks/results/kills.json``

Half of the moments are drawn over the measured time of a whole run, half among its operations on
files, before which the process kills itself. Afterwards the same command is given again. What two
undisturbed runs leave with the same bytes must have these bytes then; what differs between them
(times) must be there, with the values that both have in common. What is done already stays done,
and a kept file goes on to be used: a run that was killed once is continued and killed again.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import importlib
import json
import math
import os
import pkgutil
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.figure
import torch
from transformers.models.mamba import modeling_mamba

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import ssmith  # noqa: E402
from helpers.dying import ended, start  # noqa: E402
from helpers.writers import TOGETHER, WRITES, make_start, words  # noqa: E402
from ssmith.core.directories import MANIFEST, listed_in, manifest_of  # noqa: E402
from ssmith.core.files import is_scrap, write_json  # noqa: E402
from ssmith.release import verify as release_verify  # noqa: E402
from ssmith.release.line import Line  # noqa: E402
from ssmith.serving import long  # noqa: E402

LOADED = (matplotlib.figure, modeling_mamba)
"""Loaded once, before the forks."""
CASES = {label: command for forms in WRITES.values() for label, command in forms.items()}
FINE = (
    "equal",
    "done before the kill",
    "not killed in time",
)
ASKED, FEWEST = 20, 6
_FILES = sorted((ROOT / "src" / "ssmith").rglob("*.py"))
SOURCES = hashlib.sha256(b"".join(item.read_bytes() for item in _FILES)).hexdigest()[:12]
"""Of the code that was killed."""
TIMED = {"speed", "saving", "verdict", "findings", "changes", "measured"}
"""Keys of receipts under which all may hang on what was timed, or measured of the machine."""
_LINE = "line.json"

# Every part is kept as it comes: of so few rows none would be, and nothing gone on from.
long._PAUSE = 0.0

State = dict[str, Any]


def state(place: Path) -> State:
    """Return what lies at a place: bytes of files, and of lines what they say."""
    lines = [item.parent for item in place.rglob(_LINE)]
    found: State = {str(line.relative_to(place)): _of_line(line) for line in lines}
    for item in sorted(place.rglob("*")):
        inside = any(line in item.parents for line in lines)
        if not inside and item.is_file():
            found[item.relative_to(place).as_posix()] = item.read_bytes()
    return found


def _of_line(path: Path) -> list[Any]:
    """Return what a line says, versions and digests as they come."""
    line = Line.open(path)
    names: dict[str, int] = {}
    entries = [
        [item.action, names.setdefault(item.version or "", len(names)), len(item.receipts)]
        for item in line.entries()
    ]
    live = "" if line.live is None else line.live.digest
    rooms = sorted(item.relative_to(path).parts[0] for item in path.rglob("*"))
    return [entries, names.get(live), release_verify.verify(line).passed, Counter(rooms)]


def differs(found: State, first: State, second: State) -> str:
    """Return where a state is not that of two undisturbed runs, as far as they are alike."""
    for name in first.keys() & second.keys():
        if name not in found:
            return f"{name} is missing"
        if found[name] == first[name] or name.endswith(MANIFEST):
            # A manifest is held against its files elsewhere; here and there a time has more digits.
            continue
        if first[name] == second[name]:
            return name
        leaves = [_leaves(item[name]) for item in (found, first, second)]
        for key in leaves[1].keys() & leaves[2].keys():
            if TIMED & set(key.split(".")):
                continue
            if leaves[1][key] == leaves[2][key] != leaves[0].get(key):
                return f"{name}: {key} is {leaves[0].get(key)}, not {leaves[1][key]}"
    more = found.keys() - first.keys() - second.keys()
    return f"{min(more)} is more" if more else ""


def _leaves(content: Any) -> dict[str, Any]:
    """Return the values in a file of JSON by their keys; none of another file."""
    try:
        open_ = {"": json.loads(content)}
    except (TypeError, ValueError):
        return {}
    found = {}
    while open_:
        key, value = open_.popitem()
        inner = value if isinstance(value, dict) else dict(enumerate(value)) \
            if isinstance(value, list) else None  # fmt: skip
        if inner is None:
            found[key] = value
        else:
            open_ |= {f"{key}.{name}": item for name, item in inner.items()}
    return found


def half_written(place: Path) -> str:
    """Return the first output with a manifest that is not what that lists; lines verify theirs."""
    lines = [item.parent for item in place.rglob(_LINE)]
    for manifest in place.rglob(MANIFEST):
        inside = any(map(is_scrap, manifest.relative_to(place).parts))
        inside |= any(line in manifest.parents for line in lines)
        if not inside and listed_in(manifest.parent) != manifest_of(manifest.parent)["files"]:
            return str(manifest.parent.relative_to(place))
    return ""


class Killer:
    """One form of a command, from one start, with what undisturbed runs of it leave."""

    def __init__(self, label: str, begin: Path, room: Path) -> None:
        self.label, self.begin = label, begin
        self.place, self.said = room / "place", room / "said.txt"
        self.words = words(CASES[label], begin)
        self.processes = 2 if label in TOGETHER else 1
        self.whole, self.codes = [], []
        for _ in range(2):
            self.clear()
            # Receipts tell seconds: two runs within one would have the same by chance.
            time.sleep(1 - time.time() % 1)
            begun = time.monotonic()
            self.codes.append(ended(self.start(self.words)))
            self.seconds = time.monotonic() - begun
            self.whole.append(state(self.place))
        text = self.said.read_text()
        assert self.codes in ([0, 0], [1, 1]), f"{label}: {self.codes} {text}"
        self.events: list[str] = json.loads(text.splitlines()[-1])

    def start(self, command: list[str], kill_at: int | None = None) -> int:
        """Start the command, in as many processes as the form has; return the first one's id."""
        return start(command, self.place, self.said, kill_at, self.processes)

    def clear(self) -> None:
        """Begin anew."""
        shutil.rmtree(self.place, ignore_errors=True)
        shutil.copytree(self.begin, self.place, symlinks=True)

    def points(self, count: int, draw: random.Random) -> list[tuple[str, float]]:
        """Draw moments: half of them in time, half among operations on files."""
        timed = [("time", draw.uniform(0, self.seconds)) for _ in range(count // 2)]
        few = count - len(timed)
        order = list(range(len(self.events)))
        chosen = draw.sample(order, few) if few <= len(order) else draw.choices(order, k=few)
        return timed + [("operation", float(place)) for place in chosen]

    def kill(self, how: str, at: float) -> dict[str, Any]:
        """Kill the command at a moment, give it again, and say how that ended."""
        self.clear()
        child = self.start(self.words, int(at) if how == "operation" else None)
        if how == "time":
            time.sleep(at)
            os.kill(child, signal.SIGKILL)
        killed = ended(child) == -signal.SIGKILL
        said: dict[str, Any] = {"how": how, "at": round(at, 3)}
        if how == "operation":
            said["before"] = self.events[int(at)]
        if broken := half_written(self.place):
            return said | {"end": "half-written", "why": broken}
        end, why = self.again()
        if not killed and end in FINE:
            end = "not killed in time"
        return said | {"end": end} | ({"why": why} if why else {})

    def again(self) -> tuple[str, str]:
        """Give the command again after a kill, and say how that ended."""
        if self.is_whole():
            return "done before the kill", ""
        given = self.words
        code = ended(self.start(given))
        if code == 2 and "already exists" in self.said.read_text():
            given = [*self.words, "--overwrite"]
            code = ended(self.start(given))
        if code == 2 and self.is_whole():
            # Refused, as it is done: what was killed is finished by whoever comes next.
            return "done before the kill", ""
        if code != self.codes[0]:
            lines = self.said.read_text().splitlines()
            why = next((line[:300] for line in lines if "error:" in line), "")
            return ("refused" if code == 2 else f"code {code}"), why
        if broken := half_written(self.place):
            return "half-written", f"{broken}, after the command was given again"
        other = differs(state(self.place), *self.whole)
        return ("other bytes", other) if other else ("equal", "")

    def is_whole(self) -> bool:
        """Return whether all is there already, and nothing else."""
        try:
            return not differs(state(self.place), *self.whole)
        except Exception:
            return False


def run(label: str, begin: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Kill one form of a command at so many moments, or fewer if it takes long."""
    with tempfile.TemporaryDirectory() as name:
        killer = Killer(label, begin, Path(name))
        draw = random.Random(f"{given.seed} {label}")
        points = int(min(given.points, max(FEWEST, given.budget / killer.seconds)))
        tries = [killer.kill(*point) for point in killer.points(points, draw)]
    return {
        "seconds": round(killer.seconds, 3), "operations": len(killer.events), "tries": tries,
        "seed": given.seed,
    }  # fmt: skip


def prepared(begin: Path, labels: list[str]) -> None:
    """Make what the commands start from."""

    def at_once(command: list[str], place: Path) -> int:
        said = begin.parent / "made.txt"
        code = ended(start(command, place, said))
        if code not in (0, 1):
            print(said.read_text(), file=sys.stderr)
        return code

    begin.mkdir()
    make_start(begin, at_once, [CASES[label] for label in labels])


def start_all(
    run: Callable[[str, Path, argparse.Namespace], dict[str, Any]], parser: argparse.ArgumentParser
) -> int:
    """Try all forms that are asked for, in several processes; return 1 if one ends badly."""
    parser.add_argument("--only", nargs="*", default=list(CASES))
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, help="what it holds of other forms is kept")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for module in pkgutil.walk_packages(ssmith.__path__, "ssmith."):
        if not module.name.endswith("__main__"):
            with contextlib.suppress(ImportError):
                importlib.import_module(module.name)
    with tempfile.TemporaryDirectory() as name:
        begin = Path(name) / "start"
        prepared(begin, given.only)
        given.out = given.out or Path(name) / "found.json"
        children = []
        for rank in range(given.processes):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    code = _all(run, begin, given, given.only[rank :: given.processes])
                finally:
                    os._exit(code)
            children.append(child)
        return max(map(ended, children))


def _all(run: Any, begin: Path, given: argparse.Namespace, labels: list[str]) -> int:
    """Try some forms one after the other."""
    code = 0
    for label in labels:
        try:
            found = run(label, begin, given)
        except Exception:
            traceback.print_exc()
            code = 1
            continue
        ends = Counter(item["end"] for item in found["tries"])
        print(label, dict(ends), flush=True)
        known = {"command": CASES[label], "ends": ends, "sources": SOURCES}
        _keep(given.out, label, known | found)
        code |= any(end not in FINE for end in ends)
    return code


def _keep(out: Path, label: str, found: dict[str, Any]) -> None:
    """Write one form into the file, beside those that are in it."""
    lock = os.open(out.parent, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    held = json.loads(out.read_text()) if out.is_file() else {}
    forms = {**held.get("forms", {}), label: found}
    ends = sum((Counter(item["ends"]) for item in forms.values()), Counter())
    few = {name: len(item["tries"]) for name, item in forms.items() if len(item["tries"]) < ASKED}
    content = {
        "tries": sum(ends.values()), "ends": ends, "forms": forms, "asked_of_each": ASKED,
        "fewer_for_want_of_time": few, "not_tried": sorted(set(CASES) - set(forms)),
    }  # fmt: skip
    write_json(out, content)
    os.close(lock)


if __name__ == "__main__":
    own = argparse.ArgumentParser(description=__doc__)
    own.add_argument("--points", type=int, default=ASKED)
    own.add_argument("--seed", type=int, default=0)
    own.add_argument(
        "--budget", type=float, default=math.inf,
        help=f"seconds of a form's undisturbed runs, after which it gets fewer points, {FEWEST} at "
        "least",
    )  # fmt: skip
    sys.exit(start_all(run, own))
