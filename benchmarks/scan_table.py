"""The scan benchmark as ratios and as a table: every rival beside both settings."""

from __future__ import annotations

from typing import Any

FLOOR = "floor_"
"""Starts the name of what is no rival: a lower bound, shown as how many times of it ours takes."""

# Title, key, goal out of the box, goal with both sides tuned; a goal of None was not set.
GOALS: tuple[tuple[str, str, float | None, float | None], ...] = (
    ("scan forward, transformers' loop", "scan_fwd_vs_loop", 60, 40),
    ("scan forward, mambapy", "scan_fwd_vs_mambapy", None, 35),
    ("scan forward, best torch.compile form", "scan_fwd_vs_compiled", None, 8),
    ("scan forward, our own torch form", "scan_fwd_vs_ours_torch", None, None),
    ("scan forward, torch's exponentials alone (cost)", "scan_fwd_vs_exponentials", None, None),
    ("scan forward, its bytes alone (floor)", "scan_fwd_vs_bytes", None, None),
    ("scan forward + backward, mambapy", "scan_fwdbwd_vs_mambapy", 80, 35),
    ("Mamba forward, default", "hf_forward_vs_default", 5, 3.5),
    ("Mamba forward, its matrix products alone (floor)", "hf_forward_vs_matmuls", None, None),
    ("training step, default", "hf_train_vs_default", 400, 100),
    ("training step, mambapy", "hf_train_vs_mambapy", 10, 3.5),
    ("training step, its matrix products alone (floor)", "hf_train_vs_matmuls", None, 1.3),
    ("causal conv1d + SiLU, torch", "conv1d_vs_torch", 10, None),
    ("causal conv1d + SiLU, torch in a mixer", "conv1d_vs_torch_in_mixer", 10, None),
    ("causal conv1d + SiLU, a copy of its input (floor)", "conv1d_vs_bytes", None, None),
    ("generate, 130M shape, default", "generate_vs_default", 1.4, None),
    ("generate, reading each weight once (floor)", "generate_vs_matmuls", None, None),
    ("S5 layer, best torch parallel scan on our matrix products", "s5_layer_vs_pscan", 2, None),
    (
        "S5 layer, torch parallel scan as published, complex products",
        "s5_layer_vs_complex_kogge_stone",
        2,
        None,
    ),
    ("S5 layer, its matrix products alone (floor)", "s5_layer_vs_matmuls", None, None),
    ("Mamba-2 scan forward, best torch chunks", "ssd_fwd_vs_torch", None, None),
    ("Mamba-2 scan forward + backward, best torch chunks", "ssd_fwdbwd_vs_torch", None, None),
    ("Mamba-2 forward, default", "mamba2_forward_vs_default", None, None),
    ("Mamba-2 forward, its matrix products alone (floor)", "mamba2_forward_vs_matmuls", None, None),
    ("backward at 2L against L (cost)", "backward_2L_vs_L", 2.2, 2.2),
    ("layer with one energy (cost)", "statistics_one_energy_vs_layer", None, None),
    (
        "layer with four energies and a Gram matrix (cost)",
        "statistics_everything_vs_layer",
        None,
        None,
    ),
    ("layer with votes at every step (cost)", "statistics_voting_vs_layer", None, None),
)
LOWER = ("matmuls", "exponentials", "bytes", "backward_2L", "statistics")


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
    ours, found = rivals["ours"], {}
    for name, seconds in rivals.items():
        if name.startswith(FLOOR):
            found[f"{case}_vs_{name.removeprefix(FLOOR)}"] = ours / seconds
        elif name != "ours":
            found[f"{case}_vs_{name}"] = seconds / ours
    if case == "s5_layer":
        found["s5_layer_vs_pscan"] = min(rivals["chunked"], rivals["kogge_stone"]) / ours
    chunked = [seconds for name, seconds in rivals.items() if name.startswith("torch_chunks")]
    if chunked:
        found[f"{case}_vs_torch"] = min(chunked) / ours
    return found


def render(cases: dict[str, Any], found: dict[str, float], every: list[str]) -> str:
    """Return the results as Markdown; goals that are not met, and cases left out, said so."""
    lines = [
        "# The scan engine against its rivals",
        "",
        "Made by `make bench-scan`; raw times in `scan.json`. A ratio says how many times faster",
        "ours is; rows marked (cost) say how many times longer, and less is better. Rows marked",
        "(floor) say how many times the time of what no implementation avoids ours takes: where a",
        "goal is not met, marked ✗, that is what is left to gain. Tuned: the memory allocator set",
        "alike on both sides.",
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
    missing = [name for name in every if name not in cases]
    if missing:
        lines += ["", f"Not measured: {', '.join(missing)}."]
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
