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
    summary = read_json(RESULTS / "tune.json")["summary"]
    lines += ["", "What tuning costs (below 1 is cheaper):", "", "| | ratio |", "|---|---|"]
    lines += [f"| {label} | {summary[key]:.2f} |" for key, label in _TUNING]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    write_text(RESULTS / "costs.md", table())
