"""What two language models do differently on the same text: tokens, probabilities, answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor, nn

from ssmith.core.details import AnswersChanged, OnWindows, TextAuditDetails
from ssmith.core.errors import DataError, InputError
from ssmith.core.rows import Batch
from ssmith.core.running import evaluating
from ssmith.core.tokens import TokenWindows
from ssmith.core.trees import place_of
from ssmith.evaluation.behaviour import BehaviourConfig, told
from ssmith.evaluation.intervals import Estimate, estimate, wilson
from ssmith.evaluation.metrics import Metric, Outcomes
from ssmith.evaluation.perplexity import check_vocabulary
from ssmith.evaluation.predict import over_batches
from ssmith.families.hf import engine
from ssmith.families.hf.head import read_out
from ssmith.families.hf.running import greedy, running

AGREEMENT = Metric(
    name="agreement of greedy tokens", higher_is_better=True, counted="windows", weighed="tokens"
)
DIVERGENCE = Metric(
    name="KL per token in nats", higher_is_better=False, counted="windows", weighed="tokens"
)
# Positions times vocabulary that stand in memory at once.
_SCORES_AT_ONCE = 1 << 23


@dataclass(frozen=True, kw_only=True)
class TextBehaviour:
    """What changed from one language model to another.

    Args:
        agreement: share of positions at which both find the same token likeliest.
        divergence: mean over positions of KL(old ‖ new), in nats.
        changed: share of prompts that are continued by another answer.
        prompt_tokens: tokens of each prompt.
        answer_tokens: tokens of each answer.
        examples: prompts whose answer changed, and the token at which it does.
    """

    agreement: Estimate
    divergence: Estimate
    changed: Estimate
    prompt_tokens: int
    answer_tokens: int
    examples: tuple[dict[str, Any], ...] = ()

    def section(self) -> TextAuditDetails:
        """Return it for a receipt."""
        agreement = told(self.agreement)
        return TextAuditDetails(
            agreement=OnWindows(**vars(agreement), windows=self.agreement.count),
            divergence=told(self.divergence),
            answers=AnswersChanged(
                prompts=self.changed.count,
                changed=told(self.changed),
                prompt_tokens=self.prompt_tokens,
                answer_tokens=self.answer_tokens,
            ),
            examples=self.examples,
        )


def text_behaviour_of(
    before: nn.Module,
    after: nn.Module,
    windows: TokenWindows,
    config: BehaviourConfig | None = None,
    *,
    batch_size: int = 8,
) -> TextBehaviour:
    """Run two language models on the same text and say what changed.

    Both see the true text before each position for agreement and KL; answers are written greedily
    after the first tokens of some windows, spread over the text. Raises `InputError` if slices are
    asked for, `DataError` if no window is as long as a prompt.
    """
    config = config or BehaviourConfig()
    if config.slices:
        raise InputError(
            f"slice {config.slices[0]!r} of a text", allowed="slices of sequences in a file"
        )
    for model in (before, after):
        check_vocabulary(model, windows)
    seen = torch.cat(
        over_batches(before, windows, lambda part: _compared(before, after, part), batch_size)
    )
    same, nats, counted = seen.unbind(1)
    found = [
        estimate(
            Outcomes(numerator=item, weight=counted), metric, seed=config.seed, level=config.level
        )
        for item, metric in ((same, AGREEMENT), (nats, DIVERGENCE))
    ]
    prompts = _prompts(windows, config)
    answers = [_answers(model, prompts, config, batch_size) for model in (before, after)]
    changed = (answers[0] != answers[1]).any(1)
    return TextBehaviour(
        agreement=found[0],
        divergence=found[1],
        changed=wilson(int(changed.sum()), len(prompts), config.level),
        prompt_tokens=prompts.shape[1],
        answer_tokens=config.answer_tokens,
        examples=_examples(prompts, answers[0], answers[1], config),
    )


def _compared(before: nn.Module, after: nn.Module, batch: Batch) -> Float64[Tensor, "w 3"]:
    """Return of each window: positions that agree, summed KL, positions."""
    windows: TokenWindows = batch.inputs
    ids = windows.ids.to(place_of(before))
    positions = torch.arange(1, ids.shape[1], device=ids.device)
    starts, ends = (item.to(ids.device)[:, None] for item in (windows.scored_from, windows.lengths))
    counted: Bool[Tensor, "w p"] = (positions >= starts) & (positions < ends)
    valid = batch.valid.to(ids.device) if isinstance(batch.valid, Tensor) else None
    with engine(before), engine(after), evaluating(after):
        hidden = [read_out(model, ids, valid) for model in (before, after)]
        few = max(1, _SCORES_AT_ONCE // windows.vocabulary)
        found = torch.zeros(*counted.shape, 2, dtype=torch.float64, device=ids.device)
        places = [states[:, :-1][counted].split(few) for states, _ in hidden]
        pieces = [
            _positions(hidden[0][1](old), hidden[1][1](new))
            for old, new in zip(*places, strict=True)
        ]
    if pieces:
        found[counted] = torch.cat(pieces)
    return torch.cat([found.sum(1), counted.sum(1, keepdim=True).double()], dim=1).cpu()


def _positions(old: Tensor, new: Tensor) -> Float64[Tensor, "i 2"]:
    first, second = (item.double().log_softmax(-1) for item in (old, new))
    same = (first.argmax(-1) == second.argmax(-1)).double()
    return torch.stack([same, (first.exp() * (first - second)).sum(-1)], dim=1)


def _prompts(windows: TokenWindows, config: BehaviourConfig) -> Int64[Tensor, "p t"]:
    length = min(config.prompt_tokens, int(windows.lengths.max()))
    long_enough = (windows.lengths >= length).nonzero().flatten()
    if not length or not len(long_enough):
        raise DataError(f"{windows.name} has no prompt", next_step="give a longer text")
    return windows.take(long_enough).spread(config.prompts).ids[:, :length]


def _answers(
    model: nn.Module, prompts: Int64[Tensor, "p t"], config: BehaviourConfig, batch_size: int
) -> Int64[Tensor, "p a"]:
    with running(model, backend=None):
        parts = prompts.to(place_of(model)).split(batch_size)
        return torch.cat([greedy(model, part, config.answer_tokens).cpu() for part in parts])


def _examples(
    prompts: Tensor, old: Tensor, new: Tensor, config: BehaviourConfig
) -> tuple[dict[str, Any], ...]:
    differing = old != new
    found = []
    for place in differing.any(1).nonzero().flatten()[: config.examples].tolist():
        item: dict[str, Any] = {"prompt": place, "first": int(differing[place].double().argmax())}
        if config.with_data:
            item |= {
                "tokens": prompts[place].tolist(),
                "before": old[place].tolist(),
                "after": new[place].tolist(),
            }
        found.append(item)
    return tuple(found)
