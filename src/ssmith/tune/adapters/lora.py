"""LoRA and DoRA, on every projection where they truly act."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ssmith.core.checks import check_flag, check_integer, check_number
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.families.hf.projections import row_parts
from ssmith.tune.adapters.method import Method, kaiming
from ssmith.tune.adapters.part import LinearPart, Placement, master_dtype
from ssmith.tune.adapters.pruned import kept
from ssmith.tune.adapters.survey import Survey, matching

OFFICIAL = ("dt_proj", "x_proj:dt", "x_proj:B", "x_proj:C")
"""What the released code of State-offset Tuning puts LoRA on."""
Targets = tuple[str, ...] | Literal["all-linear", "official"]


@dataclass(frozen=True, kw_only=True)
class LoRA(Method):
    """``W x + (alpha/rank)·B·A·x``; with ``dora``, its rows scaled back to a learned length.

    Args:
        targets: ``"all-linear"``, every linear layer inside state space, attention and
            feed-forward layers; ``"official"``, see `OFFICIAL`; or names: whole dotted ones,
            their last parts, patterns with ``*``; ``x_proj:B`` means the rows of B alone.
        rank: ≥ 1.
        alpha: > 0; the rank if None, which makes the factor 1.
        dropout: probability in [0, 1) on the input of A, in training only.
        rslora: take ``alpha/√rank`` as the factor, which keeps steps alike over ranks.
        dora: learn the lengths of W's rows apart from their directions.

    Source: LoRA (arXiv 2106.09685), equation 3; rsLoRA (arXiv 2312.03732); DoRA (arXiv 2402.09353),
        equation 5, with the norm out of the gradient as in its section 4.3.
    Differs: where the base weight was pruned the change is masked too, so that what is merged is
        what was trained. Files are those of `peft`.
    """

    method: ClassVar[str] = "lora"
    named: ClassVar[Mapping[str, Mapping[str, Any]]] = {"lora": {}, "dora": {"dora": True}}
    targets: Targets = "all-linear"
    rank: int = 8
    alpha: float | None = None
    dropout: float = 0.0
    rslora: bool = False
    dora: bool = False

    def __post_init__(self) -> None:
        check_integer("rank", self.rank, at_least=1)
        if self.alpha is not None:
            check_number("alpha", self.alpha, above=0)
        check_number("dropout", self.dropout, at_least=0, below=1)
        for name in ("rslora", "dora"):
            check_flag(name, getattr(self, name))
        if isinstance(self.targets, str) and self.targets not in ("all-linear", "official"):
            raise InputError(
                f"targets is {self.targets!r}",
                allowed="'all-linear', 'official' or a list of names",
            )
        if not self.targets:
            raise InputError("targets is empty", allowed="at least one name")

    def label(self) -> str:
        return "dora" if self.dora else "lora"

    def sites(self, survey: Survey, draw: torch.Generator) -> list[Placement]:
        wanted: dict[tuple[str, str], None] = {}
        linears = [name for name, part in survey.modules.items() if isinstance(part, nn.Linear)]
        if self.targets == "all-linear":
            inside = [name for name in linears if survey.layer_of(name) is not None]
            if not inside:
                matching("all-linear", linears, "linear layer inside a layer")
            wanted = dict.fromkeys((name, "") for name in inside)
        else:
            for target in OFFICIAL if self.targets == "official" else self.targets:
                name, _, rows = target.partition(":")
                for found in matching(name, linears, "linear layer"):
                    wanted[found, rows] = None
        return [self._site(survey, name, rows, draw) for name, rows in wanted]

    def _site(self, survey: Survey, name: str, rows: str, draw: torch.Generator) -> Placement:
        linear: Any = survey.modules[name]
        if self.dora and not linear.weight.is_floating_point():
            raise UnsupportedError(
                f"dora on {name}, whose weight is quantised ({linear.weight.dtype}): the lengths "
                "of its rows are not at hand",
                allowed="layers in floating point",
                next_step="use lora",
            )
        place = None
        if rows:
            parent, _, last = name.rpartition(".")
            parts = row_parts(survey.mixers.get(parent), last)
            if rows not in parts:
                raise InputError(
                    f"target {last}:{rows} at {name}",
                    allowed=", ".join(f"{last}:{key}" for key in parts) or f"{last} as a whole",
                )
            place = parts[rows]
        part = LoRAPart(linear, self, place, draw)
        return Placement(owner=name, key=f"lora_{rows}" if rows else "lora", part=part)


class LoRAPart(LinearPart):
    """A and B of one linear layer, or of some of its rows."""

    matrices = ("A", "B")

    def __init__(
        self, linear: nn.Linear, config: LoRA, rows: slice | None, draw: torch.Generator
    ) -> None:
        super().__init__()
        self.rows = rows
        self.label = config.label()
        root = config.rank**0.5 if config.rslora else config.rank
        self.scale = (config.alpha or config.rank) / root
        self.dropout = config.dropout
        like = linear.weight
        out = linear.out_features if rows is None else rows.stop - rows.start
        settings: Any = {"dtype": master_dtype(like), "device": like.device}
        self.A = nn.Parameter(kaiming(config.rank, linear.in_features, like, draw))
        self.B = nn.Parameter(torch.zeros(out, config.rank, **settings))
        if config.dora:
            lengths = torch.linalg.vector_norm(self._own(like).detach().to(self.B.dtype), dim=1)
            self.lengths = nn.Parameter(lengths)
        mask = kept(linear, "weight")
        self.register_buffer("keep", None if mask is None else self._own(mask), persistent=False)

    def file_names(self) -> dict[str, str]:
        names = {"A": "lora_A.weight", "B": "lora_B.weight", "lengths": "lora_magnitude_vector"}
        return {name: names[name] for name in self.state_dict()}

    def add(self, linear: nn.Linear, x: Float[Tensor, "*b i"], y: Float[Tensor, "*b o"]) -> Tensor:
        dtype = y.dtype
        kept_input = functional.dropout(x, self.dropout, self.training) if self.dropout else x
        kept_input = kept_input.to(dtype)
        if self.mask() is None:
            low = functional.linear(kept_input, self.A.to(dtype))
            change = functional.linear(low, (self.B * self.scale).to(dtype))
        else:
            change = functional.linear(kept_input, self._change().to(dtype))
        if "lengths" in self._parameters:
            gain = self._gain(linear).to(dtype)
            plain = y if linear.bias is None else y - linear.bias.to(dtype)
            change = gain * change + (gain - 1) * self._own_last(plain)
        if self.rows is None:
            return y + change
        return y + functional.pad(change, (self.rows.start, y.shape[-1] - self.rows.stop))

    def merged(self, linear: nn.Linear) -> Float[Tensor, "o i"]:
        weight = linear.weight.detach().to(self.B.dtype).clone()
        own = self._own(weight) + self._change().detach()
        if "lengths" in self._parameters:
            own = own * self._gain(linear).detach()[:, None]
        if self.rows is None:
            return own
        weight[self.rows] = own
        return weight

    def _change(self) -> Float[Tensor, "o i"]:
        change = self.B @ self.A * self.scale
        mask = self.mask()
        return change if mask is None else change * mask

    def _gain(self, linear: nn.Linear) -> Float[Tensor, "o"]:
        """Return learned over present length of each row, 1 at the start."""
        with torch.no_grad():
            weight = self._own(linear.weight).to(self.B.dtype) + self._change()
            length = torch.linalg.vector_norm(weight, dim=1)
        gone = length == 0
        return torch.where(gone, 1.0, self.lengths / torch.where(gone, 1.0, length))

    def _own(self, weight: Tensor) -> Tensor:
        return weight if self.rows is None else weight[self.rows]

    def _own_last(self, y: Tensor) -> Tensor:
        return y if self.rows is None else y[..., self.rows]
