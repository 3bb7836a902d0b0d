"""Damage files and read them: nothing but SsmithError, no hang, no more than 2 GB.

``python -m fuzz.run --cases 20000`` in ``tests`` writes what happened to ``--out`` as JSON. Each
case is a line of ``--log``: what was killed goes on there, and ``--again`` runs some anew.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
import transformers

from fuzz.mutate import mutated
from fuzz.seed import Seed
from fuzz.seeds import seeds
from ssmith.core.errors import SsmithError
from ssmith.core.files import write_json

ROOT = Path(__file__).parents[2]
FINE = ("read", "refused")
SECONDS, BYTES = 20, 2 << 30
COSTLY = {"pilot", "watch", "dashboard", "receipt full", "receipt pilot"}
_SELDOM = 4
_CHUNK = 800
_SPACE = 24 << 30
_SOURCES = sorted((ROOT / "src" / "ssmith").rglob("*.py"))
TREE = hashlib.sha256(b"".join(item.read_bytes() for item in _SOURCES)).hexdigest()[:12]
"""Of the code that a case was run with."""

Case = tuple[str, int]


class Hang(BaseException):
    """A reader took longer than it may."""


def run(cases: int, root: Path) -> list[dict[str, object]]:
    """Run so many cases, all examples in turn."""
    found = seeds(root / "sound")
    return [case(number, name, found, root) for name, number in _cases(sorted(found), cases)]


def _cases(names: list[str], count: int) -> list[Case]:
    """Return the first cases: each is decided by the name of its example and its number alone.

    Examples that take a second each come in one round of four.
    """
    rounds = (
        (name, number) for number in itertools.count() for name in names
        if name not in COSTLY or number % _SELDOM == 0
    )  # fmt: skip
    return list(itertools.islice(rounds, count))


def case(number: int, name: str, found: dict, root: Path) -> dict[str, object]:
    """Damage one file of one example, and read it."""
    seed, draw = found[name], random.Random(f"{name} {number}")
    place = root / "case" / seed.place.name
    shutil.rmtree(root / "case", ignore_errors=True)
    place.parent.mkdir(parents=True)
    (shutil.copytree if seed.place.is_dir() else shutil.copyfile)(seed.place, place)
    chosen = draw.choice(seed.files)
    target = place / chosen if chosen else place
    if draw.random() < 0.02 and chosen:
        target.unlink()
    else:
        target.write_bytes(mutated(target.read_bytes(), target.name, draw))
    _forget_peak()
    start, outcome, where = time.monotonic(), "read", ""
    try:
        with _within(SECONDS):
            seed.read(place)
    except SsmithError as error:
        outcome = "refused" if len(str(error)) < 5000 else "long message"
    except Hang:
        outcome = "hang"
    except BaseException as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "/ssmith/" in f.filename]
        outcome = f"{type(error).__name__}: {str(error)[:150]}"
        where = (
            f"{frames[-1].filename.rpartition('/src/')[2]}:{frames[-1].lineno}" if frames else ""
        )
    peak = _peak()
    if peak > BYTES and outcome in FINE:
        outcome = f"{peak >> 20} MiB"
    return {"case": number, "seed": name, "file": chosen, "outcome": outcome, "where": where,
            "seconds": round(time.monotonic() - start, 3), "mib": peak >> 20,
            "tree": TREE}  # fmt: skip


@contextmanager
def _within(seconds: int):
    def stop(*_):
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _forget_peak() -> None:
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def quiet() -> None:
    """Keep libraries from printing, and more memory from being taken than there is."""
    warnings.simplefilter("ignore")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    resource.setrlimit(resource.RLIMIT_AS, (_SPACE, _SPACE))


def main() -> int:
    """Run all cases that the log lacks in processes of a few hundred, and write the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--again", nargs="*", default=[], help="examples, or `faults`")
    parser.add_argument("--log", type=Path, default=ROOT / "build" / "fuzz.jsonl")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "fuzz.json")
    given = parser.parse_args()
    quiet()
    given.log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        found = seeds(Path(place) / "sound")
        _forget(given.log, sorted(found), given.again)
        wanted = _cases(sorted(found), given.cases)
        while left := _left(wanted, given.log):
            chunks = [left[start :: given.processes][:_CHUNK] for start in range(given.processes)]
            children = [(_started(chunk, found, given.log), chunk) for chunk in chunks if chunk]
            for child, chunk in children:
                _, status = os.waitpid(child, 0)
                _note_end(os.waitstatus_to_exitcode(status), chunk, given.log)
            write(given.out, given.log)
    return 1 if write(given.out, given.log) else 0


def _started(cases: list[Case], found: dict[str, Seed], log: Path) -> int:
    """Run some cases in a fork, a line of the log for each."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with tempfile.TemporaryDirectory() as place, log.open("a") as stream:
                for name, number in cases:
                    stream.write(json.dumps(case(number, name, found, Path(place))) + "\n")
                    stream.flush()
            code = 0
        finally:
            # Whatever happens, what the parent has made is not this process's to remove.
            os._exit(code)
    return child


def _note_end(code: int, cases: list[Case], log: Path) -> None:
    """Write down a case at which its process ended."""
    if code:
        name, number = _left(cases, log)[0]
        with log.open("a") as stream:
            item = {"seed": name, "case": number, "file": "", "where": "",
                    "outcome": f"crash {code}", "tree": TREE}  # fmt: skip
            stream.write(json.dumps(item) + "\n")


def _left(wanted: list[Case], log: Path) -> list[Case]:
    known = {_key(item) for item in _read(log)}
    return [item for item in wanted if item not in known]


def _read(log: Path) -> list[dict[str, object]]:
    lines = log.read_text().splitlines() if log.is_file() else []
    return [json.loads(line) for line in lines]


def _key(item: dict[str, object]) -> Case:
    return str(item["seed"]), int(str(item["case"]))


def _forget(log: Path, names: list[str], again: list[str]) -> None:
    """Drop from the log what is to be run again, and examples that are no more."""
    kept = [
        item for item in _read(log)
        if item["seed"] in names and item["seed"] not in again
        and ("faults" not in again or item["outcome"] in FINE)
    ]  # fmt: skip
    log.write_text("".join(json.dumps(item) + "\n" for item in kept))


def write(out: Path, log: Path) -> int:
    """Write counts, and every case that is a fault; return how many these are."""
    found = _read(log)
    said = [(str(i["seed"]), i["outcome"] if i["outcome"] in FINE else "fault") for i in found]
    faults = [item for item in found if item["outcome"] not in FINE]
    summary = {
        "cases": len(found),
        "outcomes": Counter(outcome for _, outcome in said),
        "slowest_seconds": max(float(str(item.get("seconds", 0))) for item in found),
        "most_mib": max(int(str(item.get("mib", 0))) for item in found),
        "by_seed": {name: Counter(o for seed, o in said if seed == name) for name, _ in said},
        "sources": Counter(str(item["tree"]) for item in found),
        "faults": faults,
    }
    write_json(out, summary)
    print(f"{len(found)} cases, {len(faults)} faults", flush=True)
    return len(faults)


if __name__ == "__main__":
    sys.exit(main())
