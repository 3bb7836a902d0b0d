"""Checks of single settings, each with an error that names the setting and its domain."""

from __future__ import annotations

import math
from collections.abc import Collection

from ssmith.core.errors import InputError
from ssmith.core.names import meant


def check_integer(name: str, value: object, at_least: int) -> None:
    """Raise unless ``value`` is an integer ≥ ``at_least`` (True and False are none)."""
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise InputError(f"{name} is {value!r}", allowed=f"an integer ≥ {at_least}")


def check_number(
    name: str, value: object, *, above: float = -math.inf, at_least: float = -math.inf,
    below: float = math.inf,
) -> None:  # fmt: skip
    """Raise unless ``value`` is a finite real number within its bounds."""
    real = isinstance(value, int | float) and not isinstance(value, bool)
    if real and at_least <= value and above < value < below:  # type: ignore[operator]
        return
    bounds = [
        f"> {above:g}" if above > -math.inf else "",
        f"≥ {at_least:g}" if at_least > -math.inf else "",
        f"< {below:g}" if below < math.inf else "",
    ]
    words = " and ".join(bound for bound in bounds if bound)
    raise InputError(f"{name} is {value!r}", allowed=f"a finite number {words}".rstrip())


def check_choice(name: str, value: object, allowed: Collection[str]) -> None:
    """Raise unless ``value`` is one of the allowed words."""
    if not isinstance(value, str) or value not in allowed:
        raise InputError(
            f"{name} is {value!r}",
            allowed=", ".join(map(repr, allowed)),
            next_step=meant(str(value), allowed) or "choose one of these",
        )


def check_flag(name: str, value: object) -> None:
    """Raise unless ``value`` is True or False."""
    if not isinstance(value, bool):
        raise InputError(f"{name} is {value!r}", allowed="true or false")
