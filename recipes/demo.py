"""The demo: shipped models cut by the pilot, a language model adapted to prose, and one page.

Every step is a command line that works by itself:

    python recipes/demo.py --out demo-out
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ssmith.cli.main import main as ssmith
from ssmith.core.receipt import Receipt
from ssmith.report import write_index

# Coarser than a pilot's own defaults: the demo is to be watched, not waited for.
SWEEP = "--method last --at 0.15,0.3,0.45,0.6,0.75,0.9 --speed-seconds 0.7"
STATE_OBS = "--method state-obs --baselines last,aire,random --at 0.6,0.7,0.8,0.9"
TEXT = (
    "--data stdlib: --samples 4 --length 512 --windows 16 --test-windows 32 --max-loss 0.05 "
    "--speed-seconds 0.3"
)
MAMBA = "embedded:python-mamba"
SMALLER = "{out}/python-mamba-states/model"
ADAPTED = "{out}/python-mamba-adapted/adapter"
COMPARED = "--length 512 --windows 32 --speed-seconds 0.3"
STEPS = {
    "digits-s5": f"pilot embedded:digits-s5 --data embedded:digits {SWEEP}",
    "plaid-s5": f"pilot embedded:plaid-s5 --data embedded:plaid {SWEEP}",
    "power-s4d": f"pilot embedded:power-s4d --data embedded:power {SWEEP}",
    "digits-s5-state-obs": f"pilot embedded:digits-s5 --data embedded:digits {STATE_OBS} "
    "--speed-seconds 0.7",
    "python-mamba-entries": f"pilot {MAMBA} {TEXT} --cut entry --method sparsessm "
    "--compensate none --baselines gram-greedy --at 0.5,0.75",
    "python-mamba-states": f"pilot {MAMBA} {TEXT} --cut state --baselines random "
    "--at 0.5 --recover state-offset-hy --recover-steps 16",
    "python-mamba-adapted/adapter": f"tune {SMALLER} --method state-offset-hy --data pydoc: "
    "--length 256 --held-out 48 --steps 40 --batch-size 8",
    "python-mamba-adapted": f"report {ADAPTED}/receipt.json",
    "python-mamba-on-pydoc": f"compare {MAMBA} {ADAPTED} --data pydoc: {COMPARED}",
    "python-mamba-on-stdlib": f"compare {MAMBA} {ADAPTED} --data stdlib: {COMPARED}",
}
"""Where a step writes, and its command line, in order: later ones build on earlier ones."""
# What a command says by 1 is a result, too: a gate that refused.
RESULTS = (0, 1)


def command(step: str, out: Path) -> list[str]:
    """Return the words behind ``ssmith`` of one step, which replaces what an earlier demo left."""
    return [*STEPS[step].format(out=out).split(), "--out", str(out / step), "--overwrite"]


def receipts(out: Path) -> list[tuple[str, Path, Receipt]]:
    """Return name, report and receipt of every step that has a report."""
    found = []
    for step in STEPS:
        here, report = out / step, out / step / "report.html"
        if report.is_file():
            inside = here if (here / "receipt.json").is_file() else here / "adapter"
            found.append((step, report, Receipt.load(inside / "receipt.json")))
    return found


def main() -> int:
    """Run every step, and write one page that lists them."""
    parser = argparse.ArgumentParser(description="Show on shipped models what ssmith does.")
    parser.add_argument("--out", type=Path, default=Path("demo-out"))
    out = parser.parse_args().out
    for step in STEPS:
        words = command(step, out)
        print("ssmith", *words, flush=True)
        code = ssmith(words)
        if code not in RESULTS:
            return code
    page = write_index(receipts(out), out, title="ssmith demo")
    print(f"report: {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
