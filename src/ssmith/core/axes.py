"""The glossary: which letter means which axis here, and in each source.

N, P, H, D and L all mean two things in this field. Inside ssmith axes are
lower case and have one meaning; matrices are upper case; adapters in
``families/`` translate at the border.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis of the house.

    Args:
        letter: the lower-case letter used in shapes.
        meaning: what it counts.
        sources: the letter each source uses for it.
    """

    letter: str
    meaning: str
    sources: dict[str, str] = field(default_factory=dict)


AXES: tuple[Axis, ...] = (
    Axis(
        letter="b", meaning="sequences in a batch", sources={"S4D": "B", "S5": "bsz", "Mamba": "B"}
    ),
    Axis(letter="l", meaning="time steps", sources={"S4D": "L", "S5": "L", "Mamba": "L"}),
    Axis(
        letter="m",
        meaning="model width",
        sources={"S4D": "H", "S5": "H", "Mamba": "d_model", "LAST": "h"},
    ),
    Axis(letter="e", meaning="inner channels of a selective layer", sources={"Mamba": "D"}),
    Axis(letter="h", meaning="heads", sources={"Mamba-2": "nheads"}),
    Axis(letter="p", meaning="channels per head", sources={"Mamba-2": "P, headdim"}),
    Axis(
        letter="n",
        meaning="states of one layer (S5) or of one channel (S4D, Mamba); a conjugate pair is one",
        sources={"S4D": "N/2", "S5": "P", "Mamba": "N, d_state", "LAST": "n"},
    ),
    Axis(letter="s", meaning="all states of a layer, flat", sources={"S4D": "H·N/2", "S5": "P"}),
    Axis(letter="g", meaning="groups that share B and C", sources={"Mamba-2": "G, ngroups"}),
    Axis(letter="r", meaning="rank of the Δ projection", sources={"Mamba": "R, dt_rank"}),
    Axis(letter="k", meaning="taps of the causal convolution", sources={"Mamba": "d_conv"}),
    Axis(letter="c", meaning="channels of the user's input series", sources={"S4D": "d_input"}),
    Axis(letter="o", meaning="outputs of a head: classes, targets or horizon × channels"),
)
