"""What must hold before a version may go live: read strictly, kept in the log."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssmith.core.errors import InputError
from ssmith.core.files import read_toml
from ssmith.core.settings import from_mapping, to_mapping
from ssmith.core.threshold import PERCENT, SHARE, Threshold
from ssmith.release.disk import canonical, digest_of, hex_of
from ssmith.release.keys import check_id

ANY = "any"
_SHA256 = re.compile(r"(sha256:)?[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Slices:
    """What no group of users or machines may lose.

    Args:
        column: that tells the groups apart.
        max_loss: of each group, as in `Promote`.
    """

    column: str
    max_loss: str | float

    def __post_init__(self) -> None:
        Threshold.read(self.max_loss)


@dataclass(frozen=True, kw_only=True)
class Canary:
    """How many interleaved requests, ≥ 1, must each equal its run alone."""

    requests: int

    def __post_init__(self) -> None:
        _check_least("requests", self.requests, 1)


@dataclass(frozen=True, kw_only=True)
class Shadow:
    """How much of the live traffic both versions must have answered, and how alike.

    Args:
        at_least: rows, ≥ 1.
        disagree: share of them that may differ: ``"3%"`` or 0.03.
    """

    at_least: int
    disagree: str | float = 1.0

    def __post_init__(self) -> None:
        _check_least("at_least", self.at_least, 1)
        share_of(self.disagree, "disagree")


@dataclass(frozen=True, kw_only=True)
class Signers:
    """How many different keys, ≥ 0, must agree, of these ids; of any if there are none."""

    at_least: int = 0
    keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_least("at_least", self.at_least, 0)
        for key in self.keys:
            check_id(key)
        if self.keys and self.at_least > len(set(self.keys)):
            raise InputError(
                f"at_least is {self.at_least} of {len(set(self.keys))} keys",
                allowed=f"0 to {len(set(self.keys))}",
            )


@dataclass(frozen=True, kw_only=True)
class Promote:
    """What must hold before a version may go live.

    Args:
        data: digest of the data that a verdict must rest on; any if None.
        max_loss: of the metric: ``"1%"``, ``"0.5 points"`` or a number, read as a pilot reads it,
            or ``"any"``.
        proof: whether the upper bound of the loss must be within, not only the estimate.
        parity: whether every way to run the model must give the same numbers.
        verdict_age_days: how old the comparison may be, or ``"any"``.
        slices: what no group may lose; not asked if None.
        flips: share of answers that may change at all, such as ``"2%"``; not asked if None.
        canary: of interleaved requests; not asked if None.
        shadow: of live traffic; not asked if None.
        signers: who must agree.
        override: whether somebody may go on all the same, with a reason that stays visible.
    """

    data: str | None = None
    max_loss: str | float = "1%"
    proof: bool = False
    parity: bool = True
    verdict_age_days: float | str = 30.0
    slices: Slices | None = None
    flips: str | float | None = None
    canary: Canary | None = None
    shadow: Shadow | None = None
    signers: Signers = field(default_factory=Signers)
    override: bool = False

    def __post_init__(self) -> None:
        if self.data is not None and not _SHA256.fullmatch(self.data):
            raise InputError(f"data is {self.data!r}", allowed="sha256: and 64 hex digits")
        if self.max_loss != ANY:
            Threshold.read(self.max_loss)
        days = self.verdict_age_days
        if days != ANY and (isinstance(days, str) or not 0 < days < float("inf")):
            raise InputError(f"verdict_age_days is {days!r}", allowed=f"a number > 0, or {ANY!r}")
        if self.flips is not None:
            share_of(self.flips, "flips")

    @property
    def sha256(self) -> str | None:
        """Digest of the data, as receipts write it."""
        return None if self.data is None else hex_of(self.data)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The rules of a line: what must hold before a version may go live."""

    promote: Promote = field(default_factory=Promote)

    def as_plain(self) -> dict[str, Any]:
        """Return all of it, defaults too, as JSON holds it."""
        return {"promote": to_mapping(self.promote)}

    def as_toml(self) -> str:
        """Return it as a file that `read_policy` reads back; what is not asked is left out."""
        asked = {name: value for name, value in self.as_plain()["promote"].items()
                 if value is not None}  # fmt: skip
        return "".join(["[promote]\n", *(f"{name} = {_toml(asked[name])}\n" for name in asked)])

    @property
    def digest(self) -> str:
        """What signatures under a new policy name it by."""
        return digest_of(canonical(self.as_plain()))


def policy_from(content: Mapping[str, Any], *, where: str) -> Policy:
    """Return the policy that a mapping of ``where`` holds; raises `InputError` if it is none."""
    return from_mapping(Policy, content, where=where)


def read_policy(path: Path) -> Policy:
    """Read a policy from TOML.

    Raises `ArtefactError` if it is none, and `InputError` if a key or a value is not allowed.
    """
    return policy_from(read_toml(path), where=str(path))


def share_of(given: str | float, name: str) -> float:
    """Return a share that is written as ``"2%"`` or 0.02; raises `InputError` for another unit."""
    if given == 1:
        return 1.0
    read = Threshold.read(given, name)
    if read.unit not in (SHARE, PERCENT):
        raise InputError(f"{name} is {given!r}", allowed="a share such as '2%' or 0.02")
    return read.amount / 100 if read.unit == PERCENT else read.amount


def _check_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise InputError(f"{name} is {value}", allowed=f"a whole number ≥ {least}")


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_toml(item)}" for name, item in value.items()) + " }"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    # Texts, numbers and truth values are written alike.
    return json.dumps(value, ensure_ascii=False)
