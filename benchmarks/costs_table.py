"""Render what calibration and tuning cost, from their stored results, as Markdown."""

from __future__ import annotations

from record import RESULTS
from ssmith.core.files import read_json, write_text

_CALIBRATION = (
    ("plain", "released procedure (SparseSSM)"),
    ("plain, broadcast", "the same with broadcast products for einsum"),
    ("reproducing", "ours, reproducing its masks"),
    ("voting", "ours, votes per step"),
    ("default", "ours, default criterion"),
    ("dense", "both forward passes of it, gathering nothing"),
    ("one dense forward", "one dense forward pass (floor)"),
)
# Title, key, goal, and whether more is better.
_GOALS = (
    ("released procedure against ours, out of the box", "calibration_vs_plain", 25, True),
    ("– the same if ours gathered nothing", "nothing_gathered_vs_plain", None, True),
    ("– the same if ours took one dense forward pass alone", "at_most_vs_plain", None, True),
    ("released procedure against ours, tuned", "calibration_vs_plain_tuned", 12, True),
    ("– the same if ours gathered nothing", "nothing_gathered_vs_plain_tuned", None, True),
    ("– the same if ours took one dense forward pass alone", "at_most_vs_plain_tuned", None, True),
    ("ours with votes per step against ours without", "voting_overhead", 1.3, False),
    ("what the default criterion adds to both forward passes", "statistics_overhead", 0.2, False),
    ("peak GB, Python and torch included", "peak_gb", 0.6, False),
    ("scan with 8 states against 16", "scan_16_to_8", 0.75, False),
    ("scan with 32 states against 64", "scan_64_to_32", 0.62, False),
    ("scan with 64 states against 128", "scan_128_to_64", 0.57, False),
    ("a whole model of 4 layers, 8 states against 16", "whole_model_16_to_8", None, False),
)
_TUNING = (
    ("step_offset_vs_lora", "training step, state-offset against LoRA"),
    ("step_offset_vs_scalar", "training step, state-offset against a single trained number"),
    ("peak_offset_vs_lora", "peak memory of a step, state-offset against LoRA"),
    ("decode_offset_vs_base", "decoding, with the offset against without"),
)


def table() -> str:
    """Return both tables."""
    found = read_json(RESULTS / "calibration.json")
    lines = [
        f"Calibration of one Mamba layer of width 768, per sequence of 2,048 tokens, "
        f"{found['threads']} threads, {found['versions']['machine']}; *tuned*: with freed memory "
        "kept, on both sides alike.",
        "",
        "| | seconds | peak GB | seconds, tuned | peak GB, tuned |",
        "|---|---|---|---|---|",
    ]
    for key, label in _CALIBRATION:
        plain, tuned = found["out of the box"][key], found["tuned"][key]
        lines.append(
            f"| {label} | {plain['seconds']:.3f} | {plain['peak_gb']:.2f} | "
            f"{tuned['seconds']:.3f} | {tuned['peak_gb']:.2f} |"
        )
    same = "are the same" if found["summary"]["masks_identical"] else "differ"
    lines += ["", f"The masks of the released procedure and of ours that reproduces it {same}."]
    lines += ["", "| ratio | measured | goal |", "|---|---|---|"]
    for label, key, goal, more in _GOALS:
        value = found["summary"][key]
        missed = goal is not None and (value < goal if more else value > goal)
        said = "–" if goal is None else f"{'≥' if more else '≤'} {goal:g}"
        lines.append(f"| {label} | {value:g}{' ✗' * missed} | {said} |")
    summary = read_json(RESULTS / "tune.json")["summary"]
    lines += ["", "What tuning costs (below 1 is cheaper):", "", "| | ratio |", "|---|---|"]
    lines += [f"| {label} | {summary[key]:.2f} |" for key, label in _TUNING]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    write_text(RESULTS / "costs.md", table())
