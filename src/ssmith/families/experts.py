"""Mixtures of experts: where each expert lives, with the router's row for it, and its neurons."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

from ssmith.core.unit import Coupling, Slice
from ssmith.families.parts.stock import kind_of
from ssmith.families.parts.tables import existing, slices_of
from ssmith.families.routed import ExpertLayer
from ssmith.families.tabled import TableFamily


class _Names(NamedTuple):
    """What a class calls its router, and the configuration the numbers of experts and neurons."""

    router: str
    key: str
    width: str = ""


_CLASSES = {
    "GraniteMoeHybridMoE": _Names("router", "num_local_experts", "intermediate_size"),
    # Its feed-forward layers without experts read the same width.
    "JambaSparseMoeBlock": _Names("router", "num_experts"),
    "NemotronHMoE": _Names("gate", "n_routed_experts", "moe_intermediate_size"),
}
_TENSORS = ("experts.gate_up_proj", "experts.up_proj", "experts.down_proj")


def tables(layer: Any) -> tuple[Coupling, ...]:
    """Return where experts live. The router needs as many as it sends a token to, and a choice."""
    name, key, _ = _CLASSES[kind_of(layer)]
    router = layer.get_submodule(name)
    groups, asked = getattr(router, "num_group", 1), getattr(router, "topk_group", 1)
    each = max(-(-router.top_k // asked), 2)
    rows = [*_TENSORS, f"{name}.weight", f"{name}.e_score_correction_bias"]
    counts = ("num_experts", "experts.num_experts", f"{name}.num_experts")
    return (
        Coupling(
            unit="expert",
            grid=(router.num_experts,),
            slices=tuple(item for tensor in rows for item in slices_of(layer, tensor)),
            sizes=existing(layer, dict.fromkeys(counts, 1)),
            config_keys={key: 1},
            per_block=groups,
            least=groups * each,
            modes=("shrink",),
            notes=(f"the router sends each token to {router.top_k} of them",),
        ),
        _neurons(layer),
    )


def _neurons(layer: Any) -> Coupling:
    """Return where the neurons of all experts live: as many go from each, which ones is its own."""
    experts, width = layer.experts, _CLASSES[kind_of(layer)].width
    count, _, each = experts.down_proj.shape
    slices = [
        Slice(
            parameter=f"experts.{name}", dim=1, each=each, span=times * each, repeat=times,
            step=each,
        )
        for name, times in (("gate_up_proj", 2), ("up_proj", 1))
        if hasattr(experts, name)
    ]  # fmt: skip
    out = Slice(parameter="experts.down_proj", dim=2, each=each, span=each, silent=0.0)
    share = Fraction(1, count)
    return Coupling(
        unit="expert_neuron",
        grid=(count, each),
        slices=(*slices, out),
        sizes=existing(layer, dict.fromkeys(("experts.intermediate_dim", "ffn_dim"), share)),
        config_keys={width: share} if width else {},
        per_block=count,
        least=count,
    )


def config(layer: Any) -> Mapping[str, Fraction]:
    """Return what a stock configuration says of the experts, and of the layer beside them."""
    name, key, width = _CLASSES[kind_of(layer)]
    found = {key: Fraction(layer.get_submodule(name).num_experts)}
    if width:
        found[width] = Fraction(layer.experts.down_proj.shape[2])
    shared = getattr(layer, "shared_experts", None)
    if shared is not None:
        neurons = shared.down_proj.weight.shape[1]
        found["moe_shared_expert_intermediate_size"] = Fraction(neurons)
    return found


class ExpertFamily(TableFamily):
    """Routers with their experts; a feed-forward layer beside them is a layer of its own."""

    holds_layers = True

    def view(self, name: str, module: Any) -> ExpertLayer:
        """Return the layer as criteria see it."""
        return ExpertLayer(name, module, _CLASSES[kind_of(module)].router)


EXPERTS = ExpertFamily(name="experts", kind="mlp", classes=_CLASSES, tables=tables, config=config)
