"""One version of a model, as it lies in a line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssmith.core.errors import InputError
from ssmith.core.receipt import Receipt
from ssmith.release.disk import PREFIX, hex_of, kept_json
from ssmith.release.log import LIVE, Entry

VERSIONS, RECEIPTS, PROFILES, COUNTS = "versions", "receipts", "profiles", "watch"
_DIGEST = re.compile(r"(sha256:)?[0-9a-f]{1,64}")
_SHORT = 12
_LEAST = 4


@dataclass(frozen=True, kw_only=True)
class Version:
    """One version, by the digest over its files and, of an adapter, its base: ``sha256:…``.

    ``evidence`` is the entry that added it, and later ones that bring receipts or profiles, the
    oldest first.
    """

    digest: str
    root: Path
    added: Entry
    evidence: tuple[Entry, ...] = ()

    @property
    def path(self) -> Path:
        """Its directory, which `ssmith.load` opens."""
        return self.root / VERSIONS / hex_of(self.digest)

    @property
    def judged(self) -> tuple[Entry, Receipt] | None:
        """The newest receipt of a comparison, and the entry that first brought it, if there is."""
        for entry in reversed(self.evidence):
            for digest in reversed(entry.receipts):
                found = self.kept(digest)
                if found.compared.loss is not None:
                    # To bring it again does not make it any younger.
                    first = next(item for item in self.evidence if digest in item.receipts)
                    return first, found
        return None

    def kept(self, digest: str) -> Receipt:
        """Return a receipt that it rests on; raises `ArtefactError` as `kept_in` and `Receipt`."""
        return Receipt.from_json(kept_in(self.root, digest), f"receipt {short(digest)}")

    @property
    def receipt(self) -> Receipt | None:
        """The newest receipt of a comparison; None if there is none."""
        return None if self.judged is None else self.judged[1]

    @property
    def profile(self) -> Path | None:
        """Directory of its newest profile; None if it has none."""
        digests = [item.details["profile"] for item in self.evidence if "profile" in item.details]
        return self.root / PROFILES / hex_of(digests[-1]) if digests else None

    @property
    def name(self) -> str:
        """What the model was called when it was added."""
        return str(self.added.details.get("name", ""))

    @property
    def tensors(self) -> str:
        """Digest of its tensors, by which receipts and models made of it name it."""
        return str(self.added.details.get("tensors", ""))

    @property
    def parent(self) -> str | None:
        """Digest of the tensors of the model it was made from; None if it names none."""
        found = self.added.details.get("parent")
        return None if found is None else str(found)

    @property
    def source(self) -> Mapping[str, str]:
        """Line, version and lineage it was exported with; empty if it was not."""
        return dict(self.added.details.get("exported") or {})

    @property
    def base(self) -> str | None:
        """Digest of the version that an adapter is put on; None of any other."""
        found = self.added.details.get("base")
        return None if found is None else str(found)


def short(digest: str) -> str:
    """Return the beginning of a digest, for people."""
    return hex_of(digest)[:_SHORT]


def kept_in(root: Path, digest: str) -> Any:
    """Return what a line keeps for an entry: a receipt, or what a look found.

    Raises `ArtefactError` if it is missing or was changed.
    """
    return kept_json(root / RECEIPTS / f"{hex_of(digest)}.json", digest)


def live_in(entries: Iterable[Entry]) -> str | None:
    """Return the digest of the version that is live after some entries; None if none is."""
    return next((item.version for item in reversed([*entries]) if item.action in LIVE), None)


def trail_of(entries: Iterable[Entry]) -> tuple[str, ...]:
    """Return the way to the live version, which is last; what was rolled back is no longer on it.

    A promotion goes on by one, a rollback back by some.
    """
    trail: list[str] = []
    for entry in entries:
        if entry.action not in LIVE or entry.version is None:
            continue
        if entry.action == "rollback" and entry.version in trail:
            del trail[len(trail) - trail[::-1].index(entry.version) :]
        else:
            trail.append(entry.version)
    return tuple(trail)


def find(digests: Sequence[str], prefix: str, *, where: str) -> str:
    """Return the one digest that begins so: four digits or more, with or without ``sha256:``.

    Raises `InputError` if there is none, or more than one, in ``where``.
    """
    given = prefix.strip().lower()
    if not _DIGEST.fullmatch(given) or len(hex_of(given)) < _LEAST:
        raise InputError(
            f"version {prefix!r} is no digest",
            allowed=f"live, newest, or the first {_LEAST} digits or more of {_shown(digests)}",
        )
    found = [item for item in digests if item.startswith(PREFIX + hex_of(given))]
    if len(found) != 1:
        many = f"{len(found)} versions begin" if found else "no version begins"
        raise InputError(
            f"{many} with {prefix!r} in {where}", allowed=_shown(found or digests),
            next_step="give more digits" if found else "see `ssmith release history`",
        )  # fmt: skip
    return found[0]


def _shown(digests: Sequence[str]) -> str:
    return ", ".join(map(short, digests))
