"""What a pilot can cut from a language model, and by which methods."""

from __future__ import annotations

from dataclasses import dataclass

from ssmith.core.errors import InputError
from ssmith.core.pattern import Amount, Pattern
from ssmith.jobs.selective import SelectiveConfig
from ssmith.jobs.selective.config import AUTO, Compensate
from ssmith.jobs.selective.projection_config import Method, ProjectionConfig

FRACTIONS: dict[str, tuple[float, ...]] = {
    "columns": (0.125, 0.25, 0.375, 0.5, 0.625, 0.75),
    "a_log": (0.25, 0.5, 0.75, 0.9),
    "projections": (0.2, 0.3, 0.4, 0.5, 0.6),
    "whole": (0.2, 0.3, 0.4, 0.5, 0.6),
}
BASELINES: dict[str, tuple[str, ...]] = {
    "columns": ("fastest-decay", "magnitude", "random"),
    "a_log": ("fastest-decay", "magnitude", "random"),
    "projections": ("wanda", "sparsegpt", "magnitude"),
    "whole": ("sparsessm", "magnitude"),
}
# Of the whole model a method names what scores A_log; projections go by its nearest kin.
_KIN: dict[str, Method] = {
    "sparsessm": "sparsegpt", "sparsessm-v1": "sparsegpt", "fastest-decay": "magnitude",
    "magnitude": "magnitude", "random": "random",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One cut of a sweep.

    Args:
        unit: what is cut, a key of `FRACTIONS`.
        amount: fraction to remove, or N of M to keep.
        method: criterion by name, or ``auto``.
        fitted: whether the cut is made up for in closed form.
        terms: offsets that will train afterwards, fitted first; any of the letters D, h, y.
        seed: of what is random.
    """

    unit: str
    amount: Amount
    method: str
    fitted: bool
    terms: str = ""
    seed: int = 0

    def config(self) -> SelectiveConfig:
        """Return the same as a pruning.

        Returns:
            The configuration.

        Raises:
            InputError: if the unit has no such method or amount.
        """
        if self.unit == "columns":
            if isinstance(self.amount, Pattern):
                raise InputError(
                    "group goes with columns", allowed="a_log, projections or whole",
                    next_step="columns are cut by fractions: leave group out",
                )  # fmt: skip
            made_up: Compensate = "auto" if self.fitted else "none"
            return SelectiveConfig(
                columns=self.amount, method=self.method, compensate=made_up,
                recover=self.terms, seed=self.seed,
            )  # fmt: skip
        if self.unit == "projections":
            return SelectiveConfig(projections=self._projections(), seed=self.seed)
        return SelectiveConfig(
            a_log=self.amount, method=self.method, recover=self.terms or "D" * self.fitted,
            projections=self._projections() if self.unit == "whole" else None, seed=self.seed,
        )  # fmt: skip

    def _projections(self) -> ProjectionConfig:
        name = _KIN.get(self.method, "obs") if self.unit == "whole" else self.method
        return ProjectionConfig(
            amount=self.amount,
            method="obs" if name == AUTO else name,  # type: ignore[arg-type] # checked by it
            seed=self.seed,
        )


def amount_of(fraction: float, group: int | None) -> Amount:
    """Return a fraction as an amount.

    Args:
        fraction: to remove, in (0, 1).
        group: M of N:M; None for no pattern.

    Returns:
        The fraction, or the pattern that removes it.

    Raises:
        InputError: if no whole number of a group is that fraction.
    """
    if group is None:
        return fraction
    keep = round((1 - fraction) * group)
    if abs(keep - (1 - fraction) * group) > 1e-6 or not 1 <= keep < group:
        raise InputError(
            f"{fraction:g} of groups of {group}",
            allowed=", ".join(f"{share:g}" for share in group_fractions(group)),
        )
    return Pattern(keep=keep, of=group)


def group_fractions(group: int) -> tuple[float, ...]:
    """Return every fraction that N:M patterns with this M remove."""
    return tuple(gone / group for gone in range(1, group))
