"""What the rows of a selective mixer's projections stand for."""

from __future__ import annotations

from typing import Any

from ssmith.families.registry import family_of


def row_parts(mixer: Any, projection: str) -> dict[str, slice]:
    """Return the parts of a projection's output by name.

    ``in_proj``: x and z (Mamba), or z, x, B, C and dt (Mamba-2); ``x_proj``: dt, B and C. None for
    a projection with one meaning, or outside of a mixer.
    """
    family = None if mixer is None else family_of(mixer)
    maths = None if family is None else family.name
    sizes: dict[str, int] = {}
    if maths == "mamba" and projection == "x_proj":
        n = mixer.A_log.shape[1]
        sizes = {"dt": mixer.x_proj.out_features - 2 * n, "B": n, "C": n}
    elif maths == "mamba" and projection == "in_proj":
        sizes = dict.fromkeys(("x", "z"), mixer.in_proj.out_features // 2)
    elif maths == "mamba2" and projection == "in_proj":
        rows = mixer.n_groups * mixer.ssm_state_size
        inner = mixer.intermediate_size
        sizes = {"z": inner, "x": inner, "B": rows, "C": rows, "dt": mixer.num_heads}
    parts, start = {}, 0
    for name, size in sizes.items():
        parts[name] = slice(start, start + size)
        start += size
    return parts
