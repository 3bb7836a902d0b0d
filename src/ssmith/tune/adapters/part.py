"""Parts: the trainable pieces of an adapter, each carried by the module it acts on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor, nn

from ssmith.families.parts.hooks import Hooks


class Part(nn.Module, ABC):
    """Trainable tensors of one method at one module; all its parameters are trained and saved.

    ``label`` names the method, for learning rates of its own; ``by_row`` says whether each sequence
    of a batch may have its own; ``cannot_merge`` why the part cannot be written into the base
    model, empty if it can; ``matrices`` its parameters that are factors of a product, which Muon
    may step.
    """

    label: str
    matrices: ClassVar[tuple[str, ...]] = ()
    by_row = False
    cannot_merge = ""

    def file_names(self) -> dict[str, str]:
        """Return what each tensor is called in an adapter's file, by its name here."""
        return {name: name for name in self.state_dict()}

    def groups(self) -> dict[str, str]:
        """Return which group of learning rates each parameter belongs to, by name."""
        return {name: self.label for name, _ in self.named_parameters()}

    def inert(self) -> tuple[str, ...]:
        """Return parameters that by design receive no gradient."""
        return ()

    def held(self) -> dict[str, Tensor]:
        """Return what a module can hold beside its weights in this part's place, by name.

        The engine adds it, `ssmith.save` writes it into a file of its own, and stock code does not
        know it; nothing if there is no such thing.
        """
        return {}


class MixerPart(Part):
    """A part that changes what the engine computes inside a selective mixer.

    ``constant`` says that what it changes are its parameters themselves, nothing computed.
    """

    constant = False

    @abstractmethod
    def change(self) -> Hooks:
        """Return what this part changes in its mixer."""


class LinearPart(Part):
    """A part that adds to the output of a linear layer.

    Its buffer ``keep`` says where the layer's weight was not pruned; None if nothing was.
    """

    def mask(self) -> Bool[Tensor, "o i"] | None:
        """Return where the weight may change, or None for everywhere."""
        found: Any = self.keep
        return found if isinstance(found, Tensor) else None

    @abstractmethod
    def add(self, linear: nn.Linear, x: Float[Tensor, "*b i"], y: Float[Tensor, "*b o"]) -> Tensor:
        """Return the output of the layer with this part's doing in it."""

    @abstractmethod
    def merged(self, linear: nn.Linear) -> Float[Tensor, "o i"]:
        """Return the weight that does the same without this part."""


class LTIPart(Part):
    """A part that changes an S5 or S4D layer from outside."""

    def offset(self) -> Float[Tensor, "m"] | None:
        """Return what is added to the layer's output at every step, or None."""
        return None

    def start(self) -> Complex[Tensor, "s"] | None:
        """Return the state before the first step, or None for zero."""
        return None


class TensorPart(Part):
    """Trained values in the place of one of a module's parameters.

    ``keep`` is False where something was pruned, which stays as it is; None if nothing was.
    """

    def __init__(
        self, parameter: str, label: str, base: Tensor, keep: Bool[Tensor, "..."] | None = None
    ) -> None:
        super().__init__()
        self.parameter = parameter
        self.label = label
        self.register_buffer("keep", keep, persistent=False)
        self.value = nn.Parameter(base.detach().to(master_dtype(base)).clone())

    def of(self, base: Tensor) -> Tensor:
        """Return what stands in the place of ``base``, in full precision."""
        keep: Any = self.keep
        return self.value if keep is None else torch.where(keep, self.value, base.to(self.value))


class Alias(TensorPart):
    """The same trained values, carried elsewhere, for a parameter that is tied to another one."""

    def __init__(self, parameter: str, trained: TensorPart) -> None:
        nn.Module.__init__(self)
        self.parameter = parameter
        self.label = trained.label
        # Past the registry of submodules: the tensors are listed and saved at the other place.
        object.__setattr__(self, "trained", trained)

    def of(self, base: Tensor) -> Tensor:
        trained: TensorPart = self.__dict__["trained"]
        return trained.of(base)


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where a part goes: the module that carries it ("" for the model), and its key there."""

    owner: str
    key: str
    part: Part


def master_dtype(like: Tensor) -> torch.dtype:
    """Return the precision in which what trains is kept: float32, or float64 in such a model."""
    return torch.float64 if like.dtype in (torch.float64, torch.complex128) else torch.float32
