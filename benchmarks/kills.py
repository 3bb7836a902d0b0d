"""Kill every command that writes at random moments, run it again, and compare bytes.

``python benchmarks/kills.py --points 20 --out benchmarks/results/kills.json``
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import matplotlib.figure  # noqa: F401 - loaded once, before the forks
import torch
from transformers.models.mamba import modeling_mamba  # noqa: F401

import ssmith.jobs.pilot
import ssmith.jobs.prune
import ssmith.jobs.train
import ssmith.jobs.tuning  # noqa: F401
from ssmith.cli.main import main
from ssmith.core.directories import listed_in, manifest_of
from ssmith.core.files import is_scrap, write_json

RECIPE = {
    "kind": "language",
    "data": {"text": "text.txt"},
    "model": {"width": 16, "layers": 2, "states": 8},
    "fit": {"steps": 12, "batch_size": 4, "length": 32, "lr": 0.01, "evaluate_every": 4},
}
ROWS = ("--data", "text.txt", "--length", "32")
CUT = ("prune", "model", "--cut", "state=0.5", *ROWS, "--samples", "8")
COMMANDS = {
    "train": ("train", "language.json", "--checkpoint", "ck.safetensors", "--out", "out"),
    "tune": (
        "tune", "model", "--method", "lora:out_proj", *ROWS, "--steps", "12", "--held-out", "4",
        "--checkpoints", "work", "--out", "out",
    ),
    "prune": (*CUT, "--work-dir", "work", "--out", "out"),
    "prune over an earlier output": (*CUT, "--out", "old", "--overwrite"),
    "pilot": (
        "pilot", "model", *ROWS, "--samples", "4", "--windows", "4", "--test-windows", "4",
        "--at", "0.25,0.5", "--baselines", "random", "--max-loss", "900 %", "--speed-seconds",
        "0.001", "--resume", "--out", "out",
    ),
}  # fmt: skip
"""Of all of them the same command goes on."""
SAME = ("plan.json", "config.json", "ssmith.json")
"""Files that hold no time and no place, beside all tensors: as bytes they are those of a run that
was whole."""


def command(words: tuple[str, ...], place: Path) -> int:
    """Run a command line in a fork, and return how it ended."""
    child = os.fork()
    if child == 0:
        os.chdir(place)
        with Path(os.devnull).open("w") as nothing, contextlib.redirect_stdout(nothing):
            sys.stderr = nothing
            os._exit(main(list(words)))
    return child


def ended(child: int) -> int:
    """Wait for a fork."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kept(place: Path) -> dict[str, bytes]:
    """Return the files of an output whose bytes do not hang on time."""
    found = {}
    for out in ("out", "old"):
        for item in sorted((place / out).rglob("*")):
            if item.is_file() and (item.suffix == ".safetensors" or item.name in SAME):
                found[item.relative_to(place).as_posix()] = item.read_bytes()
    return found


def half_written(place: Path) -> bool:
    """Return whether an output with a manifest is not what that lists."""
    for manifest in place.rglob("manifest.json"):
        directory = manifest.parent
        inside = any(is_scrap(part) for part in manifest.relative_to(place).parts)
        if not inside and listed_in(directory) != manifest_of(directory)["files"]:
            return True
    return False


def trial(words: tuple[str, ...], start: Path, wanted: dict[str, bytes], moment: float) -> str:
    """Kill a command after some seconds, run it again, and say how that ended."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / "place"
        shutil.copytree(start, place)
        child = command(words, place)
        time.sleep(moment)
        os.kill(child, signal.SIGKILL)
        killed = ended(child) == -signal.SIGKILL
        if half_written(place):
            return "half-written"
        done = (place / "out").is_dir() and words[0] in ("train", "tune", "prune")
        again = words if not done or "--overwrite" in words else (*words, "--overwrite")
        if ended(command(again, place)) not in (0, 1):
            return "refused"
        if any(is_scrap(item.name) for item in place.rglob("*")):
            return "scraps left"
        if kept(place) != wanted:
            return "other bytes"
        return "equal" if killed else "equal, not killed in time"


def run(points: int, seed: int, only: list[str]) -> dict[str, dict[str, int]]:
    """Kill each command at so many moments."""
    torch.set_num_threads(1)
    draw, counts = random.Random(seed), {}
    with tempfile.TemporaryDirectory() as name:
        start = Path(name)
        (start / "text.txt").write_text("".join(f"{n} squared is {n * n}\n" for n in range(900)))
        (start / "language.json").write_text(json.dumps(RECIPE))
        for words in (
            ("train", "language.json", "--out", "model"),
            (*CUT, "--seed", "1", "--out", "old"),
        ):
            assert ended(command(words, start)) == 0, words
        for label, words in ((name, COMMANDS[name]) for name in only):
            whole = Path(name + "-whole")
            shutil.copytree(start, whole)
            begun = time.monotonic()
            assert ended(command(words, whole)) in (0, 1), label
            seconds = time.monotonic() - begun
            wanted = kept(whole)
            shutil.rmtree(whole)
            found: dict[str, int] = {}
            for _ in range(points):
                end = trial(words, start, wanted, draw.uniform(0, seconds))
                found[end] = found.get(end, 0) + 1
            counts[label] = found
            print(label, f"{seconds:.1f} s", found, flush=True)
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=20)
    parser.add_argument("--only", nargs="*", default=list(COMMANDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    result = run(given.points, given.seed, given.only)
    if given.out is not None:
        write_json(given.out, {"points": given.points, "seed": given.seed, "ends": result})
