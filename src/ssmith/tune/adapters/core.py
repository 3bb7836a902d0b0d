"""Core adapters: a small square matrix between two fixed bases of a projection's change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from typing import Any, ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ssmith.core.checks import check_choice, check_integer, check_number
from ssmith.core.errors import InputError
from ssmith.core.seeds import generator
from ssmith.tune.adapters.method import WarmedMethod
from ssmith.tune.adapters.part import LinearPart, Placement, TensorPart, master_dtype
from ssmith.tune.adapters.pruned import kept
from ssmith.tune.adapters.survey import Survey, matching
from ssmith.tune.adapters.tensors import check_targets

Basis = Literal["warm-up", "gradient", "seeded"]
_PROJECTIONS = ("in_proj", "out_proj")


@dataclass(frozen=True, kw_only=True)
class Core(WarmedMethod):
    """``W x + U·S·Vᵀ x`` with U and V fixed: only S, rank by rank, is trained.

    Args:
        targets: linear layers by name (see `LoRA`); None for ``in_proj`` and ``out_proj`` where
            the model has them, else every linear layer inside layers.
        rank: of S, ≥ 1; None for √(6·(smaller side)) of each layer: over both projections of a
            Mamba layer half the numbers of a LoRA of rank 8 on ``out_proj``.
        like_lora: in place of a rank: train as many numbers of each layer as a LoRA of this rank
            would, ≥ 1; the method ``core-wide`` is this one with 8.
        basis: ``"warm-up"``: the leading singular vectors of what a short training of the whole
            matrices changes, from which S starts; ``"gradient"``: those of one gradient over
            ``rows`` training rows; ``"seeded"``: drawn, and drawn again when the adapter is loaded,
            so that its file holds S alone.
        warmup_share: share of the run's steps that the warm-up takes, in (0, 1).
        warmup_rate: AdamW's rate in the warm-up, > 0.
        rows: training rows of the gradient, ≥ 1.
        seed: of a drawn basis.

    Raises:
        InputError: if a setting is outside its domain.

    Source: LoRA-XS (arXiv 2405.17604), which takes U and V from W itself.
    Differs: the bases come from what training changes, which the same number of trained numbers
        makes far better use of; the change is masked where the base was pruned.
    """

    method: ClassVar[str] = "core"
    named: ClassVar[Mapping[str, Mapping[str, Any]]] = {"core": {}, "core-wide": {"like_lora": 8}}
    warm_key: ClassVar[str] = "core_warmup"
    targets: tuple[str, ...] | None = None
    rank: int | None = None
    like_lora: int | None = None
    basis: Basis = "warm-up"
    warmup_share: float = 1 / 6
    warmup_rate: float = 0.003
    rows: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if self.targets is not None:
            check_targets(self.targets)
        for name in ("rank", "like_lora", "rows"):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name), at_least=1)
        if self.rank is not None and self.like_lora is not None:
            raise InputError(
                f"rank is {self.rank} and like_lora {self.like_lora}", allowed="one of both"
            )
        check_choice("basis", self.basis, get_args(Basis))
        check_number("warmup_share", self.warmup_share, above=0, below=1)
        check_number("warmup_rate", self.warmup_rate, above=0)
        check_integer("seed", self.seed, at_least=0)

    def sites(self, survey: Survey, draw: torch.Generator) -> list[Placement]:
        del draw
        names = self._names(survey)
        if self.basis == "seeded":
            return [self._drawn(name, survey.modules[name]) for name in names]
        found = []
        for name in names:
            linear: Any = survey.modules[name]
            part = TensorPart("weight", self.method, linear.weight, kept(linear, "weight"))
            found.append(Placement(owner=name, key=self.warm_key, part=part))
        return found

    def warm_steps(self, total: int) -> tuple[int, int]:
        steps = max(1, round(self.warmup_share * total)) if self.basis == "warm-up" else 0
        return steps, max(1, total - steps)

    def gradient_rows(self) -> int:
        return self.rows if self.basis == "gradient" else 0

    def warm_training(self) -> dict[str, Any]:
        return {"rates": {self.method: self.warmup_rate}, "schedule": "constant", "warmup": 0.0}

    def settled(self, survey: Survey, warm: Mapping[str, TensorPart]) -> list[Placement]:
        found = []
        for name, part in warm.items():
            linear: Any = survey.modules[name]
            base = linear._parameters["weight"].detach().double()
            change = part.of(linear._parameters["weight"]).detach().double() - base
            if not bool(change.any()):
                raise InputError(
                    f"{name} has not moved", next_step="train the adapter for its warm-up first"
                )
            k = self._rank(linear)
            left, values, right = torch.linalg.svd(change, full_matrices=False)
            start = values[:k] if self.basis == "warm-up" else torch.zeros_like(values[:k])
            bases = left[:, :k], right[:k].mT
            found.append(self._site(name, linear, bases, torch.diag(start)))
        return found

    def placed(
        self, survey: Survey, warm: Mapping[str, TensorPart], tensors: Mapping[str, Tensor]
    ) -> list[Placement]:
        found = []
        for name in warm:
            bases = [tensors.get(f"{name}.core.{letter}") for letter in "UV"]
            if bases[0] is not None and bases[1] is not None:
                k = bases[0].shape[-1]
                pair, zero = (bases[0], bases[1]), torch.zeros(k, k)
                found.append(self._site(name, survey.modules[name], pair, zero))
        return found

    def stored(self, survey: Survey) -> int:
        if self.basis == "seeded":
            return super().stored(survey)
        linears: list[Any] = [survey.modules[name] for name in self._names(survey)]
        return sum(
            self._rank(linear) * (linear.in_features + linear.out_features + self._rank(linear))
            for linear in linears
        )

    def _names(self, survey: Survey) -> list[str]:
        linears = [name for name, part in survey.modules.items() if isinstance(part, nn.Linear)]
        if self.targets is not None:
            hits = [hit for item in self.targets for hit in matching(item, linears, "linear layer")]
            return list(dict.fromkeys(hits))
        inside = [name for name in linears if survey.layer_of(name) is not None]
        named = [name for name in inside if name.rpartition(".")[2] in _PROJECTIONS]
        return named or inside or matching("in_proj", inside, "linear layer inside a layer")

    def _rank(self, linear: nn.Linear) -> int:
        side = min(linear.in_features, linear.out_features)
        usual = isqrt(6 * side)
        if self.like_lora is not None:
            usual = isqrt(self.like_lora * (linear.in_features + linear.out_features))
        return min(side, self.rank or usual)

    def _drawn(self, name: str, linear: Any) -> Placement:
        k, bases = self._rank(linear), []
        for side, length in (("U", linear.out_features), ("V", linear.in_features)):
            draw = generator(self.seed, "core", name, side)
            bases.append(torch.linalg.qr(_normal(length, k, draw)).Q)
        return self._site(name, linear, (bases[0], bases[1]), torch.zeros(k, k))

    def _site(
        self, name: str, linear: Any, bases: tuple[Tensor, Tensor], start: Tensor
    ) -> Placement:
        part = CorePart(linear, bases, start, stored=self.basis != "seeded")
        return Placement(owner=name, key="core", part=part)


class CorePart(LinearPart):
    """S between its bases, at one linear layer.

    Args:
        linear: the layer.
        bases: U, outputs × rank, and V, inputs × rank.
        start: S, rank × rank.
        stored: whether the file holds the bases.
    """

    label = "core"
    matrices = ("S",)

    def __init__(
        self,
        linear: nn.Linear,
        bases: tuple[Float[Tensor, "o k"], Float[Tensor, "i k"]],
        start: Float[Tensor, "k k"],
        *,
        stored: bool,
    ) -> None:
        super().__init__()
        like = linear.weight
        settings: Any = {"dtype": master_dtype(like), "device": like.device}
        self.U: Tensor
        self.V: Tensor
        for name, basis in zip("UV", bases, strict=True):
            self.register_buffer(name, basis.to(**settings).contiguous(), persistent=stored)
        self.S = nn.Parameter(start.to(**settings))
        self.register_buffer("keep", kept(linear, "weight"), persistent=False)

    def add(self, linear: nn.Linear, x: Float[Tensor, "*b i"], y: Float[Tensor, "*b o"]) -> Tensor:
        del linear
        if self.mask() is not None:
            return y + functional.linear(x.to(y.dtype), self._change().to(y.dtype))
        small = x.to(y.dtype) @ self.V.to(y.dtype)
        return y + functional.linear(
            functional.linear(small, self.S.to(y.dtype)), self.U.to(y.dtype)
        )

    def merged(self, linear: nn.Linear) -> Float[Tensor, "o i"]:
        return linear.weight.detach().to(self.S.dtype) + self._change().detach()

    def _change(self) -> Float[Tensor, "o i"]:
        change = self.U @ self.S @ self.V.mT
        mask = self.mask()
        return change if mask is None else change * mask


def _normal(rows: int, columns: int, draw: torch.Generator) -> Float[Tensor, "r c"]:
    return torch.randn(rows, columns, generator=draw, dtype=torch.float64)
