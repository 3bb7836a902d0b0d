"""The processes that a launcher (torchrun, accelerate) started, as it tells them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

from ssmith.core.errors import EndpointError, InputError, UnsupportedError


def launched() -> int:
    """Return how many processes a launcher started; 1 without one."""
    return _told("WORLD_SIZE", 1)


def is_main_process() -> bool:
    """Return whether this process is the one that writes and prints."""
    return launched() == 1 or _told("RANK", 0) == 0


def refuse_processes(what: str) -> None:
    """Refuse to do in several processes, side by side, what one does."""
    if launched() > 1:
        raise UnsupportedError(
            f"{what} in {launched()} processes",
            allowed="one process",
            next_step="start it without torchrun (or unset WORLD_SIZE); `ssmith tune` and "
            "`ssmith prune` share their work between processes",
        )


def together(step: Callable[..., Any], *given: Any) -> None:
    """Do a step of torch.distributed, and say so where the other processes do not."""
    try:
        step(*given)
    except (RuntimeError, ValueError) as error:
        # Without the file that gloo names before, and its advice behind.
        reason = re.sub(r"^\[[^]]*\] |\. This is typically.*", "", str(error).partition("\n")[0])
        raise EndpointError(
            f"another of the {launched()} processes is gone, or was never there ({reason})",
            next_step="read what it said, and start all again: the same command goes on from its "
            "--checkpoints or --work-dir",
        ) from error


def _told(name: str, default: int) -> int:
    given = os.environ.get(name, str(default))
    if not given.isdecimal():
        raise InputError(
            f"the environment says {name}={given}",
            allowed="a count, as torchrun sets it",
            next_step=f"unset {name}",
        )
    return int(given)
