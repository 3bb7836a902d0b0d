"""What every method's configuration has: a label, its settings, and where its parts go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.names import unknown_name
from ssmith.core.settings import from_mapping, to_mapping
from ssmith.families.parts.stock import kind_of
from ssmith.tune.adapters.part import Part, Placement, TensorPart, master_dtype
from ssmith.tune.adapters.survey import Survey

_KINDS: dict[str, type[Method]] = {}
"""Methods by the names that files use, where every setting is spelt out."""
NAMED: dict[str, tuple[type[Method], Mapping[str, Any]]] = {}
"""Methods, and the settings that are meant, by the names that users give them."""


class Method(ABC):
    """A frozen dataclass of settings that knows which parts it puts where."""

    method: ClassVar[str]
    """What the method is called in files and on the command line."""
    named: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """The settings that users mean by further names; by its own alone if there are none."""
    in_layers: ClassVar[bool] = True
    """Whether it acts inside layers, and so has a coverage of them."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "method" in vars(cls):
            _KINDS[cls.method] = cls
            presets = cls.named or {cls.method: {}}
            NAMED.update({name: (cls, preset) for name, preset in presets.items()})

    @abstractmethod
    def sites(self, survey: Survey, draw: torch.Generator) -> list[Placement]:
        """Return the parts for a model, at least one, and where they go."""

    def stored(self, survey: Survey) -> int:
        """Return how many numbers the file of such an adapter of a model holds."""
        parts = [item.part for item in self.sites(survey, torch.Generator())]
        return sum(value.numel() for part in parts for value in part.state_dict().values())

    def label(self) -> str:
        """Return what the method is called with its main setting."""
        return self.method

    @classmethod
    def from_plain(cls, value: object) -> Method:
        """Return a method as files and command lines write it; `as_plain` writes one.

        It is a name (``state-offset-h``), a name with targets behind a colon and joined by ``+``
        (``lora:in_proj+out_proj``), or a mapping with ``method`` and its settings.
        """
        if isinstance(value, str):
            name, _, targets = value.strip().partition(":")
            return by_name(name, {"targets": targets.split("+")} if targets else {})
        if not isinstance(value, Mapping) or "method" not in value:
            raise InputError(f"method {value!r}", allowed="a name, or a mapping with 'method'")
        settings = dict(value)
        name = str(settings.pop("method"))
        if name in _KINDS and (name not in NAMED or set(NAMED[name][1]) <= set(settings)):
            return from_mapping(_KINDS[name], settings, where=f"method {name!r}")
        return by_name(name, settings)

    def as_plain(self) -> dict[str, Any]:
        """Return a JSON-ready dict: the method's name and its settings."""
        settings: Any = self
        return {"method": self.method, **to_mapping(settings)}


class WarmedMethod(Method):
    """A method that begins with a warm-up, after which other parts take its parts' places."""

    warm_key: ClassVar[str]
    """What its parts are called during the warm-up."""

    @abstractmethod
    def warm_steps(self, total: int) -> tuple[int, int]:
        """Return the steps of the warm-up, and those after it, in a run of so many.

        There are 0 steps of warm-up where it takes one gradient alone.
        """

    def gradient_rows(self) -> int:
        """Return over how many training rows it takes its one gradient; 0 if it warms by steps."""
        return 0

    @abstractmethod
    def warm_training(self) -> dict[str, Any]:
        """Return the settings of training that its warm-up has of its own."""

    @abstractmethod
    def settled(self, survey: Survey, warm: Mapping[str, TensorPart]) -> list[Placement]:
        """Return what takes the places of the warm parts, given by the modules that carry them."""

    @abstractmethod
    def placed(
        self, survey: Survey, warm: Mapping[str, TensorPart], tensors: Mapping[str, Tensor]
    ) -> list[Placement]:
        """Return the same, to be filled from a file's tensors; none if they are of the warm-up."""


class MixerMethod(Method):
    """A method with one part in every selective mixer."""

    key: ClassVar[str]
    """What its parts are called in their mixers."""
    known: ClassVar[tuple[str, ...]] = ("mamba", "mamba2")
    """Scans it is defined for."""

    @abstractmethod
    def part(self, name: str, mixer: Any, draw: torch.Generator) -> Part:
        """Return the part of one mixer."""

    def sites(self, survey: Survey, draw: torch.Generator) -> list[Placement]:
        if not survey.mixers:
            left = "; ".join(f"{name}: {reason}" for name, reason in survey.foreign.items())
            raise UnsupportedError(
                f"{self.label()} acts in selective layers, and {type(survey.model).__name__} has "
                "none the engine runs" + (f" ({left})" * bool(left)),
                allowed="models with Mamba or Mamba-2 layers",
            )
        for name, mixer in survey.mixers.items():
            if survey.maths_of(name) not in self.known:
                raise UnsupportedError(
                    f"{self.label()} is not defined for {name}, a {kind_of(mixer)}",
                    allowed=f"mixers that compute as {', '.join(self.known)}",
                    next_step="use state-offset, initial-state or lora",
                )
        return [
            Placement(owner=name, key=self.key, part=self.part(name, mixer, draw))
            for name, mixer in survey.mixers.items()
        ]


def by_name(name: str, settings: Mapping[str, Any] | None = None) -> Method:
    """Return a method by the name users give it."""
    if name not in NAMED:
        raise unknown_name(f"method {name!r}", name, NAMED)
    kind, preset = NAMED[name]
    return from_mapping(kind, {**preset, **(settings or {})}, where=f"method {name!r}")


def methods_of(names: str) -> tuple[Method, ...]:
    """Return the methods that are named between commas (see `Method.from_plain`)."""
    return tuple(Method.from_plain(name) for name in names.split(","))


def kaiming(rows: int, columns: int, like: Tensor, draw: torch.Generator) -> Tensor:
    """Draw a matrix uniform in ±1/√columns (Kaiming's with a = √5), in float32 or float64."""
    bound = columns**-0.5 if columns else 0.0
    drawn = torch.rand(rows, columns, generator=draw, dtype=torch.float64) * 2 - 1
    return (drawn * bound).to(dtype=master_dtype(like), device=like.device)
