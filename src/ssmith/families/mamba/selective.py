"""A selective layer as pruning sees it: its sizes, what flows through it, and how it is cut."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn

from ssmith.core.selective import LayerWeights
from ssmith.families.coupling import present
from ssmith.families.layout import Named
from ssmith.families.mamba.forward import mixed, selection, steps_of
from ssmith.families.mamba.units import entry, layout_of, named
from ssmith.families.parts.convolving import at_least_float32, convolve
from ssmith.families.parts.plain import is_plain
from ssmith.ops.reuse import linear
from ssmith.ops.selective_scan import ScanInputs

SEMANTICS = "ssmith_semantics"
"""Attribute of a mixer that says what the cut entries of its A_log do."""


@dataclass(frozen=True)
class Branches:
    """The two branches of one batch before the scan, which no cut of states changes.

    ``x`` is convolved and activated, ``z`` the gate. ``selected``, what ``x_proj`` makes of x, does
    change with cuts of states; None where it is not held.
    """

    x: Float[Tensor, "b l e"]
    z: Float[Tensor, "b l e"]
    selected: Float[Tensor, "b l s"] | None = None

    @property
    def size(self) -> int:
        """Bytes that are held."""
        held = [item for item in (self.x, self.z, self.selected) if item is not None]
        return sum(item.numel() * item.element_size() for item in held)

    def only(self, streams: Collection[str]) -> Branches | None:
        """Return these streams; None where they are not enough to go on from."""
        if not {"x", "z"} <= set(streams):
            return None
        return self if "selected" in streams else Branches(self.x, self.z)

    def rows(self, part: slice) -> Branches:
        """Return some of the sequences, in the same memory."""
        selected = None if self.selected is None else self.selected[part]
        return Branches(self.x[part], self.z[part], selected)


@dataclass(frozen=True, kw_only=True)
class MixerParts:
    """What flows through one mixer on one batch.

    The inputs of ``in_proj`` (``hidden``), ``conv1d`` (``raw``), ``x_proj`` (``x``), ``dt_proj``
    (``rank``) and the scan; None where they are no longer held. ``residual`` is the stream the
    layer adds to, None outside a block.
    """

    hidden: Float[Tensor, "b l m"] | None = None
    raw: Float[Tensor, "b l e"] | None = None
    x: Float[Tensor, "b l e"]
    rank: Float[Tensor, "b l r"]
    scan: ScanInputs
    valid: Bool[Tensor, "b l"] | None
    residual: Float[Tensor, "b l m"] | None = None


@dataclass(frozen=True)
class SelectiveLayer:
    """The mixer of a Mamba or Falcon-Mamba block."""

    name: str
    mixer: Any

    @classmethod
    def of(cls, name: str, module: nn.Module) -> SelectiveLayer:
        """Return a mixer as pruning sees it, whatever its class calls its parts."""
        return cls(name, named(module))

    @property
    def module(self) -> nn.Module:
        """The mixer itself."""
        found: nn.Module = self.mixer.module if isinstance(self.mixer, Named) else self.mixer
        return found

    def part(self, name: str) -> Any:
        """Return a part of the mixer by its usual name: ``in_proj``, ``x_proj`` and so on."""
        return getattr(self.mixer, name)

    @property
    def e(self) -> int:
        """Inner channels."""
        return int(self.mixer.A_log.shape[0])

    @property
    def n(self) -> int:
        """States per channel."""
        return int(self.mixer.A_log.shape[1])

    @property
    def normalises(self) -> bool:
        """Whether B and C are normalised over the states (Falcon-Mamba)."""
        return getattr(self.mixer, "c_layernorm", None) is not None

    @property
    def present(self) -> Bool[Tensor, "e n"]:
        """False where an entry of A_log has been cut."""
        return present(self.module, entry(self.module))

    @property
    def semantics(self) -> str | None:
        """What the cut entries of A_log do; None if there are none."""
        found: str | None = getattr(self.module, SEMANTICS, None)
        return found

    def weights(self) -> LayerWeights:
        """Return what criteria read beside statistics."""
        return LayerWeights(
            layer=self.name,
            A_log=self.mixer.A_log.detach().double().cpu(),
            out_weight=self.mixer.out_proj.weight.detach(),
            present=self.present.cpu(),
        )

    def parts(
        self, hidden: Float[Tensor, "b l m"], valid: Bool[Tensor, "b l"] | None = None
    ) -> MixerParts:
        """Rebuild everything that flows through the mixer up to the scan.

        Forward hooks would miss the inputs of ``conv1d`` and ``dt_proj``, and no module returns the
        state. Steps that are not valid stand at the end of their row.
        """
        raw, z = self.mixer.in_proj(hidden).chunk(2, dim=-1)
        parts = self.parts_of(self._selected(convolve(self.mixer, raw, None), z), valid)
        return replace(parts, hidden=hidden, raw=raw)

    def branches(self, hidden: Float[Tensor, "b l m"]) -> Branches:
        """Run the mixer up to its branches, and hold nothing else."""
        in_proj = self.mixer.in_proj
        if not is_plain(in_proj, nn.Linear):
            # It is called, so that what stands here or is attached to it takes part.
            raw, z = in_proj(hidden).chunk(2, dim=-1)
            return self._selected(convolve(self.mixer, raw, None), z)
        # Made in one product, the two would keep each other's memory alive.
        biases = (None, None) if in_proj.bias is None else in_proj.bias.chunk(2)
        weights = in_proj.weight.chunk(2)
        x = convolve(self.mixer, linear(hidden, weights[0], biases[0]), None)
        return self._selected(x, linear(hidden, weights[1], biases[1]))

    def _selected(self, x: Tensor, z: Tensor) -> Branches:
        return Branches(x, z, self.mixer.x_proj(x))

    def parts_of(self, branches: Branches, valid: Bool[Tensor, "b l"] | None = None) -> MixerParts:
        """Rebuild what flows from the branches into the scan, without what lies before them."""
        mixer, x = self.mixer, branches.x
        selected = mixer.x_proj(x) if branches.selected is None else branches.selected
        rank, B, C = selection(mixer, selected)
        dt, dt_weight, dt_bias = steps_of(mixer, rank)
        h0 = getattr(mixer, "initial_state", None)
        scan = ScanInputs(
            x=x, dt=dt, A=-at_least_float32(mixer.A_log).exp(), B=B, C=C, D=mixer.D, z=branches.z,
            dt_bias=dt_bias, dt_weight=dt_weight, dt_softplus=True, valid=valid,
            h0=None if h0 is None else h0.expand(x.shape[0], -1, -1),
            h_offset=getattr(mixer, "state_offset", None),
        )  # fmt: skip
        return MixerParts(x=x, rank=rank, scan=scan, valid=valid)

    def output(self, branches: Branches) -> Float[Tensor, "b l m"]:
        """Return the mixer's output from its branches on: what its forward pass returns."""
        return mixed(self.mixer, branches.x, branches.z, branches.selected)

    def own_name(self, parameter: str) -> str:
        """Return what the mixer's class calls a parameter, given our name of it."""
        part, _, name = parameter.rpartition(".")
        return f"{layout_of(self.module).name(part)}.{name}"
