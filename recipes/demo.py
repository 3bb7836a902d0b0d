"""The demo: shipped models cut by the pilot, a language model adapted to prose, and a line.

At the end the models that read digits go through a line: one goes live, one is refused, a stream
from a worse camera raises an alarm, and the line goes back to the version before. `index.html`
lists all reports and opens the dashboard.

Every step is a command line that works by itself:

    python recipes/demo.py --out demo-out
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np

import ssmith as sm
from ssmith.cli.main import main as ssmith
from ssmith.core.receipt import Receipt
from ssmith.release.change import LOG
from ssmith.release.line import Line
from ssmith.report import write_index

# Coarser than a pilot's own defaults: the demo is to be watched, not waited for.
QUICK = "--speed-seconds 0.3"
SWEEP = f"--method last --baselines aire,random --at 0.3,0.6,0.9 --refine 2 {QUICK}"
STATE_OBS = f"--method state-obs --baselines last --at 0.6,0.8 --refine 0 --samples 96 {QUICK}"
TEXT = (
    f"--data stdlib: --samples 4 --length 256 --windows 8 --test-windows 16 --max-loss 0.05 {QUICK}"
)
MAMBA = "embedded:python-mamba"
SMALLER = "{out}/python-mamba-states/model"
ADAPTED = "{out}/python-mamba-adapter"
COMPARED = f"--length 256 --windows 16 {QUICK}"
STEPS = {
    "digits-s5": f"pilot embedded:digits-s5 --data embedded:digits {SWEEP}",
    "plaid-s5": f"pilot embedded:plaid-s5 --data embedded:plaid {SWEEP}",
    "power-s4d": f"pilot embedded:power-s4d --data embedded:power {SWEEP}",
    "digits-s5-state-obs": f"pilot embedded:digits-s5 --data embedded:digits {STATE_OBS}",
    "python-mamba-entries": f"pilot {MAMBA} {TEXT} --cut entry --method sparsessm "
    "--compensate none --baselines gram-greedy --at 0.5",
    "python-mamba-states": f"pilot {MAMBA} {TEXT} --cut state --baselines random "
    "--at 0.5 --recover state-offset-hy --recover-steps 8",
    "python-mamba-adapter": f"tune {SMALLER} --method state-offset-hy --data pydoc: "
    "--length 256 --held-out 24 --steps 20 --batch-size 8",
    "python-mamba-adapted": f"report {ADAPTED}/receipt.json",
    "python-mamba-on-pydoc": f"compare {MAMBA} {ADAPTED} --data pydoc: {COMPARED}",
    "python-mamba-on-stdlib": f"compare {MAMBA} {ADAPTED} --data stdlib: {COMPARED}",
}
"""Where a step writes, and its command line, in order: later ones build on earlier ones."""
POLICY = """\
# What must hold before a version of the demo may go live.
[promote]
max_loss = "0.5 points"
parity = true
"""
LINE = (
    "release init {line} --policy {out}/policy.toml --name digits",
    "release add {line} embedded:digits-s5 --reason 'as it was trained'",
    "release parity {line} {first}",
    "release promote {line} {first} --reason 'the first release'",
    "release add {line} {out}/digits-s5-state-obs --reason 'the pilot with State-OBS'",
    "watch {line} --take --version {second} --data embedded:digits",
    "release promote {line} {second} --reason 'four fifths of the states are gone'",
    "release add {line} {out}/digits-s5 --reason 'the pilot with LAST'",
    "release promote {line} {third} --reason 'the pilot with LAST'",
    "watch {line} --data {out}/worse-camera.npz --labels",
    "release rollback {line} --reason 'the alarm about the worse camera'",
    "dashboard {line} --out {out}/dashboard --overwrite",
)
"""What happens to the line, in order; versions by the order in which they came."""
# What a command says by 1 is a result, too: a gate that refused, an alarm.
RESULTS = (0, 1)


def command(step: str, out: Path) -> list[str]:
    """Return the words behind ``ssmith`` of one step, which replaces what an earlier demo left."""
    return [*STEPS[step].format(out=out).split(), "--out", str(out / step), "--overwrite"]


def line_command(text: str, out: Path) -> list[str]:
    """Return the words behind ``ssmith`` of one step of the line."""
    line = out / "line"
    versions = Line.open(line).versions() if (line / LOG).is_file() else ()
    names = dict(
        zip(("first", "second", "third"), (item.digest for item in versions), strict=False)
    )
    return [word.format(out=out, line=line, **names) for word in shlex.split(text)]


def write_stream(path: Path) -> None:
    """Write test digits as a worse camera would see them: less contrast, and noise."""
    test = sm.load_data("embedded:digits", sm.load("embedded:digits-s5")).split("test")
    clean, labels = test.x.numpy(), test.y.numpy()
    noise = np.random.default_rng(0).normal(scale=0.1, size=clean.shape)
    np.savez(path, x=(0.7 * clean + 0.15 + noise).astype("float32"), y=labels)


def run(words: list[str]) -> int:
    """Run one command line."""
    print("ssmith", *words, flush=True)
    return ssmith(words)


def play_line(out: Path) -> int:
    """Begin the line anew and play it."""
    if (out / "line" / LOG).is_file():
        shutil.rmtree(out / "line")
    write_stream(out / "worse-camera.npz")
    (out / "policy.toml").write_text(POLICY, encoding="utf-8")
    for text in LINE:
        code = run(line_command(text, out))
        if code not in RESULTS:
            return code
    return 0


def receipts(out: Path) -> list[tuple[str, Path, Receipt]]:
    """Return name, report and receipt of every step that has a report."""
    found = []
    for step in STEPS:
        here, report = out / step, out / step / "report.html"
        if report.is_file():
            inside = here if (here / "receipt.json").is_file() else out / "python-mamba-adapter"
            found.append((step, report, Receipt.load(inside / "receipt.json")))
    return found


def main() -> int:
    """Run every step, and write one page that lists them."""
    parser = argparse.ArgumentParser(description="Show on shipped models what ssmith does.")
    parser.add_argument("--out", type=Path, default=Path("demo-out"))
    out = parser.parse_args().out
    for step in STEPS:
        code = run(command(step, out))
        if code not in RESULTS:
            return code
    code = play_line(out)
    if code not in RESULTS:
        return code
    links = [("The line of digits readers", out / "dashboard" / "index.html")]
    page = write_index(receipts(out), out, title="ssmith demo", links=links)
    print(f"report: {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
