"""Which mixers of transformers compute a selective scan, and what the others compute instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Maths = Literal["mamba", "mamba2", "zamba"]


@dataclass(frozen=True, kw_only=True)
class Known:
    """A mixer the engine runs.

    Args:
        family: what transformers calls the type of its model.
        maths: what it computes: Mamba's scan, Mamba-2's, or Mamba's by head.
        hybrid: class of the model that holds it beside attention layers; None if there are none.
    """

    family: str
    maths: Maths
    hybrid: str | None = None


KNOWN: dict[str, Known] = {
    "MambaMixer": Known(family="mamba", maths="mamba"),
    "FalconMambaMixer": Known(family="falcon_mamba", maths="mamba"),
    "JambaMambaMixer": Known(family="jamba", maths="mamba", hybrid="JambaModel"),
    "ZambaMambaMixer": Known(family="zamba", maths="zamba", hybrid="ZambaModel"),
    "Mamba2Mixer": Known(family="mamba2", maths="mamba2"),
    "BambaMixer": Known(family="bamba", maths="mamba2", hybrid="BambaModel"),
    "FalconH1Mixer": Known(family="falcon_h1", maths="mamba2", hybrid="FalconH1Model"),
    "GraniteMoeHybridMambaLayer": Known(
        family="granitemoehybrid", maths="mamba2", hybrid="GraniteMoeHybridModel"
    ),
    "NemotronHMamba2Mixer": Known(family="nemotron_h", maths="mamba2", hybrid="NemotronHModel"),
    "Zamba2MambaMixer": Known(family="zamba2", maths="mamba2", hybrid="Zamba2Model"),
}
HYBRIDS = frozenset(known.hybrid for known in KNOWN.values() if known.hybrid)
FAMILIES = tuple(known.family for known in KNOWN.values())

_DELTA_RULE = ("DeltaNet", "DeltaAttention", "LinearAttention", "ForgetGate")


def why_not(mixer: type) -> str:
    """Return why the engine does not run a module that has an ``A_log``, in words."""
    name = mixer.__name__
    if mixer.__module__.startswith("transformers."):
        if name.endswith(_DELTA_RULE):
            return f"{name} updates a matrix by the gated delta rule, which is no selective scan"
        return f"{name} is not a mixer the engine knows"
    return f"{name} is not transformers' own code, which is what the engine knows"
