"""Judging a language model by what it writes: greedy or by beams, against reference texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from ssmith.core.checks import check_integer
from ssmith.core.errors import DataError, InputError
from ssmith.core.optional import require
from ssmith.core.tokenizer import Tokenizer
from ssmith.families.hf.running import running

_ROUGE = ("rouge1", "rouge2", "rougeL")
Told = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """How answers are written.

    Args:
        beams: 1 for greedy, more for beam search.
        most: new tokens at most, ≥ 1.
        least: new tokens at least, ≥ 0.
        batch_size: prompts that run together, ≥ 1; they are padded on the left.

    Raises:
        InputError: if a value is outside its domain.
    """

    beams: int = 1
    most: int = 256
    least: int = 0
    batch_size: int = 8

    def __post_init__(self) -> None:
        for name in ("beams", "most", "batch_size"):
            check_integer(name, getattr(self, name), at_least=1)
        check_integer("least", self.least, at_least=0)
        if self.least > self.most:
            raise InputError(f"least is {self.least}", allowed=f"at most {self.most}")


def generate(
    model: nn.Module,
    prompts: Sequence[Int64[Tensor, "_"]],
    tokenizer: Tokenizer,
    config: GenerationConfig | None = None,
    told: Told | None = None,
) -> tuple[list[str], list[bool]]:
    """Write an answer to each prompt.

    The tokenizer's end stops an answer. Returns the answers, and which of them came to their own
    end.
    """
    chosen = config or GenerationConfig()
    if not prompts or any(len(prompt) == 0 for prompt in prompts):
        raise DataError("a prompt is empty, or there is none", allowed="at least one token in each")
    # Prompts of like lengths run together, so that little is padded.
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    answers, ended = [""] * len(prompts), [False] * len(prompts)
    with running(model, backend=None):
        for start in range(0, len(order), chosen.batch_size):
            rows = order[start : start + chosen.batch_size]
            written = _written(model, [prompts[i] for i in rows], tokenizer, chosen)
            for i, ids in zip(rows, written, strict=True):
                stop = ids.index(tokenizer.end) if tokenizer.end in ids else None
                answers[i] = tokenizer.decode(ids[:stop])
                ended[i] = stop is not None
            if told is not None:
                told(start + len(rows), len(order))
    return answers, ended


def _written(
    model: Any, prompts: list[Tensor], tokenizer: Tokenizer, config: GenerationConfig
) -> list[list[int]]:
    longest = max(map(len, prompts))
    ids = torch.zeros(len(prompts), longest, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = prompt
        mask[row, longest - len(prompt) :] = 1
    device = next(model.parameters()).device
    settings = written_with(tokenizer, config)
    with _only(model, settings):
        out = model.generate(input_ids=ids.to(device), attention_mask=mask.to(device), **settings)
    written: list[list[int]] = out[:, longest:].tolist()
    return written


def written_with(tokenizer: Tokenizer, config: GenerationConfig) -> dict[str, Any]:
    """Return all settings of generation, under transformers' names."""
    return {
        "do_sample": False,
        "num_beams": config.beams,
        "max_new_tokens": config.most,
        "min_new_tokens": config.least or None,
        "eos_token_id": tokenizer.end,
        "pad_token_id": 0 if tokenizer.end is None else tokenizer.end,
    }


@contextmanager
def _only(model: Any, settings: dict[str, Any]) -> Iterator[None]:
    """Hide a model's own generation settings: transformers adds those to what it is given."""
    own = model.generation_config
    model.generation_config = type(own)(**settings)
    try:
        yield
    finally:
        model.generation_config = own


def text_metrics() -> tuple[Any, Any]:
    """Return the packages that compare texts; raises `MissingExtraError` if one is missing."""
    rouge = require("rouge_score.rouge_scorer", extra="eval", purpose="ROUGE")
    return rouge, require("sacrebleu", extra="eval", purpose="BLEU")


def judge_texts(answers: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Compare texts with their references.

    Returns ROUGE-1, -2 and -L (F1 with stemming, the best reference of each, mean), BLEU of the
    whole set and exact match, in percent.
    """
    if not answers or len(answers) != len(references) or not all(references):
        raise DataError(
            f"{len(answers)} answers and {sum(map(bool, references))} with references",
            allowed="at least one reference for each",
        )
    rouge, sacrebleu = text_metrics()
    scorer = rouge.RougeScorer(list(_ROUGE), use_stemmer=True)
    pairs = list(zip(answers, references, strict=True))
    scores = [scorer.score_multi(list(known), answer) for answer, known in pairs]
    means = {name: sum(row[name].fmeasure for row in scores) / len(scores) for name in _ROUGE}
    most = max(map(len, references))
    # sacrebleu wants as many references for each; None stands where there is no further one.
    streams = [[known[i] if i < len(known) else None for known in references] for i in range(most)]
    bleu = sacrebleu.corpus_bleu(list(answers), streams).score
    exact = sum(answer.strip() in {item.strip() for item in known} for answer, known in pairs)
    return {
        **{name: 100 * value for name, value in means.items()},
        "bleu": float(bleu),
        "exact_match": 100 * exact / len(answers),
    }


def judge_labels(
    answers: Sequence[str], references: Sequence[str], labels: Sequence[str]
) -> tuple[float, int]:
    """Read each answer as one of some labels.

    The first line with a letter or digit in it must be a label, but for case and what stands
    around it that is no letter or digit. An answer that is none counts as wrong.

    Returns the accuracy in percent over all answers, and how many were no label.
    """
    known = {_plain(label): label for label in labels}
    if len(known) < len(labels):
        raise InputError(
            f"labels are {list(labels)}", allowed="labels that differ in more than case"
        )
    foreign = [item for item in references if _plain(item) not in known]
    if foreign:
        raise InputError(f"reference {foreign[0]!r} is no label", allowed=", ".join(labels))
    read = [known.get(_plain(answer)) for answer in answers]
    right = sum(
        found is not None and _plain(found) == _plain(wanted)
        for found, wanted in zip(read, references, strict=True)
    )
    return 100 * right / max(1, len(answers)), sum(found is None for found in read)


def _plain(text: str) -> str:
    """Return the first line with a letter or digit, in lower case, stripped of all else."""
    for line in text.splitlines():
        kept = line.strip().casefold()
        while kept and not kept[0].isalnum():
            kept = kept[1:]
        while kept and not kept[-1].isalnum():
            kept = kept[:-1]
        if kept:
            return kept
    return ""
