"""What a walk holds of a block between two looks at it, rather than compute it again."""

from __future__ import annotations

from ssmith.families.mamba.selective import Branches


class Kept:
    """The branches of a block's batches, as far as they fit.

    Args:
        limit: bytes to hold at most.
    """

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._limit = limit
        self._held: dict[str, Branches] = {}

    def fits(self, branches: Branches) -> bool:
        """Return whether there is room for some branches."""
        return branches.size <= self._left

    def offer(self, name: str, branches: Branches) -> None:
        """Hold a batch's branches if they fit.

        Args:
            name: of the batch.
            branches: in memory of their own.
        """
        if name not in self._held and self.fits(branches):
            self._left -= branches.size
            self._held[name] = branches

    def get(self, name: str) -> Branches | None:
        """Return a batch's branches, or None if they are not held."""
        return self._held.get(name)

    def take(self, name: str) -> Branches | None:
        """Return them for the last time; for branches that come after, there is no more room."""
        return self._held.pop(name, None)

    def forget_selection(self) -> None:
        """Forget what ``x_proj`` made: it is another one now."""
        self._held = {name: held.without_selection() for name, held in self._held.items()}
        self._left = self._limit - sum(held.size for held in self._held.values())

    def clear(self) -> None:
        """Forget all: the block's branches are others now."""
        self._held.clear()
        self._left = self._limit
