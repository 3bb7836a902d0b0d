"""What a version was made from, as far as the line holds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ssmith.release.version import Version, short


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """The way from a version to where it came from, itself first.

    ``end`` says why it goes no further, ``whole`` whether that is its true beginning.
    """

    versions: tuple[Version, ...]
    end: str
    whole: bool

    @property
    def text(self) -> str:
        """The way in one line."""
        steps = [f"{item.name} ({short(item.digest)})" for item in self.versions]
        return " ← ".join([*steps, self.end])


def lineage_of(version: Version, versions: Sequence[Version]) -> Lineage:
    """Follow what a version was made from; the way says where it cannot be followed."""
    by_digest = {item.digest: item for item in versions}
    # Of the same tensors in several directories, the one that was added first.
    by_tensors = {item.tensors: item for item in reversed(versions)}
    steps = [version]
    while True:
        last = steps[-1]
        if last.parent is None and last.base is None:
            foreign = last.added.details.get("kind") == "foreign"
            end = "of another tool, which names no parent" if foreign else "made from no other"
            source = f"{_exported(last)}, {end}" if last.source else end
            return Lineage(versions=tuple(steps), end=source, whole=not foreign)
        found = by_digest.get(last.base or "") or by_tensors.get(last.parent or "")
        if found is None:
            end = f"a model with digest {(last.parent or '')[:12]}…, which is not in this line"
            if last.source:
                end = f"{_exported(last)}, which says: {last.source['lineage']}"
            return Lineage(versions=tuple(steps), end=end, whole=False)
        if found in steps:
            return Lineage(versions=tuple(steps), end="itself: it goes in a circle", whole=False)
        steps.append(found)


def _exported(version: Version) -> str:
    """Return which line a version came out of."""
    return f"exported from line {version.source['line']}"
