"""A Mamba-2 mixer as pruning sees it: its sizes, what flows through it, what an error costs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from ssmith.families.mamba2.forward import gated, scan_inputs, split, with_offsets
from ssmith.families.parts.cache import Carried
from ssmith.families.parts.convolving import at_least_float32
from ssmith.families.parts.hooks import expanded, hooks_of
from ssmith.ops.ssd import SSDInputs, ssd


@dataclass(frozen=True, kw_only=True)
class GroupedParts:
    """What flows through one mixer on one batch: what it is given, and what it makes of it.

    The latter when it is asked for first, and once. ``residual`` is the stream the layer adds to,
    None outside a block; ``lacking`` what it lacks behind the block, where that is asked for, as an
    output of the layer.
    """

    mixer: Any
    hidden: Float[Tensor, "b l m"]
    valid: Bool[Tensor, "b l"] | None = None
    residual: Float[Tensor, "b l m"] | None = None
    lacking: Float[Tensor, "b l m"] | None = None

    @cached_property
    def _projected(self) -> tuple[Tensor, Tensor, Tensor]:
        return split(self.mixer, self.hidden)

    @property
    def gate(self) -> Float[Tensor, "b l e"]:
        """What gates the outputs of the scan."""
        return self._projected[0]

    @property
    def raw(self) -> Float[Tensor, "b l f"]:
        """What the convolution is given: x, B and C, side by side."""
        return self._projected[1]

    @cached_property
    def scan(self) -> SSDInputs:
        """What the scan takes."""
        _, raw, dt = self._projected
        hooks = hooks_of(self.mixer)
        start = hooks.initial_state
        h0 = None if start is None else expanded(start, self.hidden.shape[0], 3)
        return scan_inputs(self.mixer, hooks, (raw, dt), Carried(recurrent=h0), self.valid)

    @property
    def x(self) -> Float[Tensor, "b l h p"]:
        """The inputs of the scan."""
        return self.scan.x


@dataclass(frozen=True)
class GroupedLayer:
    """The mixer of a Mamba-2 block, and of all hybrids that share it."""

    name: str
    mixer: Any

    @property
    def module(self) -> nn.Module:
        """The mixer itself."""
        found: nn.Module = self.mixer
        return found

    @property
    def output_map(self) -> nn.Linear:
        """The map whose output is the layer's."""
        found: nn.Linear = self.mixer.out_proj
        return found

    @property
    def g(self) -> int:
        """Groups: heads of one group share their B and C."""
        return int(self.mixer.n_groups)

    @property
    def e(self) -> int:
        """Channels of all heads together."""
        return int(self.mixer.num_heads * self.mixer.head_dim)

    @property
    def n(self) -> int:
        """States of each group, as they are carried."""
        maps: Tensor | None = self.mixer._buffers.get("state_map_B")
        return int(self.mixer.ssm_state_size) if maps is None else maps.shape[0] // self.g

    def parts(
        self, hidden: Float[Tensor, "b l m"], valid: Bool[Tensor, "b l"] | None = None
    ) -> GroupedParts:
        """Return what flows through the mixer up to the scan."""
        return GroupedParts(mixer=self.mixer, hidden=hidden, valid=valid)

    def features(self, parts: GroupedParts) -> Float[Tensor, "b l e"]:
        """Return what ``out_proj`` is given."""
        y = with_offsets(ssd(parts.scan)[0], parts.scan.C, hooks_of(self.mixer))
        return gated(self.mixer, y, parts.gate)

    def activations(self, parts: GroupedParts) -> Float[Tensor, "b l e"]:
        """Return what ``in_proj`` gives the channels of the heads, before the convolution."""
        return parts.raw[..., : self.e]

    def outward(self) -> Float[Tensor, "e"]:
        """Return the energy that each channel of what ``out_proj`` is given has behind it."""
        weight: Tensor = self.mixer.out_proj.weight
        return at_least_float32(weight).square().sum(0)

    def gain(
        self, y: Float[Tensor, "b e"], gate: Float[Tensor, "b e"], outward: Float[Tensor, "e"]
    ) -> Float[Tensor, "b e"]:
        """Return what a small error of each channel's scan output adds to the output's energy.

        ``(SiLU(z)·ρ·w)²·‖W_o‖²`` at one step, with ρ the norm's factor and w its weight: the
        diagonal of the gated norm's Jacobian, without what the error does to ρ; ``outward`` is
        ``‖W_o‖²``, the same at every step.
        """
        y, gate = at_least_float32(y), at_least_float32(gate)
        factor = functional.silu(gate)
        norm = getattr(self.mixer, "norm", None)
        if getattr(self.mixer, "mamba_rms_norm", True) and norm is not None:
            first = getattr(norm, "norm_before_gate", False)
            factor = factor * _norm_factor(norm, y if first else y * factor)
        return factor.square() * outward


def _norm_factor(norm: Any, normed: Float[Tensor, "b e"]) -> Float[Tensor, "b e"]:
    """Return by what a gated norm multiplies each channel."""
    size = getattr(norm, "group_size", None) or normed.shape[-1] // norm.n_groups
    mean = normed.unflatten(-1, (-1, size)).square().mean(-1, keepdim=True)
    rho = (mean + norm.variance_epsilon).rsqrt().expand(-1, -1, size).flatten(1)
    found: Tensor = rho * at_least_float32(norm.weight)
    return found
