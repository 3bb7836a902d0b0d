"""What a pilot can cut from a language model, and by which methods."""

from __future__ import annotations

from dataclasses import dataclass

from ssmith.core.budget import Budget
from ssmith.core.errors import InputError
from ssmith.core.pattern import Amount, Pattern

FRACTIONS: dict[str, tuple[float, ...]] = {
    "state": (0.125, 0.25, 0.375, 0.5, 0.625, 0.75),
    "entry": (0.25, 0.5, 0.75, 0.9),
    "weight": (0.2, 0.3, 0.4, 0.5, 0.6),
    "whole": (0.2, 0.3, 0.4, 0.5, 0.6),
}
BASELINES: dict[str, tuple[str, ...]] = {
    "state": ("fastest-decay", "magnitude", "random"),
    "entry": ("fastest-decay", "magnitude", "random"),
    "weight": ("wanda", "sparsegpt", "magnitude"),
    "whole": ("sparsessm", "magnitude"),
}
# Of the whole model a method names what scores A_log; projections go by its nearest kin.
_KIN: dict[str, str] = {
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

    def budgets(self) -> list[Budget]:
        """Return the same as budgets.

        Returns:
            One, or two for the whole model.

        Raises:
            InputError: if the unit has no such method or amount.
        """
        made_up = "auto" if self.fitted else "none"
        if self.unit == "state" and isinstance(self.amount, Pattern):
            raise InputError(
                "group goes with state", allowed="entry, weight or whole",
                next_step="states are cut by fractions: leave group out",
            )  # fmt: skip
        if self.unit in ("state", "weight"):
            terms = self.terms and ("C" + self.terms if self.unit == "state" else "")
            compensate = "auto" if self.unit == "weight" else terms or made_up
            return [
                Budget(self.unit, self.amount, method=self.method, compensate=compensate,
                       seed=self.seed)
            ]  # fmt: skip
        entry = Budget(
            "entry", self.amount, method=self.method, seed=self.seed,
            compensate=self.terms or ("D" if self.fitted else "none"),
        )  # fmt: skip
        if self.unit == "entry":
            return [entry]
        kin = _KIN.get(self.method, "obs")
        return [entry, Budget("weight", self.amount, method=kin, seed=self.seed)]


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
