"""Damage files and read them: nothing but SsmithError, no hang, no more than 2 GB.

``python -m fuzz.run --cases 20000`` in ``tests`` writes what happened to ``--out`` as JSON.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import random
import resource
import shutil
import signal
import subprocess
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
from fuzz.seeds import seeds
from ssmith.core.errors import SsmithError

ROOT = Path(__file__).parents[2]
FINE = ("read", "refused")
SECONDS, BYTES = 20, 2 << 30
_CHUNK = 400
_SPACE = 24 << 30


class Hang(BaseException):
    """A reader took longer than it may."""


def run(first: int, count: int, root: Path) -> list[dict[str, object]]:
    """Run cases ``first`` to ``first + count``; each is decided by its number alone."""
    found = seeds(root / "sound")
    names = sorted(found)
    numbers = range(first, first + count)
    return [case(number, names[number % len(names)], found, root) for number in numbers]


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
            "seconds": round(time.monotonic() - start, 3)}  # fmt: skip


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


def _worker(first: int, count: int, out: Path) -> None:
    quiet()
    faulthandler.enable()
    with tempfile.TemporaryDirectory() as place:
        out.write_text(json.dumps(run(first, count, Path(place))))


def main() -> int:
    """Run all cases in processes of a few hundred, and write the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "fuzz.json")
    parser.add_argument("--worker", type=Path)
    given = parser.parse_args()
    if given.worker:
        _worker(given.first, given.cases, given.worker)
        return 0
    found: list[dict[str, object]] = []
    for first in range(given.first, given.first + given.cases, _CHUNK):
        count = min(_CHUNK, given.first + given.cases - first)
        with tempfile.TemporaryDirectory() as place:
            out = Path(place) / "found.json"
            command = [sys.executable, "-m", "fuzz.run", "--worker", str(out)]
            done = subprocess.run([*command, "--first", str(first), "--cases", str(count)],
                                  capture_output=True, text=True, check=False)  # fmt: skip
            if out.is_file():
                found += json.loads(out.read_text())
            else:
                found.append({"case": first, "outcome": f"crash {done.returncode}",
                              "seed": "", "file": "", "where": done.stderr[-2000:]})  # fmt: skip
        bad = [item for item in found if item["outcome"] not in FINE]
        print(f"{len(found)} cases, {len(bad)} faults", flush=True)
        write(given.out, found)
    return 1 if bad else 0


def write(out: Path, found: list[dict[str, object]]) -> None:
    """Write counts, and every case that is a fault."""
    said = [(str(i["seed"]), i["outcome"] if i["outcome"] in FINE else "fault") for i in found]
    summary = {
        "cases": len(found),
        "outcomes": Counter(outcome for _, outcome in said),
        "slowest_seconds": max(float(str(item.get("seconds", 0))) for item in found),
        "by_seed": {name: Counter(o for seed, o in said if seed == name) for name, _ in said},
        "faults": [item for item in found if item["outcome"] not in FINE],
    }
    out.write_text(json.dumps(summary, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
