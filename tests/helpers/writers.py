"""Every command that writes, in forms to be killed, and where they can start from."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path

from helpers.toy import tiny_data, tiny_model
from ssmith import api
from ssmith.data import save_npz
from ssmith.release.keys import make_key
from ssmith.release.line import Line

READS = {
    "inspect", "eval", "verify", "parity", "list", "release check", "release history",
    "release verify", "release log",
}  # fmt: skip
"""Commands that write nothing."""
ELSEWHERE = {"release mirror"}
"""Commands that write into a server alone."""

_ROWS = "--data text.txt --length 32 --seed 3"
_TUNE = f"tune model {_ROWS} --epochs 0.05 --batch-size 4 --held-out 4 --out out"
_CUT = f"prune model --cut state=0.5 {_ROWS} --samples 8"
_PILOT = (
    "--samples 4 --at 0.25,0.5 --baselines random "
    "--speed-seconds 0.001 --threads 1 --resume --out out"
)
_AUTO = f"tune model {_ROWS} --held-out 4 --steps 6 --checkpoints work --out out --method"
METHODS = (
    "lora:out_proj", "dora:out_proj", "bitfit", "full", "sdt", "core", "auto", "prefix", "prompt",
    "initial-state", "state-offset-h", "additional-scan", "full-ssm", "parameters:*.D",
)  # fmt: skip
WRITES = {
    "train": {
        "train language": "train language.json --checkpoint ck.safetensors --out out",
        "train series": "train series.json --checkpoint ck.safetensors --out out",
    },
    "tune": {
        **{f"tune {name}": f"{_AUTO} '{name}'" for name in METHODS},
        "tune with muon": f"{_AUTO} lora:out_proj --optimizer muon",
        "tune and merge": f"{_AUTO} state-offset-h --merge ssmith",
        "tune from a teacher": f"{_AUTO} lora:out_proj --teacher model",
        "tune in two processes": f"{_AUTO} lora:out_proj",
        "tune series": "tune series --method state-offset-y --data data.npz --steps 6 "
        "--checkpoints work --out out",
    },
    "merge": {"merge": "merge adapter --out out"},
    "prune": {
        "prune with a working directory": f"{_CUT} --work-dir work --out out",
        "prune in two processes": f"{_CUT} --work-dir work --out out",
        "prune over an earlier output": f"{_CUT} --out old --overwrite",
        "prune in a sweep": f"{_CUT} --sweep state=0.25,0.5 --out out",
        "prune into a plan": f"{_CUT} --dry-run --plan-out out.json",
        "prune series": "prune series --cut state=0.5 --data data.npz --plan-out p.json --out out",
    },
    "pilot": {
        "pilot": f"pilot series --data data.npz --max-loss '99 points' {_PILOT}",
        "pilot of text": f"pilot model {_ROWS} --windows 4 --test-windows 4 "
        f"--max-loss '900 %' {_PILOT}",
        "pilot with recovery": f"pilot series --data data.npz --recover lora "
        f"--max-loss '99 points' --recover-steps 4 {_PILOT}",
    },
    "compare": {
        "compare": "compare series small --data data.npz --speed-seconds 0.001 --out out",
    },
    "data": {"data": "data table.csv --sequence name --label y --time t --report out"},
    "predict": {
        "predict": "predict series --data data.npz --out out.csv",
        "predict in parts": "predict plant --data long.csv --out out.parquet",
    },
    "report": {"report": "report small/receipt.json --out out"},
    "audit": {
        "audit": "audit series small --data data.npz --out out",
        "audit into a line": "audit series small --data data.npz --line line",
    },
    "canary": {"canary": "canary small --requests 12 --longest 6 --out out --line line"},
    "watch": {
        "watch, the profile": "watch line --take --data data.npz --version VERSION --sample 40 "
        "--speed-seconds 0",
        "watch": "watch watched --data today.npz --prometheus look.prom --speed-seconds 0",
    },
    "trial": {"trial": "trial series small --mode shadow --data rows.jsonl --state out"},
    "cycle": {"cycle": "cycle watched --config cycle.toml --work out"},
    "dashboard": {"dashboard": "dashboard line --out out"},
    "release init": {"release init": "release init out --name walks"},
    "release add": {
        "release add": "release add line old --reason because",
        "release add with data": "release add line old-series --data data.npz --reason because",
    },
    "release note": {
        "release note": "release note line live --reason because",
    },
    "release parity": {"release parity": "release parity line live"},
    "release promote": {"release promote": "release promote line VERSION --reason because"},
    "release rollback": {"release rollback": "release rollback watched --reason because"},
    "release export": {
        "release export": "release export line live --out out",
        "release export, one file": "release export line live --out out.tar",
    },
    "release policy": {"release policy": "release policy line --set policy.toml --reason because"},
    "release sign": {"release sign": "release sign line VERSION --key own.key --reason because"},
    "release key": {"release key": "release key --out out.key"},
}
"""Of each command, the forms in which it is killed; ``VERSION`` is the one that is not live."""

TOGETHER = {"tune in two processes", "prune in two processes"}
"""Forms that two processes share, as a launcher starts them; the first one is killed."""

_LANGUAGE = {
    "kind": "language",
    "data": {"text": "text.txt"},
    "model": {"width": 16, "layers": 2, "states": 8},
    "fit": {"steps": 9, "batch_size": 4, "length": 32, "lr": 0.01, "evaluate_every": 3},
}
_SERIES = {
    "data": "data.npz",
    "model": {"family": "s5", "width": 6, "states": [6]},
    "fit": {"epochs": 3},
}
_CYCLE = """\
data = "today.npz"
profile = false

