"""What a pass keeps of a site between two looks at it, rather than compute it again."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from jaxtyping import Bool
from torch import Tensor

from ssmith.families.mamba.selective import Branches


@dataclass(frozen=True)
class Held:
    """What is kept of one batch: a site's branches, and which steps count (None if all do)."""

    branches: Branches
    valid: Bool[Tensor, "b l"] | None


class Kept:
    """What flows inside sites, batch by batch, as far as it fits into a number of bytes."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._limit = limit
        self._held: dict[tuple[str, str], Held] = {}

    def fits(self, branches: Branches) -> bool:
        """Return whether there is room for some branches."""
        return branches.size <= self._left

    def offer(self, site: str, batch: str, held: Held) -> None:
        """Hold what flows in a batch if it fits."""
        if (site, batch) not in self._held and self.fits(held.branches):
            self._left -= held.branches.size
            self._held[site, batch] = held

    def get(self, site: str, batch: str) -> Held | None:
        """Return what is held of a batch, or None."""
        return self._held.get((site, batch))

    def take(self, site: str, batch: str) -> Held | None:
        """Return it for the last time; for what comes after, there is no more room."""
        return self._held.pop((site, batch), None)

    def narrow(self, site: str, streams: Collection[str]) -> None:
        """Forget all but some streams of a site: the others are other ones now."""
        for key, held in list(self._held.items()):
            if key[0] == site:
                branches = held.branches.only(streams)
                if branches is None:
                    del self._held[key]
                else:
                    self._held[key] = replace(held, branches=branches)
        self._left = self._limit - sum(held.branches.size for held in self._held.values())
