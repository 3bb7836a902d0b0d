"""Mixtures of experts: where each expert lives, with the router's row for it."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

from ssmith.core.unit import Coupling
from ssmith.families.parts.stock import kind_of
from ssmith.families.parts.tables import existing, slices_of
from ssmith.families.routed import ExpertLayer
from ssmith.families.tabled import TableFamily


class _Names(NamedTuple):
    """What a class calls its router, and the configuration the number of experts."""

    router: str
    key: str


_CLASSES = {
    "GraniteMoeHybridMoE": _Names("router", "num_local_experts"),
    "JambaSparseMoeBlock": _Names("router", "num_experts"),
    "NemotronHMoE": _Names("gate", "n_routed_experts"),
}
_TENSORS = ("experts.gate_up_proj", "experts.up_proj", "experts.down_proj")


def tables(layer: Any) -> tuple[Coupling, ...]:
    """Return where experts live. The router needs as many as it sends a token to, and a choice."""
    name, key = _CLASSES[kind_of(layer)]
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
    )


def config(layer: Any) -> Mapping[str, Fraction]:
    """Return what a stock configuration says of the experts, and of the layer beside them."""
    name, key = _CLASSES[kind_of(layer)]
    found = {key: Fraction(layer.get_submodule(name).num_experts)}
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
