"""Prompt tuning: learned embeddings that every sequence begins with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ssmith.core.checks import check_choice, check_integer
from ssmith.core.errors import UnsupportedError
from ssmith.families.parts.cache import read
from ssmith.families.registry import mixers
from ssmith.tune.adapters.method import Method
from ssmith.tune.adapters.part import Part, Placement, master_dtype
from ssmith.tune.adapters.slot import slot_of
from ssmith.tune.adapters.survey import Survey


@dataclass(frozen=True, kw_only=True)
class PromptTuning(Method):
    """v learned embeddings before the first token; logits and labels keep their places.

    Args:
        tokens: v ≥ 1.
        initialisation: ``"vocabulary"`` starts from embeddings of random tokens, ``"normal"``
            from numbers as large.

    Source: Prompt tuning (arXiv 2104.08691).
    Differs: added where the backbone takes its embeddings, so it acts in training, in generation
        and under padding on either side alike.
    """

    method: ClassVar[str] = "prompt"
    in_layers: ClassVar[bool] = False
    tokens: int = 64
    initialisation: Literal["vocabulary", "normal"] = "vocabulary"

    def __post_init__(self) -> None:
        check_integer("tokens", self.tokens, at_least=1)
        check_choice("initialisation", self.initialisation, ("vocabulary", "normal"))

    def sites(self, survey: Survey, draw: torch.Generator) -> list[Placement]:
        name = _backbone(survey)
        table: Tensor = survey.modules[name].get_input_embeddings().weight  # type: ignore[operator]
        first = int(next(iter(survey.mixers.values())).layer_idx)
        part = PromptPart(table.detach(), self, first, draw)
        return [Placement(owner=name, key="prompt", part=part)]


class PromptPart(Part):
    """The learned embeddings of one model.

    ``layer`` is the index of a selective layer: a sequence begins where a cache holds no state of
    it.
    """

    label = "prompt"
    cannot_merge = "a model's weights hold no prompt"

    def __init__(
        self, table: Tensor, config: PromptTuning, layer: int, draw: torch.Generator
    ) -> None:
        super().__init__()
        self.layer = layer
        vocabulary, width = table.shape
        if config.initialisation == "vocabulary":
            chosen = torch.randint(vocabulary, (config.tokens,), generator=draw)
            start = table[chosen.to(table.device)].to(master_dtype(table)).clone()
        else:
            drawn = torch.randn(config.tokens, width, generator=draw, dtype=torch.float64)
            start = drawn.to(table.device).to(master_dtype(table)) * table.to(drawn.dtype).std()
        self.embeddings = nn.Parameter(start.to(master_dtype(table)))


def prepend(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Put active prompts before the embeddings of sequences that begin (a forward pre-hook)."""
    object.__setattr__(module, "_ssmith_virtual", 0)
    active = _active(module)
    if not active or read(kwargs.get("cache_params"), active[0].layer).recurrent is not None:
        return None
    prompt = torch.cat([part.embeddings for part in active])
    kwargs = dict(kwargs)
    ids = args[0] if args else kwargs.pop("input_ids", None)
    given = kwargs.get("inputs_embeds")
    embedded = module.get_input_embeddings()(ids) if given is None else given  # type: ignore[operator]
    virtual = prompt.to(embedded.dtype).expand(embedded.shape[0], -1, -1)
    kwargs["inputs_embeds"] = torch.cat([virtual, embedded], dim=1)
    mask = kwargs.get("attention_mask")
    if mask is not None:
        kwargs["attention_mask"] = torch.cat([mask.new_ones(virtual.shape[:2]), mask], dim=1)
    object.__setattr__(module, "_ssmith_virtual", virtual.shape[1])
    return (), kwargs


def drop(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
    """Take the prompt's places out of what the backbone returns (a forward hook)."""
    count = getattr(module, "_ssmith_virtual", 0)
    if not count:
        return output
    if isinstance(output, tuple):
        return (output[0][:, count:], *(_cut(item, count) for item in output[1:]))
    output["last_hidden_state"] = output["last_hidden_state"][:, count:]
    if output.get("hidden_states") is not None:
        output["hidden_states"] = _cut(output["hidden_states"], count)
    return output


def _cut(item: Any, count: int) -> Any:
    return tuple(part[:, count:] for part in item) if isinstance(item, tuple) else item


def _active(module: nn.Module) -> list[PromptPart]:
    slot = slot_of(module)
    return [] if slot is None else [part for part in slot.now() if isinstance(part, PromptPart)]


def _backbone(survey: Survey) -> str:
    """Return the name of the module that embeds tokens and runs all mixers."""
    kinds = set(survey.layers.values())
    if not survey.mixers or kinds - {"ssm"}:
        what = "attention or feed-forward layers" if survey.mixers else "no selective layers"
        raise UnsupportedError(
            f"prompt tuning on {type(survey.model).__name__}, which has {what}",
            allowed="Mamba, Falcon-Mamba and Mamba-2 models",
            next_step="use state-offset or lora",
        )
    names = list(_embedders(survey))
    if not names:
        raise UnsupportedError(
            f"prompt tuning on {type(survey.model).__name__}, which embeds no tokens",
            allowed="a transformers model with its embeddings",
        )
    return names[-1]


def _embedders(survey: Survey) -> Iterator[str]:
    for name, part in survey.modules.items():
        if hasattr(part, "get_input_embeddings") and len(mixers(part)[0]) == len(survey.mixers):
            yield name
