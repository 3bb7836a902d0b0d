"""Several processes on one pruning, as torchrun starts them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import distributed

from ssmith.calibrate.shards import Group
from ssmith.core.launch import launched, together


@contextmanager
def joined() -> Iterator[Group]:
    """Join the processes torchrun started, if it did, and leave them at the end.

    A group of one where nothing was started, or where torch.distributed runs already.
    """
    started = launched()
    if started == 1 or distributed.is_initialized():
        yield Group.current()
        return
    Group(size=started)
    together(distributed.init_process_group, "nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Group.current()
    finally:
        distributed.destroy_process_group()
