"""What a criterion for the states of groups is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float64
from torch import Tensor

from ssmith.core.checks import check_integer
from ssmith.core.grouped import StateSample
from ssmith.core.selective import Statistics


@dataclass(frozen=True, kw_only=True)
class GroupCriterion(ABC):
    """Says what stays of the states of each group of one layer; settings are its fields.

    ``semantics`` is what becomes of a state that is cut, ``refits`` whether the choice counts on a
    refit of the output map.

    Args:
        stride: steps from one that is looked at to the next, ≥ 1.
    """

    label: ClassVar[str]
    semantics: ClassVar[str] = "remove"
    refits: ClassVar[bool] = False
    stride: int = 8

    def __post_init__(self) -> None:
        check_integer("stride", self.stride, at_least=1)

    @abstractmethod
    def gather(self, sample: StateSample) -> Statistics:
        """Return what one step of some rows says: sums over rows that count."""


class StateScores(GroupCriterion):
    """Says how much each state matters: those that stay, stay as they are."""

    @abstractmethod
    def scores(self, sums: Statistics) -> Float64[Tensor, "g n"]:
        """Return a score of every state, larger is kept longer."""
