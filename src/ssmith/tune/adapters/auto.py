"""A method to be chosen: several are tried on a share of the budget, the best one is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ssmith.core.checks import check_number
from ssmith.core.errors import InputError, SsmithError, UnsupportedError
from ssmith.tune.adapters.method import Method
from ssmith.tune.adapters.part import Placement
from ssmith.tune.adapters.survey import Survey

SELECTIVE = (
    "full", "core-wide", "lora", "core", "state-offset-h", "lora:out_proj",
    "state-offset-h-lowrank", "bitfit", "state-offset-y",
)  # fmt: skip
LTI = ("full", "lora", "core", "state-offset-y")
"""What is tried, if it is not too large: what gains more on text first (benchmarks/tuning.py), and
no second LoRA before an offset."""
TRIED = 3
SIZE = 0.25


@dataclass(frozen=True, kw_only=True)
class Auto(Method):
    """Stands for the method that `ssmith tune` and recovery choose by trials.

    Args:
        candidates: names of methods, at least two; None for the first three of those that gain most
            on text which keep to ``size``.
        size: what the adapter may store at most, as a share of the model's numbers, in (0, 1]; 1
            for full tuning, too. None for a quarter, or for any where candidates are named.

    Raises:
        InputError: if there are fewer than two candidates, or ``size`` is outside its domain.
    """

    method: ClassVar[str] = "auto"
    candidates: tuple[str, ...] | None = None
    size: float | None = None

    def __post_init__(self) -> None:
        if self.candidates is not None and len(set(self.candidates)) < 2:
            raise InputError(f"candidates is {self.candidates!r}", allowed="two or more methods")
        if self.size is not None:
            check_number("size", self.size, above=0, below=1 + 1e-9)

    def names(self, survey: Survey) -> tuple[str, ...]:
        """Return the names of the methods to try on a model."""
        if self.candidates is not None and self.size is None:
            return self.candidates
        sizes = {}
        for name in self.candidates or (SELECTIVE if survey.mixers else LTI):
            try:
                sizes[name] = Method.from_plain(name).stored(survey)
            except SsmithError:
                if self.candidates is not None:
                    raise
        whole = sum(parameter.numel() for parameter in survey.parameters().values())
        size = self.size or SIZE
        found = tuple(name for name, stored in sizes.items() if stored <= size * whole)
        if not found:
            name = min(sizes, key=lambda name: sizes[name])
            raise InputError(
                f"size is {size:g}, and the least of what would be tried, {name}, stores "
                f"{sizes[name]:,} of {whole:,} numbers",
                allowed=f"at least {sizes[name] / whole:.2g}",
            )
        return found if self.candidates else found[:TRIED]

    def sites(self, survey: Survey, draw: torch.Generator) -> list[Placement]:
        del draw
        raise UnsupportedError(
            "auto is no adapter, it stands for the one that trials choose",
            allowed=", ".join(self.names(survey)),
            next_step="name one of them, or run `ssmith tune --method auto`",
        )
