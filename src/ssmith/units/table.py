"""Units users name: what a cut of each means, and how it can be done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ssmith.core.checks import check_choice
from ssmith.core.unit import MODES, Mode


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A kind of thing that can be cut; where it lives is said by each family.

    Args:
        name: as users write it.
        plural: as reports write it.
        about: one sentence for people.
        semantics: what a cut one does, the default first.
        modes: how it can be cut anywhere, the default first.
        whole: whether it is a whole block, which goes before anything is cut in those that stay.
        listed: whether receipts tell of each one what became of it; there are too many of others.
    """

    name: str
    plural: str
    about: str
    semantics: tuple[str, ...] = ("remove",)
    modes: tuple[Mode, ...] = MODES
    whole: bool = False
    listed: bool = True

    def check_semantics(self, value: str) -> None:
        """Raise `InputError` unless a cut unit of this kind can mean that."""
        check_choice("semantics", value, self.semantics)


UNITS: Mapping[str, Unit] = {
    unit.name: unit
    for unit in (
        Unit(
            name="state",
            plural="states",
            about="one state of a layer: of all its channels (Mamba, S5), of one channel (S4D), "
            "or of one group of heads (Mamba-2)",
            semantics=("remove", "project"),
        ),
        Unit(
            name="entry",
            plural="entries",
            about="one state of one channel of a Mamba layer: an entry of A_log",
            semantics=("memoryless", "unit-decay", "fast-decay"),
            modes=("mask",),
        ),
        Unit(
            name="weight",
            plural="weights",
            about="one number in the weight of a projection",
            semantics=("zero",),
            modes=("mask",),
            listed=False,
        ),
        Unit(name="channel", plural="channels", about="one inner channel of a layer"),
        Unit(name="head", plural="heads", about="one head of a Mamba-2 layer, with its channels"),
        Unit(name="head_dim", plural="head widths", about="one channel of one head"),
        Unit(name="neuron", plural="neurons", about="one hidden neuron of a feed-forward layer"),
        Unit(
            name="expert",
            plural="experts",
            about="an expert of a mixture, with the router's row for it",
            modes=("shrink",),
        ),
        Unit(
            name="expert_neuron",
            plural="neurons of experts",
            about="one hidden neuron of one expert of a mixture",
        ),
        Unit(
            name="kv_group",
            plural="attention groups",
            about="a key-value head of attention with the query heads that read it",
        ),
        Unit(
            name="block",
            plural="blocks",
            about="a whole block of the network, with what it adds to the stream",
            modes=("shrink",),
            whole=True,
        ),
    )
}
"""All units by name."""


def unit_named(name: str) -> Unit:
    """Return a unit by its name, e.g. ``"state"``; an unknown one raises `InputError`."""
    check_choice("unit", name, tuple(UNITS))
    return UNITS[name]
