"""One step of many sequences at once, whatever model reads them: states as rows of tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ssmith.core.errors import UnsupportedError
from ssmith.core.optional import require
from ssmith.families.heads import TaskModel
from ssmith.families.hf.engine import engine
from ssmith.families.hf.running import is_hybrid
from ssmith.families.registry import mixers
from ssmith.families.sequence import ModelState, SequenceModel

State = dict[str, Tensor]
"""What a model remembers, by name; every tensor has one row per sequence."""
Stepped = tuple[Float[Tensor, "b o"], State]
_CONV, _RECURRENT, _POOLED, _COUNT = "conv", "recurrent", "pooled", "count"
_NEXT = "run whole sequences with `sm.predict`"


class Steps(ABC):
    """A model that is run step by step.

    Rows of a state may be taken apart and joined in any order between steps. A state that was
    given belongs to the steps: a later one may be written over it.
    """

    @abstractmethod
    def first(self, x: Tensor) -> Stepped:
        """Take the first step of new sequences, values (b, c) or tokens (b,)."""

    @abstractmethod
    def next(self, x: Tensor, state: State) -> Stepped:
        """Take one more step; returns the answer over all steps so far, and the new state."""


def steps_of(model: nn.Module) -> Steps:
    """Return a model as one that is run step by step.

    Weights must not change afterwards. One that needs the future, or whose memory grows with every
    step, is refused by name.
    """
    if isinstance(model, SequenceModel):
        return _SequenceSteps(model)
    if not mixers(model)[0]:
        raise UnsupportedError(
            f"{type(model).__name__} is not known to have steps",
            allowed="models of S5 and S4D layers, Mamba and Mamba-2, with a head or without",
            next_step=_NEXT,
        )
    backbone = model.get_submodule(model.backbone_name) if isinstance(model, TaskModel) else model
    if is_hybrid(backbone):
        raise UnsupportedError(
            f"{type(backbone).__name__} has attention, which looks back at every step, so that "
            "its memory grows with each of them",
            allowed="models of state space layers alone",
            next_step=_NEXT,
        )
    return _MixerSteps(model, backbone)


class _SequenceSteps(Steps):
    def __init__(self, model: SequenceModel) -> None:
        if model.config.options.bidirectional:
            raise UnsupportedError(
                "the model is bidirectional: every answer needs the steps after it",
                allowed="models that run forwards in time",
                next_step=f"train with bidirectional=False, or {_NEXT}",
            )
        self.model, self.constants = model, model.initial_state(0)
        # Taking new memory for every step costs more than the step.
        self._spare: tuple[Tensor, ...] = ()

    def first(self, x: Tensor) -> Stepped:
        like = self.constants
        layers = (block.ssm.initial_state(len(x)) for block in self.model._blocks())
        start = replace(
            like, layers=tuple(layers), pooled=like.pooled.new_zeros(len(x), like.pooled.shape[1]),
            count=like.count.new_zeros(len(x)),
        )  # fmt: skip
        return self._step(x, start)

    def next(self, x: Tensor, state: State) -> Stepped:
        layers = tuple(state[f"layer {place}"] for place in range(len(self.constants.layers)))
        before = replace(
            self.constants, layers=layers, pooled=state[_POOLED], count=state[_COUNT]
        )  # fmt: skip
        stepped = self._step(x, before)
        self._spare = layers
        return stepped

    def _step(self, x: Tensor, before: ModelState) -> Stepped:
        same = [item.shape for item in self._spare] == [item.shape for item in before.layers]
        spare, self._spare = (self._spare if same else ()), ()
        out, after = self.model.step(x, before, spare)
        layers = {f"layer {place}": layer for place, layer in enumerate(after.layers)}
        return out, {**layers, _POOLED: after.pooled, _COUNT: after.count}


class _MixerSteps(Steps):
    """Mamba and Mamba-2 of transformers: a head's answer, or the logits of the next token."""

    def __init__(self, model: nn.Module, backbone: Any) -> None:
        self.model, self.backbone = model, backbone

    def first(self, x: Tensor) -> Stepped:
        hidden, after = self._run(x, None)
        if isinstance(self.model, TaskModel):
            after[_COUNT] = torch.zeros(len(x), dtype=torch.int64, device=hidden.device)
            after[_POOLED] = torch.zeros_like(hidden)
        return self._answer(hidden, after, after)

    def next(self, x: Tensor, state: State) -> Stepped:
        cache = require("transformers", extra="hf", purpose="stepping").DynamicCache(
            config=self.model.config
        )
        for place in range(sum(name.startswith(_CONV) for name in state)):
            conv = state[f"{_CONV} {place}"]
            cache.update_conv_state(conv, place, conv_kernel_size=conv.shape[-1])
            cache.update_recurrent_state(state[f"{_RECURRENT} {place}"], place)
        hidden, after = self._run(x, cache)
        return self._answer(hidden, after, state)

    def _run(self, x: Tensor, cache: Any) -> tuple[Tensor, State]:
        inputs = {"input_ids": x[:, None]}
        if x.is_floating_point() and isinstance(self.model, TaskModel):
            ones = torch.ones(len(x), 1, dtype=torch.int64, device=x.device)
            inputs = {"inputs_embeds": self.model._encode(x[:, None], ones)}
        with engine(self.model):
            out = self.backbone(**inputs, cache_params=cache, use_cache=True)
        found: State = {}
        for place, layer in enumerate(out.cache_params.layers):
            found[f"{_CONV} {place}"] = layer.conv_states[0]
            found[f"{_RECURRENT} {place}"] = layer.recurrent_states[0]
        last: Tensor = out.last_hidden_state if "last_hidden_state" in out else out.logits
        return last[:, -1], found

    def _answer(self, hidden: Tensor, after: State, before: State) -> Stepped:
        if not isinstance(self.model, TaskModel):
            return hidden, after
        mean = self.model.head_config.pooling == "mean"
        hidden = hidden.to(self.model.score.weight.dtype)
        pooled = before[_POOLED] + hidden if mean else hidden
        count = before[_COUNT] + 1
        after = {**after, _POOLED: pooled, _COUNT: count}
        out: Tensor = self.model.score(pooled / count[:, None] if mean else pooled)
        return out, after
