"""Which path a model's scan takes, and which it could take."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor, nn

from ssmith.core.checks import check_choice
from ssmith.families.registry import scan_of
from ssmith.ops.backends import (
    Backend,
    Op,
    PathChoice,
    available,
    choose,
    require_backend,
    use_backend,
)

__all__ = ["Backend", "require_scan", "scan_backends", "scan_path", "use_backend"]


def scan_path(model: nn.Module) -> PathChoice:
    """Return the path a model's scan takes, and why."""
    return choose(scan_of(model), _like(model))


def all_paths() -> tuple[PathChoice, ...]:
    """Return the path each operation takes on this machine's CPU in float32, and why."""
    return tuple(choose(op, torch.zeros(1)) for op in get_args(Op))


def scan_backends(model: nn.Module) -> tuple[Backend, ...]:
    """Return the paths that can run a model's scans in its dtype, the reference first."""
    like, op = _like(model), scan_of(model)
    usable = available(op, like.device)
    # The native diagonal scan computes in complex64 alone; others widen or narrow by themselves.
    if op == "diagonal_scan" and like.dtype == torch.float64:
        return tuple(backend for backend in usable if backend != "native")
    return usable


def require_scan(model: nn.Module, backend: str) -> None:
    """Raise unless a model's scan takes the named path."""
    check_choice("backend", backend, get_args(Backend))
    (named,) = (item for item in get_args(Backend) if item == backend)
    require_backend(scan_of(model), named, _like(model))


def _like(model: nn.Module) -> Tensor:
    return next(model.parameters())