[renew]
when = "always"
how = "recalibrate"
model = "series"
data = "data.npz"

[pilot]
samples = 4
sparsities = [0.25, 0.5]
baselines = ["random"]
max_loss = "99 points"
speed_seconds = 0.001
"""
_MADE = (
    "train language.json --out model",
    f"{_CUT} --seed 1 --out old",
    "prune series --cut state=0.5 --data data.npz --out small",
    "tune series --method lora --data data.npz --steps 2 --out adapter",
    "train --data table.csv --sequence name --time t --label y --task classification --epochs 1 "
    "--out plant",
    "prune series --cut state=0.25 --data data.npz --out old-series",
    *(
        f"release {said}"
        for line in ("line", "watched")
        for said in (
            f"init {line} --policy any.toml",
            f"add {line} series --reason first",
            f"promote {line} SERIES --reason first",
            f"add {line} small --reason second",
        )
    ),
    "release promote watched VERSION --reason second",
    "watch watched --take --data data.npz --sample 40 --speed-seconds 0",
)


_LINES = {"line", "watched"}
_MAKES = re.compile(r"(?<=--out )\S+|\bline\b|\bwatched\b")
"""In a command, what it makes or goes on with."""


def words(command: str, place: Path) -> list[str]:
    """Return the words of a command, the version that it means filled in."""
    names = {"VERSION": "small", "SERIES": "series"}
    given = shlex.split(command)
    return [_version(place, given, names[word]) if word in names else word for word in given]


def _version(place: Path, given: list[str], name: str) -> str:
    line = next(word for word in given if word in _LINES)
    return next(item.digest for item in Line.open(place / line).versions() if item.name == name)


def needed(commands: Iterable[str]) -> list[str]:
    """Return what makes the models and lines that commands name, in the order of making."""
    named = {place for command in commands for place in _places(command)}
    found: list[str] = []
    for command in reversed(_MADE):
        made = _MAKES.search(command)
        if made is not None and made[0] in named:
            found.insert(0, command)
            named.update(_places(command))
    return found


def _places(command: str) -> list[str]:
    """Return the words of a command, of paths the first part."""
    return [word.split("/")[0] for word in shlex.split(command)]


def make_start(place: Path, run: Callable[[list[str], Path], int], commands: list[str]) -> None:
    """Make models, data and lines, from which these commands can start."""
    text = "".join(f"{number} squared is {number * number}\n" for number in range(900))
    (place / "text.txt").write_text(text)
    (place / "language.json").write_text(json.dumps(_LANGUAGE))
    (place / "series.json").write_text(json.dumps(_SERIES))
    (place / "cycle.toml").write_text(_CYCLE)
    (place / "any.toml").write_text('[promote]\nmax_loss = "any"\nparity = false\n')
    (place / "policy.toml").write_text("[promote]\nproof = true\n")
    steps = [f"{n},{t},{n * t % 101},{'ab'[n % 2]}" for n in range(24) for t in range(8)]
    (place / "table.csv").write_text("\n".join(["name,t,v,y", *steps]))
    # Recordings lie among each other, so that they are put in order on disk.
    later = [f"{n},{t},{n * t % 101},{'ab'[n % 2]}" for t in range(8) for n in range(1200)]
    (place / "long.csv").write_text("\n".join(["name,t,v,y", *later]))
    api.save(tiny_model(), place / "series")
    save_npz(tiny_data(count=40), place / "data.npz")
    save_npz(tiny_data(count=30), place / "today.npz")
    rows = tiny_data(count=30).splits["test"]
    said = [
        {"id": str(number), "x": rows.x[number].tolist(), "y": "abc"[int(rows.y[number])]}
        for number in range(len(rows.y))
    ]
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in said))
    make_key(place / "own.key")
    for command in needed(commands):
        code = run(words(command, place), place)
        assert code in (0, 1), command
