"""The processes that share a training, as torchrun or accelerate start them."""

from __future__ import annotations

import atexit
import os
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from ssmith.core.errors import InputError
from ssmith.core.launch import launched, together


@dataclass(frozen=True, kw_only=True)
class Processes:
    """This process among those that share each step."""

    rank: int = 0
    count: int = 1

    def sum_(self, values: Tensor) -> Tensor:
        """Return the sum over all processes, written into ``values``."""
        if self.count > 1:
            together(distributed.all_reduce, values)
        return values

    def total(self, value: float, device: torch.device) -> float:
        """Return the sum of a number over all processes; itself where there is one."""
        if self.count == 1:
            return value
        return float(self.sum_(torch.tensor(value, dtype=torch.float64, device=device)))


def join_processes(device: str) -> Processes:
    """Join the processes a launcher started, if it did; each drives a device of its own."""
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("device 'cuda' is not there", allowed="cpu")
    if launched() == 1:
        return Processes()
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if not distributed.is_initialized():
        together(distributed.init_process_group, "nccl" if device == "cuda" else "gloo")
        atexit.register(distributed.destroy_process_group)
    return Processes(rank=distributed.get_rank(), count=distributed.get_world_size())
