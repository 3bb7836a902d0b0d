"""A head on a Hugging Face backbone: one answer for a whole sequence, whatever pads it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, get_args

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ssmith.core.checks import check_choice, check_integer
from ssmith.core.errors import DataError, InputError, ModelError, UnsupportedError
from ssmith.core.preparation import Preparation
from ssmith.core.sequences import Task
from ssmith.families.hf.create import MambaSize, new_mamba
from ssmith.families.sequence import SequenceConfig, SequenceModel

POOLINGS = ("mean", "last")


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """What a head answers, and from what.

    Args:
        task: what is predicted.
        outputs: numbers in the answer, ≥ 1: classes, targets, or horizon × channels.
        classes: names of the classes, in index order (classification).
        channels: channels of a real-valued series that is read in place of tokens; None for
            tokens.
        pooling: ``"mean"`` over valid steps, or the ``"last"`` valid step.
    """

    task: Task = "classification"
    outputs: int
    classes: tuple[str, ...] = ()
    channels: int | None = None
    pooling: str = "mean"

    def __post_init__(self) -> None:
        check_choice("task", self.task, get_args(Task))
        check_choice("pooling", self.pooling, POOLINGS)
        check_integer("outputs", self.outputs, at_least=1)
        if self.channels is not None:
            check_integer("channels", self.channels, at_least=1)
        if self.task == "classification" and self.classes and len(self.classes) != self.outputs:
            raise InputError(
                f"{len(self.classes)} classes for {self.outputs} outputs", allowed="as many"
            )


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a model reads and predicts for a whole sequence, whatever kind of model it is."""

    task: Task
    outputs: int
    classes: tuple[str, ...]
    channels: int | None
    vocabulary: int | None


