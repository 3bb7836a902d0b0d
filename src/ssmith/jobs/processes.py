"""Several processes on one pruning, as torchrun starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import distributed

from ssmith.calibrate.shards import Group


@contextmanager
def joined(environment: Mapping[str, str] | None = None) -> Iterator[Group]:
    """Join the processes torchrun started, if it did, and leave them at the end.

    A group of one where nothing was started, or where torch.distributed runs already.
    """
    given = os.environ if environment is None else environment
    started = int(given.get("WORLD_SIZE", "1")) > 1
    if not started or distributed.is_initialized():
        yield Group.current()
        return
    Group(size=int(given["WORLD_SIZE"]))
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Group.current()
    finally:
        distributed.destroy_process_group()
