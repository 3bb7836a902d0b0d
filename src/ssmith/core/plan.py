"""Plan: exactly which units stay, as printable and editable JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from jaxtyping import Bool
from torch import Tensor

from ssmith.core.errors import PlanError
from ssmith.core.files import read_json, to_json, write_text
from ssmith.core.layers import Finding, count_kept
from ssmith.core.selective import Semantics

PLAN_VERSION = 1
# Far beyond any layer; a larger grid in a file is a mistake that would fill the memory.
_LARGEST_GRID = 10**9

_KINDS = {
    "unit": str,
    "criterion": dict,
    "budget": dict,
    "model_digest": str,
    "threshold": float | int | None,
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to keep, decided but not yet done.

    Args:
        unit: what is cut, e.g. ``"states"``.
        keep: per layer, a bool mask in the layer's grid; True = keep.
        criterion: name and settings of the criterion that scored it.
        budget: the budget it was allocated under.
        model_digest: SHA-256 over the weights it was made for.
        threshold: the smallest score kept, where one global threshold was drawn.
        findings: everything that was excepted, with its reason.
        semantics: what a cut unit does, where it does not simply go (see `Semantics`).
    """

    unit: str
    keep: dict[str, Bool[Tensor, "..."]]
    criterion: dict[str, Any]
    budget: dict[str, Any]
    model_digest: str
    threshold: float | None = None
    findings: tuple[Finding, ...] = ()
    semantics: str | None = None

    @property
    def total(self) -> int:
        """Units before the cut."""
        return sum(mask.numel() for mask in self.keep.values())

    @property
    def kept(self) -> int:
        """Units after the cut."""
        return count_kept(self.keep)

    @property
    def removed_fraction(self) -> float:
        """Fraction of units removed, in [0, 1]."""
        return 1.0 - self.kept / self.total if self.total else 0.0

    def to_json(self) -> str:
        """Render as JSON; ``keep`` holds the kept indices of each layer (nested per channel)."""
        return to_json(
            {
                "version": PLAN_VERSION,
                "unit": self.unit,
                "criterion": self.criterion,
                "budget": self.budget,
                "model_digest": self.model_digest,
                "threshold": self.threshold,
                "findings": [finding.as_dict() for finding in self.findings],
                **({} if self.semantics is None else {"semantics": self.semantics}),
                "layers": {
                    name: {"grid": list(mask.shape), "keep": _indices(mask)}
                    for name, mask in self.keep.items()
                },
            }
        )

    @classmethod
    def from_json(cls, content: Any) -> Plan:
        """Build a plan from parsed JSON.

        Args:
            content: what `to_json` rendered, parsed.

        Returns:
            The plan.

        Raises:
            PlanError: if a key is missing or unknown, or an index is outside its layer.
        """
        known = {
            "version", "unit", "criterion", "budget", "model_digest",
            "threshold", "findings", "layers",
        }  # fmt: skip
        if not isinstance(content, dict) or set(content) - {"semantics"} != known:
            given = sorted(content) if isinstance(content, dict) else type(content).__name__
            raise PlanError(f"plan has {given}", allowed=f"exactly the keys {sorted(known)}")
        if content["version"] != PLAN_VERSION:
            raise PlanError(
                f"plan version is {content['version']!r}", allowed=str(PLAN_VERSION),
                next_step="make the plan again with this version of ssmith",
            )  # fmt: skip
        for key, kind in _KINDS.items():
            if not isinstance(content[key], kind):
                raise PlanError(f"plan has {key} {content[key]!r}", allowed="as ssmith wrote it")
        try:
            keep = {
                name: _mask(name, layer["grid"], layer["keep"])
                for name, layer in content["layers"].items()
            }
            findings = tuple(
                Finding(
                    layer=item["layer"],
                    kind=item["kind"],
                    message=item["message"],
                    units=tuple(item["units"]),
                )
                for item in content["findings"]
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise PlanError(
                f"plan is malformed near {error}",
                next_step="compare it with the output of `ssmith prune --dry-run`",
            ) from error
        return cls(
            unit=content["unit"],
            keep=keep,
            criterion=content["criterion"],
            budget=content["budget"],
            model_digest=content["model_digest"],
            threshold=content["threshold"],
            findings=findings,
            semantics=_semantics(content),
        )

    def save(self, path: str | Path) -> None:
        """Write the plan as JSON, atomically."""
        write_text(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read a plan (see `from_json` for errors)."""
        return cls.from_json(read_json(Path(path), by_hand=True))

    def __str__(self) -> str:
        head = (
            f"Plan: keep {self.kept} of {self.total} {self.unit} "
            f"({self.removed_fraction:.1%} removed) by {self.criterion.get('name', '?')}"
        )
        rows = [
            f"  {name}: keep {int(mask.sum())} of {mask.numel()}"
            for name, mask in self.keep.items()
        ]
        notes = [f"  note: {finding.message}" for finding in self.findings]
        return "\n".join([head, *rows, *notes])


def _semantics(content: dict[str, Any]) -> str | None:
    found = content.get("semantics")
    if found is not None and found not in get_args(Semantics):
        raise PlanError(f"plan has semantics {found!r}", allowed=", ".join(get_args(Semantics)))
    return found


def _indices(mask: Bool[Tensor, "..."]) -> list[Any]:
    """Return kept indices; a mask of several axes nests along its leading ones."""
    if mask.ndim > 1:
        return [_indices(row) for row in mask]
    return [int(index) for index in mask.nonzero().flatten()]


def _mask(name: str, grid: Any, kept: Any) -> Bool[Tensor, "..."]:
    sizes = isinstance(grid, list) and all(type(size) is int and size >= 0 for size in grid)
    if not sizes or not grid or math.prod(grid) > _LARGEST_GRID:
        raise PlanError(f"layer {name}: grid is {grid!r}", allowed="the sizes of the layer's axes")
    mask = torch.zeros(grid, dtype=torch.bool)
    _fill(name, mask, kept)
    return mask


def _fill(name: str, mask: Bool[Tensor, "..."], kept: Any) -> None:
    if not isinstance(kept, list):
        raise PlanError(f"layer {name}: keep is {kept!r}", allowed="a list of indices")
    if mask.ndim > 1:
        if len(kept) != mask.shape[0]:
            raise PlanError(
                f"layer {name}: {len(kept)} rows of indices", allowed=f"{mask.shape[0]} rows"
            )
        for row, indices in zip(mask, kept, strict=True):
            _fill(name, row, indices)
        return
    for index in kept:
        valid = isinstance(index, int) and not isinstance(index, bool)
        if not valid or not 0 <= index < mask.shape[0]:
            raise PlanError(
                f"layer {name}: index {index!r}", allowed=f"integers in [0, {mask.shape[0]})"
            )
        mask[index] = True
