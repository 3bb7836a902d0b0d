"""What every method's configuration has: a label, its settings, and where its parts go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib import import_module
from typing import Any, ClassVar

import torch
from torch import Tensor

from ssmith.core.errors import UnsupportedError
from ssmith.core.settings import to_mapping
from ssmith.families.parts.stock import kind_of
from ssmith.tune.adapters.part import Site, master_dtype
from ssmith.tune.adapters.survey import Survey


class Method(ABC):
    """A frozen dataclass of settings that knows which parts it puts where."""

    method: ClassVar[str]
    """What the method is called in files and on the command line."""
    in_layers: ClassVar[bool] = True
    """Whether it acts inside layers, and so has a coverage of them."""

    @abstractmethod
    def sites(self, survey: Survey, draw: torch.Generator) -> list[Site]:
        """Return the parts for a model, at least one, and where they go."""

    def label(self) -> str:
        """Return what the method is called with its main setting."""
        return self.method

    @classmethod
    def from_plain(cls, value: object) -> Method:
        """Return a method as files and command lines write it."""
        # The names know every method, and every method knows this class.
        names = import_module("ssmith.tune.adapters.names")
        made: Method = names.from_plain(value)
        return made

    def as_plain(self) -> dict[str, Any]:
        """Return a JSON-ready dict: the method's name and its settings."""
        settings: Any = self
        return {"method": self.method, **to_mapping(settings)}


def selective_sites(
    survey: Survey,
    method: str,
    build: Callable[[str, Any, str], Site],
    known: tuple[str, ...] = ("mamba", "mamba2"),
) -> list[Site]:
    """Return a site at every selective mixer of a model."""
    if not survey.mixers:
        left = "; ".join(f"{name}: {reason}" for name, reason in survey.foreign.items())
        raise UnsupportedError(
            f"{method} acts in selective layers, and {type(survey.model).__name__} has none the "
            "engine runs" + (f" ({left})" * bool(left)),
            allowed="models with Mamba or Mamba-2 layers",
        )
    found = []
    for name, mixer in survey.mixers.items():
        maths = survey.maths_of(name)
        if maths not in known:
            raise UnsupportedError(
                f"{method} is not defined for {name}, a {kind_of(mixer)}",
                allowed=f"mixers that compute as {', '.join(known)}",
                next_step="use state-offset, initial-state or lora",
            )
        found.append(build(name, mixer, maths))
    return found


def state_shape(mixer: Any, maths: str) -> tuple[int, ...]:
    """Return the shape of a mixer's state: (e, n), in Mamba-2 and Zamba (h, p, n)."""
    if maths == "mamba2":
        return (mixer.num_heads, mixer.head_dim, mixer.ssm_state_size)
    return tuple(mixer.A_log.shape)


def kaiming(rows: int, columns: int, like: Tensor, draw: torch.Generator) -> Tensor:
    """Draw a matrix uniform in ±1/√columns (Kaiming's with a = √5), in float32 or float64."""
    bound = columns**-0.5 if columns else 0.0
    drawn = torch.rand(rows, columns, generator=draw, dtype=torch.float64) * 2 - 1
    return (drawn * bound).to(dtype=master_dtype(like), device=like.device)
