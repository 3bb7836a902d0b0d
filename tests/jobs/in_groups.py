"""Tune and prune killed in a group of one size, gone on with in one of another: a program.

``python in_groups.py PLACE`` prints, as JSON, how each ended and what it left.
"""

import contextlib
import hashlib
import importlib
import json
import os
import pkgutil
import signal
import socket
import sys
from pathlib import Path

import torch
from transformers.models.mamba import modeling_mamba  # noqa: F401 - loaded once, before the forks

import ssmith
from helpers.dying import ended, start
from helpers.tiny_mamba import tiny

ROWS = "--data text.txt --length 16 --seed 3"
TUNE = (
    f"tune model --method lora:out_proj {ROWS} --steps 4 --batch-size 2 --held-out 4 "
    "--checkpoints work --out out"
)
PRUNE = f"prune model --cut state=0.5 {ROWS} --samples 8 --work-dir work --out out"
LATE = {"tune": 0.3, "prune": 0.6}
"""Share of the operations on files after which the process is killed: some is done by then."""


def group(size, words, place, kill_at=None):
    """Run a command line in so many processes, the first of which may die; return how it ended."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    alone = {"WORLD_SIZE": "1", "RANK": "0"}
    children = [
        start(
            words.split(),
            place,
            place / f"said-{rank}",
            kill_at if rank == 0 else None,
            alone
            if size == 1
            else {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(size),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            },
        )
        for rank in range(size)
    ]
    code = ended(children[0])
    for child in children[1:]:
        if code == -signal.SIGKILL:
            # As a launcher does where one of its processes has died.
            os.kill(child, signal.SIGKILL)
        ended(child)
    return code, (place / "said-0").read_text()


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
    tiny("mamba", vocab_size=256).save_pretrained(place / "model")
    return place


def main(root):
    """Kill and go on in every way; print how it ended."""
    torch.set_num_threads(1)
    for module in pkgutil.walk_packages(ssmith.__path__, "ssmith."):
        if not module.name.endswith("__main__"):
            with contextlib.suppress(ImportError):
                importlib.import_module(module.name)
    found = {}
    for name, words in (("tune", TUNE), ("prune", PRUNE)):
        place = made(root, name)
        code, said = group(1, words, place)
        assert code == 0, said
        operations = len(json.loads(said.splitlines()[-1]))
        found[f"{name} undisturbed"] = {"code": code, "left": left(place)}
        for first, second in ((1, 2), (2, 1)):
            place = made(root, f"{name}-{first}-{second}")
            code, _ = group(first, words, place, int(LATE[name] * operations))
            assert code == -signal.SIGKILL
            assert any((place / "work").iterdir())
            code, said = group(second, words, place)
            found[f"{name} {first} {second}"] = {"code": code, "said": said, "left": left(place)}
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
