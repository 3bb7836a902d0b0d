"""Every way to cut a selective model that the quality table compares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ssmith.core.budget import Budget

WIDTH = 0.04
RELEASED = "SparseGPT as released"
# What SparseSSM's code does with projections; the released order of its passes comes on top.
SPARSESSM: dict[str, Any] = {
    "method": "sparsegpt", "scope": "sensitivity",
    "settings": {"refresh": "block", "width": WIDTH},
}  # fmt: skip


@dataclass(frozen=True)
class Cut:
    """One cell of the table: what is cut, how much, by what; in the released order if so."""

    unit: str
    level: str
    method: str
    budgets: tuple[Budget, ...]
    released: bool = False

    @property
    def key(self) -> str:
        return f"{self.unit}/{self.level}/{self.method}".replace(" ", "-")


def cuts(*, quick: bool) -> Iterator[Cut]:
    yield from entries((0.5,) if quick else (0.25, 0.5, 0.75))
    yield from columns((0.5,) if quick else (0.25, 0.5, 0.75))
    yield from projections((0.5,) if quick else (0.25, 0.5))
    yield from whole((0.5,) if quick else (0.25, 0.5))
    if not quick:
        yield from patterns()


def entries(levels: tuple[float, ...]) -> Iterator[Cut]:
    for level in levels:
        for name, label in (
            ("output-energy", "output energy (ours)"), ("gram-greedy", "Gram greedy"),
            ("state-energy", "state energy"), ("sparsessm", "SparseSSM v2, released"),
            ("sparsessm-v1", "SparseSSM v1, votes"), ("fastest-decay", "fastest decay, no data"),
            ("magnitude", "magnitude"), ("random", "random"),
        ):  # fmt: skip
            yield Cut("A_log", percent(level), label, (Budget("entry", level, method=name),))
        yield Cut(
            "A_log", percent(level), "output energy, by layer (ours)",
            (Budget("entry", level, method="output-energy", scope="uniform"),),
        )  # fmt: skip
        for terms in ("D", "Dh", "Dhy"):
            yield Cut(
                "A_log", percent(level), f"output energy + {', '.join(terms)} (ours)",
                (Budget("entry", level, method="output-energy", compensate=terms),),
            )  # fmt: skip
        yield Cut(
            "A_log", percent(level), "Gram greedy + D (ours)",
            (Budget("entry", level, method="gram-greedy", compensate="D"),),
        )  # fmt: skip
        yield Cut(
            "A_log", percent(level), "SparseSSM v2 + D",
            (Budget("entry", level, method="sparsessm", compensate="D"),),
        )  # fmt: skip


def columns(levels: tuple[float, ...]) -> Iterator[Cut]:
    for level in levels:
        for label, name, terms in (
            ("output energy", "output-energy", "none"),
            ("Gram greedy", "gram-greedy", "none"),
            ("SparseSSM structured", "sparsessm-v1", "none"),
            ("magnitude", "magnitude", "none"),
            ("random", "random", "none"),
            ("output energy + C", "output-energy", "C"),
            ("SparseSSM structured + C", "sparsessm-v1", "C"),
            ("greedy after refit + C (ours)", "refit-greedy", "C"),
            ("greedy after refit + C + D (ours)", "refit-greedy", "CD"),
            ("greedy after refit + CB (ours)", "refit-greedy", "BC"),
        ):
            yield Cut(
                "columns", percent(level), label,
                (Budget("state", level, method=name, compensate=terms),),
            )  # fmt: skip


def projections(levels: tuple[float, ...]) -> Iterator[Cut]:
    for level in levels:
        for label, settings in (
            ("OBS + refit (ours)", {}),
            ("OBS + refit, once per block", {"settings": {"refresh": "block"}}),
            ("OBS + refit, uniform", {"scope": "uniform"}),
            ("OBS + refit, local error", {"scope": "cost"}),
            ("OBS + refit, sensitivity", {"scope": "sensitivity", "settings": {"width": WIDTH}}),
            (
                "OBS + refit, true trace",
                {"scope": "sensitivity-trace", "settings": {"width": WIDTH}},
            ),
            ("OBS + refit, measured loss", {"scope": "measured"}),
            (
                "SparseGPT, fresh",
                {
                    "method": "sparsegpt",
                    "scope": "uniform",
                    "settings": {"refresh": "block"},
                },
            ),
            (RELEASED, SPARSESSM),
            ("Wanda", {"method": "wanda"}),
            ("Wanda, uniform", {"method": "wanda", "scope": "uniform"}),
            ("magnitude, uniform", {"method": "magnitude", "scope": "uniform"}),
            ("random, uniform", {"method": "random", "scope": "uniform"}),
        ):
            yield Cut(
                "projections", percent(level), label, (weights(level, **settings),),
                released=label == RELEASED,
            )  # fmt: skip


def whole(levels: tuple[float, ...]) -> Iterator[Cut]:
    """A_log and every projection by the same share: what SparseSSM calls the whole model."""
    for level in levels:
        for label, states, settings in (
            ("ours", {}, {}),
            ("ours, measured loss", {}, {"scope": "measured"}),
            ("SparseSSM, fresh", {"method": "sparsessm"}, SPARSESSM),
            ("SparseSSM as released", {"method": "sparsessm"}, SPARSESSM),
            ("Wanda", {"method": "output-energy"}, {"method": "wanda"}),
            ("magnitude", {"method": "magnitude"}, {"method": "magnitude"}),
        ):  # fmt: skip
            yield Cut(
                "whole model", percent(level), label,
                (Budget("entry", level, **states), weights(level, **settings)),
                released=label.endswith("released"),
            )  # fmt: skip


def patterns() -> Iterator[Cut]:
    for name, label in (
        ("output-energy", "output energy (ours)"), ("sparsessm", "SparseSSM v2, released"),
        ("magnitude", "magnitude"),
    ):  # fmt: skip
        yield Cut("A_log", "2:4", label, (Budget("entry", "2:4", method=name),))
    for label, settings in (
        ("OBS + refit (ours)", {}), ("SparseGPT, fresh", {"method": "sparsegpt"}),
        ("Wanda", {"method": "wanda"}), ("magnitude", {"method": "magnitude"}),
    ):  # fmt: skip
        yield Cut("projections", "2:4", label, (weights("2:4", **settings),))


def weights(level: float | str, **settings: Any) -> Budget:
    return Budget("weight", level, **settings)


def percent(level: float) -> str:
    return f"{100 * level:g} %"
