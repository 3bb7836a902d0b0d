"""What writes an entry, and what goes with it, while it holds a line's lock."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ssmith.core.errors import ArtefactError
from ssmith.core.files import to_json
from ssmith.release import log, moments
from ssmith.release.change import Staged
from ssmith.release.disk import canonical, digest_of, hex_of, plain
from ssmith.release.keys import Key
from ssmith.release.log import Entry
from ssmith.release.moments import Clock
from ssmith.release.policy import Policy
from ssmith.release.version import RECEIPTS

FORMAT = "ssmith-line"
FORMAT_VERSION = 1
ABOUT = "line.json"
LIVE_LINK = "live"


@dataclass
class Writing:
    """What writes to a line, under its lock: what is staged, and the entries there are before."""

    staged: Staged
    before: tuple[Entry, ...]
    clock: Clock

    def keep_receipt(self, content: Mapping[str, Any] | bytes) -> str:
        """Keep a receipt, of bytes as they are, under its digest, and return that."""
        held = content if isinstance(content, bytes) else canonical(content)
        self.staged.add(f"{RECEIPTS}/{hex_of(digest_of(held))}.json", held)
        return digest_of(held)

    def record(
        self,
        action: str,
        *,
        version: str | None = None,
        receipts: tuple[str, ...] = (),
        reason: str = "",
        details: Mapping[str, Any],
        key: Key | None = None,
    ) -> Entry:
        """Make the change, with its entry; raises `ArtefactError` if the clock runs backwards."""
        entry = Entry(
            index=len(self.before),
            time=self._time(),
            actor=us() if key is None else key.id,
            signed=key is not None,
            action=action,
            version=version,
            receipts=receipts,
            reason=plain(reason),
            details=dict(details),
            previous=self.before[-1].digest if self.before else log.START,
        )
        if key is not None:
            entry = replace(entry, signatures=(key.sign(entry),))
        self.staged.commit(entry.line())
        return replace(entry, seal=entry.sealed())

    def _time(self) -> str:
        here = moments.written(self.clock())
        if self.before and here < self.before[-1].time:
            raise ArtefactError(
                f"the clock says {here}, and the newest entry is of {self.before[-1].time}: it "
                "runs backwards",
                next_step="set the clock right; nothing was changed",
            )
        return here


def us() -> str:
    """Return who we are, unproven: user@host."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        # A user without a name, as in some containers.
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def about(name: str, policy: Policy) -> bytes:
    """Return what a line says of itself beside its log."""
    own = {"format": FORMAT, "version": FORMAT_VERSION}
    return to_json({**own, "name": name, "policy": policy.as_plain()}).encode("utf-8")
