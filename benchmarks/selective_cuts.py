"""Every way to cut a selective model that the quality table compares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ssmith.jobs.selective import SelectiveConfig
from ssmith.jobs.selective.projection_config import ProjectionConfig

from ssmith.core.pattern import Pattern

WIDTH = 0.04


@dataclass(frozen=True)
class Cut:
    """One cell of the table: what is cut, how much, by what."""

    unit: str
    level: str
    method: str
    config: SelectiveConfig

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
            yield Cut("A_log", percent(level), label, SelectiveConfig(a_log=level, method=name))
        yield Cut(
            "A_log", percent(level), "output energy, by layer (ours)",
            SelectiveConfig(a_log=level, method="output-energy", spread="layer"),
        )  # fmt: skip
        for terms in ("D", "Dh", "Dhy"):
            yield Cut(
                "A_log", percent(level), f"output energy + {', '.join(terms)} (ours)",
                SelectiveConfig(a_log=level, method="output-energy", recover=terms),
            )  # fmt: skip
        yield Cut(
            "A_log", percent(level), "Gram greedy + D (ours)",
            SelectiveConfig(a_log=level, method="gram-greedy", recover="D"),
        )  # fmt: skip
        yield Cut(
            "A_log", percent(level), "SparseSSM v2 + D",
            SelectiveConfig(a_log=level, method="sparsessm", recover="D"),
        )  # fmt: skip


def columns(levels: tuple[float, ...]) -> Iterator[Cut]:
    for level in levels:
        for label, name, rows, terms in (
            ("output energy", "output-energy", "none", ""),
            ("Gram greedy", "gram-greedy", "none", ""),
            ("SparseSSM structured", "sparsessm-v1", "none", ""),
            ("magnitude", "magnitude", "none", ""),
            ("random", "random", "none", ""),
            ("output energy + C", "output-energy", "C", ""),
            ("SparseSSM structured + C", "sparsessm-v1", "C", ""),
            ("greedy after refit + C (ours)", "refit-greedy", "C", ""),
            ("greedy after refit + C + D (ours)", "refit-greedy", "C", "D"),
            ("greedy after refit + CB (ours)", "refit-greedy", "CB", ""),
        ):
            yield Cut(
                "columns", percent(level), label,
                SelectiveConfig(columns=level, method=name, compensate=rows, recover=terms),
            )  # fmt: skip


def projections(levels: tuple[float, ...]) -> Iterator[Cut]:
    for level in levels:
        for label, settings in (
            ("OBS + refit (ours)", {}),
            ("OBS + refit, once per block", {"refresh": "block"}),
            ("OBS + refit, uniform", {"allocation": "uniform"}),
            ("OBS + refit, local error", {"allocation": "local"}),
            ("OBS + refit, sensitivity", {"allocation": "sensitivity", "width": WIDTH}),
            ("OBS + refit, true trace", {"allocation": "sensitivity-trace", "width": WIDTH}),
            ("OBS + refit, measured loss", {"allocation": "measured"}),
            (
                "SparseGPT, fresh",
                {
                    "method": "sparsegpt",
                    "refresh": "block",
                    "allocation": "uniform",
                },
            ),
            ("SparseGPT as released", released()),
            ("Wanda", {"method": "wanda"}),
            ("Wanda, uniform", {"method": "wanda", "allocation": "uniform"}),
            ("magnitude, uniform", {"method": "magnitude", "allocation": "uniform"}),
            ("random, uniform", {"method": "random", "allocation": "uniform"}),
        ):
            yield Cut(
                "projections", percent(level), label,
                SelectiveConfig(projections=ProjectionConfig(amount=level, **settings)),
            )  # fmt: skip


def whole(levels: tuple[float, ...]) -> Iterator[Cut]:
    """A_log and every projection by the same share: what SparseSSM calls the whole model."""
    for level in levels:
        for label, states, settings in (
            ("ours", {"recover": "D"}, {}),
            ("ours, measured loss", {"recover": "D"}, {"allocation": "measured"}),
            ("SparseSSM, fresh", {"method": "sparsessm"}, {
                "method": "sparsegpt", "refresh": "block", "allocation": "sensitivity",
                "width": WIDTH,
            }),
            ("SparseSSM as released", {"method": "sparsessm"}, released()),
            ("Wanda", {"method": "output-energy"}, {"method": "wanda"}),
            ("magnitude", {"method": "magnitude"}, {"method": "magnitude"}),
        ):  # fmt: skip
            yield Cut(
                "whole model", percent(level), label,
                SelectiveConfig(
                    a_log=level, projections=ProjectionConfig(amount=level, **settings), **states
                ),
            )  # fmt: skip


def patterns() -> Iterator[Cut]:
    pattern = Pattern(keep=2, of=4)
    for name, label in (
        ("output-energy", "output energy (ours)"), ("sparsessm", "SparseSSM v2, released"),
        ("magnitude", "magnitude"),
    ):  # fmt: skip
        yield Cut("A_log", "2:4", label, SelectiveConfig(a_log=pattern, method=name))
    for label, settings in (
        ("OBS + refit (ours)", {}), ("SparseGPT, fresh", {"method": "sparsegpt"}),
        ("Wanda", {"method": "wanda"}), ("magnitude", {"method": "magnitude"}),
    ):  # fmt: skip
        yield Cut(
            "projections", "2:4", label,
            SelectiveConfig(projections=ProjectionConfig(amount=pattern, **settings)),
        )  # fmt: skip


def released() -> dict[str, object]:
    return {
        "method": "sparsegpt", "refresh": "block", "activations": "released",
        "allocation": "sensitivity", "width": WIDTH,
    }  # fmt: skip


def percent(level: float) -> str:
    return f"{100 * level:g} %"
