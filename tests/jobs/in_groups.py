"""Tune and prune killed in a group of one size, gone on with in one of another: a program.

``python in_groups.py PLACE`` prints, as JSON, how each ended and what it left.
"""

import contextlib
import hashlib
import importlib
import json
import pkgutil
import signal
import sys
from pathlib import Path

import matplotlib.figure  # noqa: F401 - loaded once, before the forks
import torch
from safetensors.torch import load_file
from transformers.models.mamba import modeling_mamba  # noqa: F401 - the same

import ssmith
from helpers.dying import ended, start
from helpers.every_unit import build
from helpers.tiny_mamba import tiny

ROWS = "--data text.txt --length 16 --seed 3"
TUNE = (
    f"tune model --method lora:out_proj {ROWS} --steps 4 --batch-size 2 --held-out 4 "
    "--checkpoints work --out out"
)
PRUNE = f"prune model --cut state=0.5 {ROWS} --samples 8 --work-dir work --out out"
HYBRID = PRUNE.replace("state=0.5", "expert=0.5 --cut state=0.5 --cut neuron=0.5")
LATE = {"tune": 0.3, "prune": 0.6, "hybrid": 0.6}
"""Share of the operations on files after which the process is killed: some is done by then."""


def run(processes, words, place, kill_at=None):
    """Run a command line in so many processes, the first of which may die; return how it ended."""
    said = place / "said"
    return ended(start(words.split(), place, said, kill_at, processes)), said.read_text()


def left(place):
    """The digests of what an output holds, times aside."""
    names = ("model.safetensors", "adapter_model.safetensors", "plan.json", "plan.safetensors")
    there = [place / "out" / name for name in names]
    return {
        item.name: hashlib.sha256(item.read_bytes()).hexdigest() for item in there if item.exists()
    }


def made(root, name):
    """A place with a model and a text."""
    place = root / name
    place.mkdir()
    (place / "text.txt").write_text("".join(f"{n} squared is {n * n}\n" for n in range(300)))
    hybrid = name.startswith("hybrid")
    model = (
        build("granitemoehybrid", torch.float32, vocab_size=256)
        if hybrid
        else tiny("mamba", vocab_size=256)
    )
    model.save_pretrained(place / "model")
    return place


def main(root):
    """Kill and go on in every way; print how it ended."""
    torch.set_num_threads(1)
    for module in pkgutil.walk_packages(ssmith.__path__, "ssmith."):
        if not module.name.endswith("__main__"):
            with contextlib.suppress(ImportError):
                importlib.import_module(module.name)
    found = {}
    all_ways = ((1, 2), (2, 1), (2, 2))
    for name, words, ways in (
        ("tune", TUNE, ((1, 1), *all_ways)), ("prune", PRUNE, all_ways),
        ("hybrid", HYBRID, ((2, 1),)),
    ):  # fmt: skip
        operations = {}
        for count in (1, 2):
            place = made(root, f"{name}-{count}")
            code, said = run(count, words, place)
            assert code == 0, said
            operations[count] = len(json.loads(said.splitlines()[-1]))
            found[f"{name} undisturbed {count}"] = {"left": left(place)}
        for first, second in ways:
            place = made(root, f"{name}-{first}-{second}")
            code, _ = run(first, words, place, int(LATE[name] * operations[first]))
            assert code == -signal.SIGKILL
            assert any((place / "work").iterdir())
            code, said = run(second, words, place)
            found[f"{name} {first} {second}"] = {"code": code, "said": said, "left": left(place)}
    place = made(root, "tune-doubled")
    code, said = run(1, TUNE.replace("--batch-size 2", "--batch-size 4"), place)
    assert code == 0, said
    found["two beside one of their size"] = furthest(root / "tune-2", place)
    print(json.dumps(found))


def furthest(one, other):
    """The largest difference between the numbers of two adapters."""
    weights = [load_file(place / "out" / "adapter_model.safetensors") for place in (one, other)]
    assert weights[0].keys() == weights[1].keys()
    return max(float((weights[0][name] - weights[1][name]).abs().max()) for name in weights[0])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
