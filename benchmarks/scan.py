"""The scan engine on the CPU against the forms other packages use.

Every ratio is measured twice: out of the box, and with the memory allocator tuned alike on both
sides; each case in a process of its own, both sides in the same one. Full: the sizes the README
quotes. Quick: small ones in one process, which exercise every line and prove nothing. With
``--only`` some cases are measured anew and the others kept as they were stored; with ``--skip``
some are left out, and the table says so.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from typing import Any

import psutil
import transformers

import scan_table
from record import RESULTS, record
from scan_cases import CASES, FULL, QUICK, Sizes, backward_memory
from ssmith.core.files import write_text
from ssmith.ops.backends import describe
from ssmith.ops.native.allocator import tune_allocator_

SETTINGS = (("out_of_the_box", ()), ("tuned", ("--tuned",)))


def worker(options: argparse.Namespace) -> None:
    """Run cases in this process and print their times."""
    if options.tuned:
        tune_allocator_()
    transformers.logging.set_verbosity_error()
    sizes = QUICK if options.quick else FULL
    if options.memory:
        print(json.dumps(backward_memory(sizes, options.memory)))
        return
    found = {name: timed(name, sizes, quick=options.quick) for name in options.only.split(",")}
    print(json.dumps(found))


def timed(name: str, sizes: Sizes, *, quick: bool) -> dict[str, Any]:
    """Run a case, and see what else the processor had to do meanwhile."""
    before, mine, start = psutil.cpu_times(), psutil.Process().cpu_times(), time.perf_counter()
    seconds = CASES[name](sizes, quick=quick)
    elapsed, own, after = (
        time.perf_counter() - start,
        psutil.Process().cpu_times(),
        psutil.cpu_times(),
    )
    busy = sum(getattr(after, kind) - getattr(before, kind) for kind in ("user", "nice", "system"))
    spent = own.user + own.system - mine.user - mine.system
    others = max(0.0, busy - spent) / elapsed
    return {"seconds": seconds, "cores_busy_with_others": round(others, 2)}


def run_worker(options: argparse.Namespace, *flags: str) -> Any:
    """Run a worker in a process of its own and read what it prints last."""
    command = [sys.executable, __file__, "--worker", *flags, *["--quick"] * options.quick]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def measured(options: argparse.Namespace, names: list[str]) -> dict[str, Any]:
    """Run cases in both settings: each in a process of its own, or all in one where it is quick."""
    groups = [names] if options.quick else [[name] for name in names]
    cases: dict[str, Any] = {name: {} for name in names}
    for group in groups:
        for setting, flags in SETTINGS:
            found = run_worker(options, "--only", ",".join(group), *flags)
            for name, times in found.items():
                cases[name][setting] = times
    return cases


def stored(quick: bool) -> dict[str, Any]:
    """What an earlier run of this benchmark left behind."""
    path = RESULTS / f"scan{'-quick' if quick else ''}.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    return found if "cases" in found else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="", help="some cases, separated by commas")
    parser.add_argument("--skip", default="", help="cases to leave out, separated by commas")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--tuned", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--memory", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options)
        return
    left_out = options.skip.split(",") if options.skip else []
    names = options.only.split(",") if options.only else [n for n in CASES if n not in left_out]
    unknown = sorted({*names, *left_out} - set(CASES))
    if unknown:
        parser.error(f"no case {', '.join(unknown)}; there are {', '.join(CASES)}")
    kept = stored(options.quick) if options.only else {}
    cases = kept.get("cases", {}) | measured(options, names)
    memory = kept.get("backward_peak_bytes", [])
    if "backward" in names:
        memory = [run_worker(options, "--memory", str(factor)) for factor in (1, 2)]
    paths = {choice.op: f"{choice.backend}: {choice.reason}" for choice in describe()}
    raw = {
        "cases": cases, "paths": paths, "backward_peak_bytes": memory,
        "transformers": transformers.__version__,
    }  # fmt: skip
    summary = scan_table.summary(cases, memory)
    if not options.quick:
        write_text(RESULTS / "scan.md", scan_table.render(cases, summary, list(CASES)))
    record("scan", raw, summary, quick=options.quick)


if __name__ == "__main__":
    main()
