"""Texts whose answer stands far back in them, as every room sees them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jaxtyping import Int64
from torch import Tensor

from ssmith.core.checks import check_integer
from ssmith.core.tokens import TokenWindows


@dataclass(frozen=True, kw_only=True)
class RecallConfig:
    """How recall is measured.

    Args:
        recall_texts: texts of each task of recall, ≥ 1; 0 measures none.
        recall_length: tokens of each text, ≥ 16; a text whose tasks need more is longer.
    """

    recall_texts: int = 0
    recall_length: int = 512

    def check_recall(self) -> None:
        """Raise if a number is out of range."""
        check_integer("recall_texts", self.recall_texts, at_least=0)
        check_integer("recall_length", self.recall_length, at_least=16)


def recall_name(task: str, length: str) -> str:
    """Return what the recall of a task is called; ``length`` is written out, empty if unknown."""
    return f"recall, {task}" + (f" over {length} tokens" if length else "")


@dataclass(frozen=True, kw_only=True)
class RecallRows(TokenWindows):
    """Texts of one task of recall as token ids.

    Args:
        answers: for each token the number of the answer it belongs to, from 1 on; 0 where nothing
            is asked.
    """

    answers: Int64[Tensor, "w l"]

    def take(self, index: Int64[Tensor, "i"]) -> RecallRows:
        """Return the chosen rows, trimmed to the longest of them."""
        found = self._rows(index)
        longest = int(found.lengths.max()) if len(index) else 0
        return replace(found, ids=found.ids[:, :longest], answers=found.answers[:, :longest])

    def _rows(self, index: Int64[Tensor, "i"] | slice) -> RecallRows:
        return replace(
            self,
            ids=self.ids[index],
            lengths=self.lengths[index],
            scored_from=self.scored_from[index],
            answers=self.answers[index],
        )

    @property
    def asked(self) -> int:
        """Answers of each text."""
        return int(self.answers.max())