class TaskModel(nn.Module):
    """A Hugging Face backbone, pooled over valid steps, with a linear head in float32.

    The backbone keeps the name it has in the language model, so that adapters made for one fit
    the other. ``size`` is that of a backbone made for the head (see `new_task_model`), and
    ``preparation`` how its rows are made of recordings; None where there is none.
    """

    def __init__(
        self, model: nn.Module, config: HeadConfig, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.backbone_name: str = getattr(model, "base_model_prefix", "")
        backbone = getattr(model, self.backbone_name, None) if self.backbone_name else None
        if not isinstance(backbone, nn.Module):
            raise UnsupportedError(
                f"{type(model).__name__} has no backbone a head could stand on",
                allowed="Hugging Face models of type mamba, falcon_mamba or mamba2",
            )
        base_config: Any = model.config
        self.config: Any = base_config
        self.head_config = config
        self.size: MambaSize | None = None
        self.preparation: Preparation | None = None
        self.add_module(self.backbone_name, backbone)
        like = next(backbone.parameters())
        width = int(base_config.hidden_size)
        wide = like.dtype if like.dtype == torch.float64 else torch.float32
        self.score = _linear(width, config.outputs, generator).to(like.device, wide)
        if config.channels is not None:
            self.encoder = _linear(config.channels, width, generator).to(like.device, wide)

    def forward(
        self,
        x: Float[Tensor, "b l c"] | Int64[Tensor, "b l"] | None = None,
        lengths: Int64[Tensor, "b"] | None = None,
        *,
        input_ids: Int64[Tensor, "b l"] | None = None,
        attention_mask: Tensor | None = None,
    ) -> Float[Tensor, "b o"]:
        """Return the head's answer for whole sequences.

        ``lengths`` counts valid steps where padding is on the right; ``attention_mask`` (b, l) is 0
        where a step is padding, on whatever side. Forecasts are flattened to horizon × channels.
        """
        given = self._check(x if input_ids is None else input_ids)
        mask = _mask(given, attention_mask, lengths)
        backbone = self.get_submodule(self.backbone_name)
        inputs = {"input_ids": given}
        if self.head_config.channels is not None:
            inputs = {"inputs_embeds": self._encode(given, mask)}
        hidden = backbone(**inputs, attention_mask=mask, use_cache=False).last_hidden_state
        return self._answer(hidden.to(self.score.weight.dtype), mask)

    def _encode(self, x: Tensor, mask: Tensor) -> Tensor:
        """Encode a series; padding may hold anything, so it is blanked first."""
        blanked = x.masked_fill(mask[..., None] == 0, 0.0).to(self.encoder.weight.dtype)
        encoded: Tensor = self.encoder(blanked)
        return encoded.to(next(self.get_submodule(self.backbone_name).parameters()).dtype)

    def _answer(self, hidden: Float[Tensor, "b l m"], mask: Tensor) -> Tensor:
        if self.head_config.pooling == "mean":
            weight = mask.to(hidden.dtype)
            pooled = (hidden * weight[..., None]).sum(1) / weight.sum(1, keepdim=True)
        else:
            # The last place of the running count's maximum is the last valid step.
            last = (mask.cumsum(1) * mask).argmax(1)
            pooled = hidden[torch.arange(len(hidden), device=hidden.device), last]
        out: Tensor = self.score(pooled)
        return out

    def _check(self, given: Tensor | None) -> Tensor:
        channels = self.head_config.channels
        tokens = channels is None
        wanted = (
            "integer tokens (batch, length)" if tokens else f"numbers (batch, length, {channels})"
        )
        if given is None:
            raise DataError("the head got nothing it reads", allowed=wanted)
        fits = given.ndim == 2 if tokens else given.ndim == 3 and given.shape[2] == channels
        if not fits or given.is_floating_point() == tokens:
            raise DataError(
                f"input of shape {tuple(given.shape)} and type {given.dtype}", allowed=wanted
            )
        return given


def answers_of(model: nn.Module | None) -> Answers | None:
    """Return what a model predicts for a whole sequence; None if it does not, or is none."""
    if isinstance(model, TaskModel):
        head: HeadConfig | SequenceConfig = model.head_config
        vocabulary = int(model.config.vocab_size) if head.channels is None else None
    elif isinstance(model, SequenceModel):
        head, vocabulary = model.config, model.config.vocabulary
    else:
        return None
    return Answers(
        task=head.task,
        outputs=head.outputs,
        classes=head.classes,
        channels=head.channels,
        vocabulary=vocabulary,
    )


def with_head(
    model: nn.Module, config: HeadConfig, generator: torch.Generator | None = None
) -> TaskModel:
    """Put a new head on a language model's backbone, which both share (see `TaskModel`)."""
    if isinstance(model, TaskModel):
        raise ModelError("the model has a head", next_step="give the language model it stands on")
    return TaskModel(model, config, generator).train(model.training)


def new_task_model(
    size: MambaSize,
    config: HeadConfig,
    *,
    seed: int = 0,
    preparation: Preparation | None = None,
) -> TaskModel:
    """Build a Mamba with a head, of random weights; one of a series has two tokens it never reads.

    The same size, head and seed give the same weights, so that both are all that a file says.
    """
    draw = torch.Generator().manual_seed(seed)
    made = with_head(new_mamba(size, seed=seed), config, draw)
    made.size, made.preparation = size, preparation
    return made


def preparation_of(model: nn.Module | None) -> Preparation | None:
    """Return how a model's rows are made of recordings; None where they come as they are."""
    return model.preparation if isinstance(model, SequenceModel | TaskModel) else None


def renew_head_(
    model: SequenceModel, config: HeadConfig, generator: torch.Generator | None = None
) -> None:
    """Give a sequence model a new head for another task, in place; all else stays."""
    if config.channels != model.config.channels:
        raise DataError(
            f"data of {config.channels or 'no'} channels",
            allowed=f"{model.config.channels or 'tokens, no'} channels, as the model reads",
        )
    prepared, before = model.preparation, (model.config.task, model.config.outputs)
    if prepared is not None and (config.task, config.outputs, config.classes) != (
        *before, model.config.classes,
    ):  # fmt: skip
        # The classes are others; of other quantities nothing is known.
        renewed = replace(prepared, classes=config.classes, thresholds={}, residuals={})
        model.preparation = renewed if prepared.classes and config.classes else None
    like = model.head.weight
    model.head = _linear(model.config.width, config.outputs, generator).to(like.device, like.dtype)
    model.config = replace(
        model.config,
        task=config.task,
        outputs=config.outputs,
        classes=config.classes,
    )


def _linear(inputs: int, outputs: int, generator: torch.Generator | None) -> nn.Linear:
    """Return a layer of normal weights of variance 1/inputs and no bias at the start."""
    layer = nn.Linear(inputs, outputs)
    with torch.no_grad():
        layer.weight.normal_(0.0, inputs**-0.5, generator=generator)
        layer.bias.zero_()
    return layer


def _mask(given: Tensor, attention_mask: Tensor | None, lengths: Tensor | None) -> Tensor:
    """Return 1 where a step is valid and 0 where it is padding."""
    batch, length = given.shape[:2]
    if attention_mask is not None:
        mask = (attention_mask != 0).to(torch.int64)
    elif lengths is not None:
        place = torch.arange(length, device=given.device)
        mask = (place < lengths[:, None]).to(torch.int64)
    else:
        mask = torch.ones(batch, length, dtype=torch.int64, device=given.device)
    if mask.shape != (batch, length) or not bool((mask.sum(1) > 0).all()):
        raise DataError(
            f"a mask of shape {tuple(mask.shape)} for {batch} sequences of {length} steps",
            allowed="one number per step, and at least one valid step in each sequence",
        )
    return mask
