"""A small tuning run as a process of its own: python run_tuning.py PLACE OUT [KILL_AT]."""

import os
import signal
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parents[2]))

from helpers.tuning import language_work
from ssmith.core.launch import is_main_process
from ssmith.tune.training import train_

place, out = Path(sys.argv[1]), Path(sys.argv[2])
kill_at = int(sys.argv[3]) if len(sys.argv) > 3 else None
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)


def progress(stage, done, total, note=""):
    if done == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)


model, work = language_work(
    steps=9, evaluate_every=3, warmup=0.2, schedule="cosine",
    checkpoint=place / "last.safetensors", progress=progress,
    batch_size=2 if "WORLD_SIZE" in os.environ else 4,
)  # fmt: skip
train_(model, work)
if is_main_process():
    save_file({name: value.contiguous() for name, value in work.read().items()}, out)
