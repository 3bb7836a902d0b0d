"""Every kind of receipt: its badge, its sections, its four numbers, and what it saw of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ssmith.core.receipt import Receipt
from ssmith.report.costs import read_size
from ssmith.report.seen import (
    Sight,
    see_audit,
    see_canary,
    see_merge,
    see_parity,
    see_trial,
)
from ssmith.report.summary import (
    BigNumber,
    Standing,
    Summary,
    cost_number,
    read_summary,
    removed_number,
)
from ssmith.report.tuned import tuned_numbers

ALL = ("why", "learned", "seen", "curves", "quality", "layers", "scores", "speed", "parity",
       "saving")  # fmt: skip
"""Sections in their order; those of a kind that is not known are all of them."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of receipt: how it stands without a verdict, and the sections that it can fill.

    Its four numbers are the usual ones if None; ``seen`` is what no section of the others shows.
    """

    standing: Standing
    sections: tuple[str, ...]
    numbers: Callable[[Receipt], list[BigNumber]] | None = None
    seen: Callable[[Receipt], Sight] | None = None


def kind_of(receipt: Receipt) -> Kind:
    """Return the kind of a receipt; one that shows every section if it is not known."""
    usual = Kind(standing=_UNJUDGED, sections=tuple(name for name in ALL if name != "seen"))
    return KINDS.get(receipt.action, usual)


def seen_in(receipt: Receipt) -> Sight | None:
    """Return what a receipt says that only its kind does; None if its kind has nothing such."""
    see = kind_of(receipt).seen
    return None if see is None else see(receipt)


def summary_of(receipt: Receipt) -> Summary:
    """Return the first screen of a receipt of any kind."""
    kind, seen = kind_of(receipt), seen_in(receipt)
    if seen is not None:
        return read_summary(receipt, seen.standing or kind.standing, seen.numbers)
    numbers = None if kind.numbers is None else kind.numbers(receipt)
    return read_summary(receipt, kind.standing, numbers)


def _pruned(receipt: Receipt) -> list[BigNumber]:
    return [removed_number(receipt), cost_number("Parameters", read_size(receipt)[1])]


_UNJUDGED = Standing(
    badge="Not judged",
    headline="Measured, and held against no tolerance. To have a cut accepted or refused, run "
    "ssmith pilot with --max-loss.",
)
_SEEN = ("seen",)
_TRIAL = Kind(
    standing=Standing(
        badge="Tried",
        headline="Put beside the old model on a stream of rows; the decision holds at every look.",
    ),
    sections=_SEEN,
    seen=see_trial,
)
KINDS = {
    "pilot": Kind(
        standing=_UNJUDGED,
        sections=("why", "curves", "quality", "layers", "scores", "speed", "parity", "saving"),
    ),
    "tune": Kind(
        standing=Standing(
            badge="Tuned",
            headline="Tuned, and measured before and after on rows that it did not learn.",
        ),
        sections=("learned",),
        numbers=tuned_numbers,
    ),
    "merge": Kind(
        standing=Standing(
            badge="Merged", headline="What an adapter learned, written into its base."
        ),
        sections=_SEEN,
        seen=see_merge,
    ),
    "compare": Kind(
        standing=Standing(badge="Compared", headline=_UNJUDGED.headline),
        sections=("quality", "speed"),
    ),
    "prune": Kind(
        standing=Standing(
            badge="Pruned",
            headline="Cut, and not measured. To see what it is worth, run ssmith compare or "
            "ssmith pilot.",
        ),
        sections=("layers", "scores"),
        numbers=_pruned,
    ),
    "audit": Kind(
        standing=Standing(
            badge="Audited",
            headline="What the new model does differently, group by group; nothing is judged.",
        ),
        sections=_SEEN,
        seen=see_audit,
    ),
    "canary": Kind(
        standing=Standing(
            badge="Not judged", headline="Requests interleaved, each held against itself alone."
        ),
        sections=_SEEN,
        seen=see_canary,
    ),
    "parity": Kind(
        standing=Standing(badge="Not judged", headline="Every way to run it, held together."),
        sections=_SEEN,
        seen=see_parity,
    ),
    "shadow": _TRIAL,
    "ab": _TRIAL,
}
"""By the action that a receipt names."""
