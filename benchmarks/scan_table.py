"""The scan benchmark as ratios and as a table: every rival beside both settings."""

from __future__ import annotations

from typing import Any

COSTS = ("matmuls",)
"""What is no rival: a lower bound, shown as how many times of it ours takes."""

# Title, key, goal out of the box, goal with both sides tuned; a goal of None was not set.
GOALS: tuple[tuple[str, str, float | None, float | None], ...] = (
    ("scan forward, transformers' loop", "scan_fwd_vs_loop", 60, 40),
    ("scan forward, mambapy", "scan_fwd_vs_mambapy", None, 35),
    ("scan forward, best torch.compile form", "scan_fwd_vs_compiled", None, 8),
    ("scan forward + backward, mambapy", "scan_fwdbwd_vs_mambapy", 80, 35),
    ("Mamba forward, default", "hf_forward_vs_default", 5, 3.5),
    ("training step, default", "hf_train_vs_default", 400, 100),
    ("training step, mambapy", "hf_train_vs_mambapy", 10, 3.5),
    ("training step, its matrix products (cost)", "hf_train_vs_matmuls", None, 1.3),
    ("causal conv1d + SiLU, torch", "conv1d_vs_torch", 10, None),
    ("causal conv1d + SiLU, torch in a mixer", "conv1d_vs_torch_in_mixer", 10, None),
    ("generate, 130M shape, default", "generate_vs_default", 1.4, None),
    ("S5 layer, best torch parallel scan", "s5_layer_vs_pscan", 2, None),
    ("S5 layer, published torch form", "s5_layer_vs_complex_kogge_stone", None, None),
    ("backward at 2L against L (cost)", "backward_2L_vs_L", 2.2, None),
    ("layer with one energy (cost)", "statistics_one_energy_vs_layer", 1.2, None),
    (
        "layer with four energies and a Gram matrix (cost)",
        "statistics_everything_vs_layer",
        1.2,
        None,
    ),
    ("layer with votes at every step (cost)", "statistics_voting_vs_layer", 1.3, None),
)
LOWER = ("matmuls", "backward", "statistics")


def summary(cases: dict[str, Any], memory: list[float]) -> dict[str, float]:
    """Return how many times faster than each rival, and cost ratios for what must not grow."""
    found: dict[str, float] = {}
    for setting, suffix in (("out_of_the_box", ""), ("tuned", "_tuned")):
        times = {name: case[setting]["seconds"] for name, case in cases.items()}
        if "hf_train" in times and "hf_train_default" in times:
            times["hf_train"] = times["hf_train"] | times["hf_train_default"]
        for case, rivals in times.items():
            found |= {f"{key}{suffix}": value for key, value in ratios(case, rivals).items()}
    if len(memory) == 2 and memory[0] > 0:
        found["backward_memory_2L_vs_L"] = memory[1] / memory[0]
    return {name: round(value, 3) for name, value in found.items()}


def ratios(case: str, rivals: dict[str, float]) -> dict[str, float]:
    """Return the ratios of one case."""
    if case == "hf_train_default":
        return {}
    if case == "backward":
        return {"backward_2L_vs_L": rivals["2L"] / rivals["1L"]}
    if case == "statistics":
        return {
            f"statistics_{name}_vs_layer": seconds / rivals["ours"]
            for name, seconds in rivals.items()
            if name != "ours"
        }
    found = {
        f"{case}_vs_{name}": rivals["ours"] / seconds if name in COSTS else seconds / rivals["ours"]
        for name, seconds in rivals.items()
        if name != "ours"
    }
    if case == "s5_layer":
        best = min(rivals["chunked"], rivals["kogge_stone"])
        found["s5_layer_vs_pscan"] = best / rivals["ours"]
    return found


def render(cases: dict[str, Any], found: dict[str, float]) -> str:
    """Return the results as Markdown, goals that are not met said so."""
    lines = [
        "# The scan engine against its rivals",
        "",
        "Made by `make bench-scan`; raw times in `scan.json`. A ratio says how many times faster",
        "ours is; rows marked (cost) say how many times longer, and less is better. Tuned: the",
        "memory allocator set alike on both sides. A goal that is not met is marked ✗.",
        "",
        "| work, rival | out of the box | goal | both tuned | goal |",
        "|---|---|---|---|---|",
    ]
    for title, key, plain_goal, tuned_goal in GOALS:
        plain, tuned = found.get(key), found.get(f"{key}_tuned")
        if plain is None and tuned is None:
            continue
        lower = any(word in key for word in LOWER)
        lines.append(
            f"| {title} | {cell(plain, plain_goal, lower=lower)} | {goal(plain_goal, lower=lower)} "
            f"| {cell(tuned, tuned_goal, lower=lower)} | {goal(tuned_goal, lower=lower)} |"
        )
    busy = {
        name: max(case[setting]["cores_busy_with_others"] for setting in case)
        for name, case in cases.items()
    }
    lines += ["", "Cores busy with other work while a case ran (above 0.1 a time is doubtful):", ""]
    lines += [", ".join(f"{name} {value:.2f}" for name, value in busy.items()) + "."]
    if "backward_memory_2L_vs_L" in found:
        lines += [
            "",
            f"Memory of the backward at 2L against L: {found['backward_memory_2L_vs_L']}.",
        ]
    return "\n".join(lines) + "\n"


def goal(value: float | None, *, lower: bool) -> str:
    """Return a goal as a cell."""
    return "–" if value is None else f"{'≤' if lower else '≥'} {value:g}"


def cell(value: float | None, wanted: float | None, *, lower: bool) -> str:
    """Return a ratio as a cell, marked where its goal is missed."""
    if value is None:
        return "–"
    missed = wanted is not None and (value > wanted if lower else value < wanted)
    return f"{value:.2f}{' ✗' if missed else ''}"
