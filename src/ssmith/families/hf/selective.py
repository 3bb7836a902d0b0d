"""A selective layer as pruning sees it: its sizes, what flows through it, and how it is cut."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ssmith.core.errors import PlanError, UnsupportedError
from ssmith.core.selective import STORED_A_LOG, LayerWeights, check_entry_semantics
from ssmith.families.hf.engine import kind_of, mixers
from ssmith.families.hf.holding import PRUNABLE, held, hold_, let_go_
from ssmith.families.hf.mamba import at_least_float32, convolve, mixed, selection, steps_of
from ssmith.families.hf.plain import is_plain
from ssmith.ops.reuse import linear
from ssmith.ops.selective_scan import ScanInputs

PROJECTIONS = ("in_proj", "conv1d", "x_proj", "dt_proj", "out_proj")
NORMALISED = (
    "B and C are divided by their root mean square over the states: with columns removed the mean "
    "is over fewer, and what stays changes, too, which no criterion counts"
)
_SEMANTICS = "ssmith_semantics"


@dataclass(frozen=True)
class Branches:
    """The two branches of one batch before the scan, which no cut of states changes.

    Args:
        x: convolved and activated.
        z: the gate.
        selected: what ``x_proj`` makes of x, which cuts of columns do change; None where it is not
            held.
    """

    x: Float[Tensor, "b l e"]
    z: Float[Tensor, "b l e"]
    selected: Float[Tensor, "b l s"] | None = None

    @property
    def size(self) -> int:
        """Bytes that are held."""
        held = [item for item in (self.x, self.z, self.selected) if item is not None]
        return sum(item.numel() * item.element_size() for item in held)

    def without_selection(self) -> Branches:
        """Return what a cut of columns leaves valid."""
        return Branches(self.x, self.z)

    def rows(self, part: slice) -> Branches:
        """Return some of the sequences, in the same memory."""
        selected = None if self.selected is None else self.selected[part]
        return Branches(self.x[part], self.z[part], selected)


@dataclass(frozen=True, kw_only=True)
class MixerParts:
    """What flows through one mixer on one batch.

    Args:
        hidden: input of ``in_proj``; None where it is no longer held.
        raw: input of ``conv1d``; None where it is no longer held.
        x: the convolved, activated input: of ``x_proj`` and of the scan.
        rank: input of ``dt_proj``.
        scan: inputs of the scan; its gated output is the input of ``out_proj``.
        valid: False where a step is padding; None without padding.
        residual: the stream the layer adds to, as its block is given it; None outside a block.
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
    """The mixer of a Mamba or Falcon-Mamba block.

    Args:
        name: dotted name of the mixer in its model.
        mixer: the module.
    """

    name: str
    mixer: Any

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
        return hasattr(self.mixer, "c_layernorm")

    @property
    def forewarning(self) -> str:
        """What to know before columns are removed, in words; empty if nothing."""
        return NORMALISED if self.normalises else ""

    @property
    def present(self) -> Bool[Tensor, "e n"]:
        """False where an entry of A_log has been cut."""
        return held(self.mixer, "A_log")

    @property
    def semantics(self) -> str | None:
        """What the cut entries of A_log do; None if there are none."""
        found: str | None = getattr(self.mixer, _SEMANTICS, None)
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

        Forward hooks would miss the inputs of ``conv1d`` and ``dt_proj``, and no module returns
        the state.

        Args:
            hidden: input of the mixer.
            valid: False where a step is padding, which stands at the end of its row.

        Returns:
            The parts.
        """
        raw, z = self.mixer.in_proj(hidden).chunk(2, dim=-1)
        parts = self.parts_of(self._selected(convolve(self.mixer, raw, None), z), valid)
        return replace(parts, hidden=hidden, raw=raw)

    def branches(self, hidden: Float[Tensor, "b l m"]) -> Branches:
        """Run the mixer up to its branches, and hold nothing else.

        Args:
            hidden: input of the mixer.

        Returns:
            The branches.
        """
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
        """Rebuild what flows from the branches into the scan.

        Args:
            branches: of one batch.
            valid: False where a step is padding, which stands at the end of its row.

        Returns:
            The parts, without what lies before the branches.
        """
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
        """Return the mixer's output from its branches on: what its forward pass returns.

        Args:
            branches: of one batch; what they hold, nothing has changed since.

        Returns:
            The output.
        """
        return mixed(self.mixer, branches.x, branches.z, branches.selected)

    def cut_entries_(self, keep: Bool[Tensor, "e n"], semantics: str) -> None:
        """Cut entries of A_log; they stay cut under training.

        Args:
            keep: True = keep; joined with what was cut before.
            semantics: what a cut entry does: memoryless, unit-decay or fast-decay.

        Raises:
            InputError: if the semantics are none of these.
            PlanError: if the mask has another shape, or entries were cut with other semantics.
        """
        check_entry_semantics(semantics)
        if self.semantics not in (None, semantics):
            raise PlanError(
                f"{self.name}: entries were cut as {self.semantics!r}, not {semantics!r}",
                allowed="one semantics for all cut entries of a model",
                next_step=f"cut further with semantics {self.semantics!r}",
            )
        hold_(self.mixer, "A_log", keep, STORED_A_LOG[semantics])
        self.name_semantics_(semantics)

    def name_semantics_(self, semantics: str) -> None:
        """Note what the cut entries of A_log do."""
        setattr(self.mixer, _SEMANTICS, semantics)

    def cut_weight_(self, weight: str, keep: Bool[Tensor, "..."]) -> None:
        """Set entries of a projection's weight to zero; they stay zero under training.

        Args:
            weight: e.g. ``"in_proj.weight"``.
            keep: True = keep, in the weight's shape.
        """
        hold_(self.mixer, weight, keep, 0.0)

    @torch.no_grad()
    def shrink_columns_(
        self,
        keep: Bool[Tensor, "n"],
        *,
        B: Float[Tensor, "k e"] | None = None,
        C: Float[Tensor, "k e"] | None = None,
    ) -> None:
        """Remove whole states, the same ones in every channel.

        Args:
            keep: True = keep; at least one.
            B: new rows of ``x_proj`` for B of the kept states; as they are if None.
            C: the same for C.

        Raises:
            PlanError: if no state is kept, or the mask or the rows have another shape.
        """
        count = int(keep.sum())
        if keep.shape != (self.n,) or count == 0:
            raise PlanError(
                f"{self.name}: a mask of shape {tuple(keep.shape)} that keeps {count} columns",
                allowed=f"shape ({self.n},), at least one kept",
            )
        mixer, index = self.mixer, keep.nonzero().flatten().to(self.mixer.A_log.device)
        present, semantics = self.present[:, index], self.semantics
        let_go_(mixer, "A_log")
        weight = mixer.x_proj.weight
        rank, rows_B, rows_C = weight.split([weight.shape[0] - 2 * self.n, self.n, self.n])
        rows = [
            given.to(weight) if given is not None else old[index]
            for given, old in ((B, rows_B), (C, rows_C))
        ]
        if any(item.shape != (count, self.e) for item in rows):
            raise PlanError(
                f"{self.name}: new rows of shape {[tuple(item.shape) for item in rows]}",
                allowed=f"{(count, self.e)}",
            )
        kept = held(mixer.x_proj, "weight")
        let_go_(mixer.x_proj, "weight")
        mixer.x_proj.weight = _parameter(torch.cat([rank, *rows]), weight)
        mixer.A_log = _parameter(mixer.A_log[:, index], mixer.A_log)
        resize_(mixer)
        if semantics is not None:
            hold_(mixer, "A_log", present, STORED_A_LOG[semantics])
        if not bool(kept.all()):
            first, middle, last = kept.split([rank.shape[0], len(keep), len(keep)])
            kept = torch.cat([first, middle[index], last[index]])
            hold_(mixer, "x_proj.weight", kept, 0.0)


def find_selective(model: nn.Module) -> dict[str, SelectiveLayer]:
    """Return every layer whose A_log can be cut, by its dotted name.

    Args:
        model: any module.

    Returns:
        Layers by name, at least one.

    Raises:
        UnsupportedError: if there is none, or if Mamba-2 or unknown mixers are among them.
    """
    found, left = mixers(model)
    wrong = [name for name, mixer in found.items() if kind_of(mixer) not in PRUNABLE]
    if wrong or not found:
        reasons = "".join(f" ({name}: {reason})" for name, reason in left[:1])
        what = (
            f"{wrong[0]} is a {kind_of(found[wrong[0]])}, whose A_log has one number per head"
            if wrong
            else f"{type(model).__name__} has no selective layer with states of its own{reasons}"
        )
        raise UnsupportedError(
            what,
            allowed="models of type mamba and falcon_mamba, and mamba_ssm checkpoints of Mamba-1",
            next_step="`ssmith inspect` shows what a model has; S5 and S4D models take --ratio",
        )
    return {name: SelectiveLayer(name, mixer) for name, mixer in found.items()}


def resize_(mixer: Any) -> None:
    """Set the sizes a mixer keeps beside its tensors to those of its tensors."""
    mixer.ssm_state_size = mixer.A_log.shape[1]
    mixer.x_proj.out_features = mixer.x_proj.weight.shape[0]
    for norm in ("b_layernorm", "c_layernorm"):
        if hasattr(mixer, norm):
            ones = torch.ones(mixer.ssm_state_size, device=mixer.A_log.device)
            getattr(mixer, norm).weight = nn.Buffer(ones, persistent=False)


def _parameter(value: Tensor, like: Tensor) -> nn.Parameter:
    return nn.Parameter(value.detach().clone(), requires_grad=like.requires_grad)
