"""A method to be chosen: several are tried on a share of the budget, the best one is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ssmith.core.errors import InputError, UnsupportedError
from ssmith.tune.adapters.method import Method
from ssmith.tune.adapters.part import Placement
from ssmith.tune.adapters.survey import Survey

SELECTIVE = ("lora:out_proj", "core", "state-offset-h")
LTI = ("lora", "core", "state-offset-y")


@dataclass(frozen=True, kw_only=True)
class Auto(Method):
    """Stands for the method that `ssmith tune` and recovery choose by trials.

    Args:
        candidates: names of methods, at least two; None for LoRA on ``out_proj``, core and
            state-offset (h), on S5 and S4D models LoRA, core and state-offset (y).

    Raises:
        InputError: if there are fewer than two.
    """

    method: ClassVar[str] = "auto"
    candidates: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.candidates is not None and len(set(self.candidates)) < 2:
            raise InputError(f"candidates is {self.candidates!r}", allowed="two or more methods")

    def names(self, survey: Survey) -> tuple[str, ...]:
        """Return the names of the methods to try on a model."""
        return self.candidates or (SELECTIVE if survey.mixers else LTI)

    def sites(self, survey: Survey, draw: torch.Generator) -> list[Placement]:
        del draw
        raise UnsupportedError(
            "auto is no adapter, it stands for the one that trials choose",
            allowed=", ".join(self.names(survey)),
            next_step="name one of them, or run `ssmith tune --method auto`",
        )
