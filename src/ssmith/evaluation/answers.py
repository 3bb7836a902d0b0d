"""What a language model answers to a harness of tasks: likelihoods of texts, and continuations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor, nn

from ssmith.core.errors import DataError, UnsupportedError
from ssmith.core.running import evaluating
from ssmith.core.tokenizer import Tokenizer, begun
from ssmith.evaluation.generation import GenerationConfig, generate
from ssmith.families.hf import engine
from ssmith.families.hf.head import read_out

_SAMPLING = ("do_sample", "temperature", "top_p", "top_k")
_KNOWN = {"until", "max_gen_toks", "max_new_tokens", *_SAMPLING}
_MOST = 256


def score_continuations(
    model: nn.Module,
    rows: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    batch_size: int = 8,
) -> list[tuple[float, bool]]:
    """Return the log-likelihood of each continuation, and whether greedy decoding would write it.

    The model runs on the scan engine; rows of like length run together, padded on the right.

    Each row is the token ids of what stands before, at least one, and of what follows; likelihoods
    are in nats.
    """
    if not all(before for before, _ in rows):
        raise DataError("nothing stands before a continuation", allowed="at least one token")
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]) + len(rows[i][1]))
    found: list[tuple[float, bool]] = [(0.0, True)] * len(rows)
    with engine(model), evaluating(model):
        for start in range(0, len(order), batch_size):
            part = order[start : start + batch_size]
            for i, answer in zip(part, _scored(model, [rows[i] for i in part]), strict=True):
                found[i] = answer
    return found


def _scored(
    model: nn.Module, rows: list[tuple[Sequence[int], Sequence[int]]]
) -> list[tuple[float, bool]]:
    device = next(model.parameters()).device
    joined = [torch.tensor([*before, *after]) for before, after in rows]
    lengths = torch.tensor([len(ids) for ids in joined])
    ids = nn.utils.rnn.pad_sequence(joined, batch_first=True).to(device)
    valid = torch.arange(ids.shape[1], device=device) < lengths[:, None].to(device)
    hidden, head = read_out(model, ids, None if bool(valid.all()) else valid)
    answers = []
    for row, (before, after) in enumerate(rows):
        first, last = len(before), len(before) + len(after)
        logits = head(hidden[row, first - 1 : last - 1])
        answers.append(_likelihood(logits, ids[row, first:last]))
    return answers


def _likelihood(logits: Tensor, targets: Int64[Tensor, "i"]) -> tuple[float, bool]:
    wide: Float64[Tensor, "i v"] = logits.double().log_softmax(-1)
    nats = wide.gather(1, targets[:, None]).sum()
    return float(nats), bool((wide.argmax(-1) == targets).all())


class LiveModel:
    """A model in memory, as `lm_eval.api.model.LM` wants it: three methods on lists of requests.

    A request's ``args`` are (context, continuation), (text,) or (context, settings).
    """

    def __init__(self, model: nn.Module, tokenizer: Tokenizer, batch_size: int = 8) -> None:
        super().__init__()
        self.live, self.text_ids, self.rows_at_once = model, tokenizer, batch_size

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Return the log-likelihood of each continuation behind its context.

        Blanks at the end of a context belong to the continuation, so that a tokenizer sees words
        as they stand in a text.
        """
        rows = []
        for request in requests:
            context, continuation = request.args
            kept = context.rstrip()
            whole = self.text_ids.encode(context + continuation)
            before = self.text_ids.encode(kept)
            rows.append((self._begun(before), whole[len(before) :]))
        return score_continuations(self.live, rows, batch_size=self.rows_at_once)

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """Return the log-likelihood of each whole text; a recurrence needs no windows."""
        rows = [(self._begun([]), self.text_ids.encode(request.args[0])) for request in requests]
        return [
            nats for nats, _ in score_continuations(self.live, rows, batch_size=self.rows_at_once)
        ]

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Write an answer to each context, greedily, up to a text that ends it."""
        answers = [""] * len(requests)
        by_length: dict[int, list[int]] = {}
        for place, request in enumerate(requests):
            settings = dict(request.args[1])
            _refuse_sampling(settings)
            most = int(settings.get("max_gen_toks") or settings.get("max_new_tokens") or _MOST)
            by_length.setdefault(most, []).append(place)
        for most, places in by_length.items():
            prompts = [
                torch.tensor(self._begun(self.text_ids.encode(requests[i].args[0]))) for i in places
            ]
            config = GenerationConfig(most=most, batch_size=self.rows_at_once)
            written, _ = generate(self.live, prompts, self.text_ids, config)
            for i, text in zip(places, written, strict=True):
                answers[i] = _up_to(text, requests[i].args[1].get("until", ()))
        return answers

    def _begun(self, ids: list[int]) -> list[int]:
        """Return a text as the tokenizer begins one; never nothing."""
        return begun(self.text_ids, ids) or [self.text_ids.end or 0]


def _refuse_sampling(settings: dict[str, Any]) -> None:
    unknown = sorted(set(settings) - _KNOWN)
    if unknown or settings.get("do_sample"):
        raise UnsupportedError(
            f"the task asks for {unknown[0] if unknown else 'do_sample'} in generation",
            allowed="greedy answers with until and max_gen_toks",
            next_step="choose another task, or set do_sample: false in its YAML file",
        )


def _up_to(text: str, ends: str | Sequence[str]) -> str:
    """Return a text up to the first of some texts."""
    stops = [ends] if isinstance(ends, str) else [end for end in ends if end]
    return text[: min([len(text), *(text.find(end) for end in stops if end in text)])]
