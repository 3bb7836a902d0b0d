"""A version that is to go live, what is known of it, and what a rule says."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

from ssmith.core.receipt import Receipt
from ssmith.release.log import Entry
from ssmith.release.policy import Promote
from ssmith.release.quality import Quality, quality_of
from ssmith.release.version import Version, short

ROUNDING = 1e-12
"""A loss equal to the tolerance passes, also after rounding of the last bit."""
BYTES, SIGNERS = "bytes", "signers"
NEVER_WAIVED = (BYTES, SIGNERS)
"""What no reason is good enough for."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What one rule says of a version.

    Args:
        name: of the policy's key.
        asked: what must hold.
        found: what is known.
        passed: whether it holds.
        settle: the command that would settle it; empty where it holds, or no command would.
    """

    name: str
    asked: str
    found: str
    passed: bool
    settle: str = ""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A version that is to go live, the one that is, the one it was made from, and all of the log.

    ``signed`` is whose key signs the promotion itself, if any does.
    """

    root: Path
    version: Version
    live: Version | None
    made_from: Version | None
    entries: Sequence[Entry]
    policy: Promote
    now: datetime
    signed: str | None = None

    @cached_property
    def of_it(self) -> tuple[Entry, ...]:
        """Entries about the version, the newest first."""
        return tuple(item for item in reversed(self.entries) if item.version == self.version.digest)

    @cached_property
    def judged(self) -> tuple[Entry, Receipt] | None:
        """The newest receipt of a comparison, and the entry that brought it."""
        return self.version.judged

    @cached_property
    def quality(self) -> Quality | None:
        """What that receipt says; None if there is none."""
        return None if self.judged is None else quality_of(self.judged[1].compared)

    def newest(self, action: str) -> Entry | None:
        """Return the newest entry of its kind."""
        return next((item for item in self.of_it if item.action == action), None)

    @property
    def is_first(self) -> bool:
        """Whether there is nothing to compare with: it was made from no other, and none is live."""
        return self.live is None and self.version.parent is None and self.version.base is None

    @property
    def line(self) -> str:
        """How the line is written in a command."""
        return shlex.quote(str(self.root))

    @property
    def path(self) -> str:
        """How the model itself is written in a command."""
        return shlex.quote(str(self.version.path))

    @property
    def shown(self) -> str:
        """How the version is written in a command."""
        return f"{self.line} {short(self.version.digest)}"

    @property
    def before(self) -> str:
        """What it is compared with, as it is written in a command."""
        other = self.live or self.made_from
        return "BEFORE" if other is None else shlex.quote(str(other.path))

    @property
    def compare(self) -> str:
        """The commands that make a comparison and bring its receipt."""
        return (
            f"ssmith compare {self.before} {self.path} --data DATA --out verdict; "
            f"ssmith release note {self.shown} --receipt verdict/receipt.json"
        )
