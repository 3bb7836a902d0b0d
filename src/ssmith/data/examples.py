"""Tuning data: a file of texts → token rows in splits, with everything that was cut counted."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import torch

from ssmith.core.checks import check_choice, check_integer
from ssmith.core.errors import DataError
from ssmith.core.examples import Example, ExampleData, TextTask
from ssmith.core.seeds import generator
from ssmith.core.tokenizer import Tokenizer, begun, ended
from ssmith.data.chat import Span, learned_of, named, shared
from ssmith.data.examples_file import Record, read_examples
from ssmith.data.files import stem_of
from ssmith.data.labels import encode_labels, real_targets
from ssmith.data.streams import ids_said

SPLIT_FRACTIONS = {"train": 0.8, "validation": 0.1, "test": 0.1}
LONG = ("cut", "drop", "refuse")
Row = TypeVar("Row")


@dataclass(frozen=True, kw_only=True)
class ExamplesConfig:
    """How texts become token rows.

    Args:
        length: most tokens of a row, ≥ 2.
        long: what happens to a longer one: ``"cut"`` (a prompt at its front, an answer at its
            end; plain text becomes several rows), ``"drop"`` or ``"refuse"``.
        seed: of the draw of the splits, where the file names none.
        end: whether the tokenizer's end is appended to an answer or a text, and learned.
        held_out: most rows of the validation and of the test split, spread evenly over it, ≥ 1;
            None for all.

    Raises:
        InputError: if a value is outside its domain.
    """

    length: int = 512
    long: str = "cut"
    seed: int = 0
    end: bool = True
    held_out: int | None = None

    def __post_init__(self) -> None:
        check_integer("length", self.length, at_least=2)
        check_integer("seed", self.seed, at_least=0)
        check_choice("long", self.long, LONG)
        if self.held_out is not None:
            check_integer("held_out", self.held_out, at_least=1)

    def used(self, split: str, rows: Sequence[Row]) -> tuple[Row, ...]:
        """Return the rows of a split that are used: all to learn from, ``held_out`` to judge on."""
        if split == "train" or self.held_out is None or len(rows) <= self.held_out:
            return tuple(rows)
        return tuple(rows[k * len(rows) // self.held_out] for k in range(self.held_out))


def load_examples(
    path: str | Path,
    tokenizer: Tokenizer,
    config: ExamplesConfig | None = None,
    *,
    classes: Sequence[str] | None = None,
) -> ExampleData:
    """Load texts to tune on: JSON lines or an array, Parquet, or the directory of a data set.

    Each record is ``{"prompt": ..., "completion": ...}`` (the completion alone is learned; further
    ``references`` are compared with in generation), a conversation (``messages``, ShareGPT's
    ``conversations``, prompt and completion as messages, Alpaca's ``instruction``, ``input`` and
    ``output``: rendered by the model's chat template, and what the assistant says is learned),
    ``{"text": ...}`` (all of it is learned) or ``{"text": ..., "label": ...}`` (text labels and
    whole numbers are classes, others are numbers to predict). ``split`` stands in every record or
    in none; without it, records with the same prompt or text are drawn together into train,
    validation and test. Other keys are counted and ignored.

    Args:
        path: the file or directory.
        tokenizer: text to ids.
        config: see `ExamplesConfig`.
        classes: classes in index order, e.g. those of a tuned model; those of the file if None.

    Returns:
        The examples; their details count what was cut, dropped and how long the rows are.

    Raises:
        InputError: if there is no such file.
        DataError: if a line cannot be read, or nothing is left of a split.
    """
    chosen = config or ExamplesConfig()
    place = Path(path)
    form, records, ignored = read_examples(place, templated=_has_template(tokenizer))
    task, targets, names = _targets(form, records, classes, place.name)
    split_of = _splits(records, chosen.seed)
    counts: Counter[str] = Counter()
    splits: dict[str, list[Example]] = {name: [] for name in dict.fromkeys(split_of)}
    for record, target, split in zip(records, targets, split_of, strict=True):
        splits[split] += _rows(record, target, tokenizer, chosen, counts)
    empty = [name for name, rows in splits.items() if not rows]
    if empty:
        raise DataError(
            f"no text of split {empty[0]} of {place.name} is left",
            allowed=f"texts of at most {chosen.length} tokens",
            next_step="give a larger length, or long='cut'",
        )
    parts = {name: chosen.used(name, splits[name]) for name in _ordered(splits)}
    return ExampleData(
        name=stem_of(place),
        task=task,
        splits=parts,
        classes=names,
        vocabulary=tokenizer.vocabulary,
        sha256=_digest(parts),
        source=str(place.name),
        details={
            **_details(records, parts, tokenizer, chosen, counts),
            **({"keys_ignored": ignored} if ignored else {}),
        },
    )


def _has_template(tokenizer: Tokenizer) -> bool:
    try:
        tokenizer.render([{"role": "user", "content": "a"}])
    except DataError:
        return False
    return True


def _targets(
    form: str, records: list[Record], classes: Sequence[str] | None, where: str
) -> tuple[TextTask, list[int] | list[float] | list[None], tuple[str, ...]]:
    if form != "label":
        return "language", [None] * len(records), ()
    labels = [record.label for record in records]
    if any(isinstance(label, float) for label in labels):
        if not all(isinstance(label, int | float) for label in labels):
            raise DataError(f"{where} mixes numbers and texts as labels", allowed="one kind")
        numbers = torch.tensor([float(label or 0) for label in labels], dtype=torch.float64)
        found = real_targets(numbers, task=None, where=where)
        return "regression", [float(item) for item in found.y], ()
    encoded = encode_labels([str(label) for label in labels], classes=classes, where=where)
    return "classification", [int(item) for item in encoded.y], encoded.classes


def _splits(records: list[Record], seed: int) -> list[str]:
    """Return the split of every line: as the file says, or drawn by prompt."""
    named = [record.split for record in records]
    if None not in named:
        return [str(name) for name in named]
    keys = [record.key for record in records]
    groups = list(dict.fromkeys(keys))
    if len(groups) < len(SPLIT_FRACTIONS):
        raise DataError(
            f"{len(groups)} different texts cannot be split",
            allowed=f"at least {len(SPLIT_FRACTIONS)}, or a split in every line",
        )
    order = torch.randperm(len(groups), generator=generator(seed, "split", "examples")).tolist()
    held = {name: max(1, round(share * len(groups))) for name, share in SPLIT_FRACTIONS.items()}
    held["train"] = len(groups) - held["validation"] - held["test"]
    names = [name for name, count in held.items() for _ in range(count)]
    split_of = {groups[place]: name for place, name in zip(order, names, strict=True)}
    return [split_of[key] for key in keys]


def _rows(
    record: Record,
    target: int | float | None,
    tokenizer: Tokenizer,
    config: ExamplesConfig,
    counts: Counter[str],
) -> list[Example]:
    """Return a record as rows of at most ``length`` tokens; none if it was dropped."""
    ids, spans = _tokens(record, target, tokenizer, config, counts)
    if len(ids) > config.length:
        counts["too long"] += 1
        if config.long == "refuse":
            raise DataError(
                f"{record.where} has {len(ids)} tokens",
                allowed=f"at most {config.length}",
                next_step="give a larger length, or long='cut' or 'drop'",
            )
        if config.long == "drop":
            return []
    if record.turns:
        return _conversation(ids, spans, record, config, counts)
    begin, start = len(tokenizer.begin), spans[0][0]
    if not record.prompt and target is None:
        return _pieces(ids[begin:], tokenizer, config, counts)
    prompt, text = ids[begin:start], ids[start:]
    room = config.length - begin - min(len(prompt), 1) - len(text)
    if room < 0:
        counts["answers cut" if record.prompt else "texts cut"] += 1
        text = text[:room]
    kept = prompt[max(0, len(prompt) - (config.length - begin - len(text))) :]
    counts["prompts cut"] += len(kept) < len(prompt)
    return [
        Example(
            ids=torch.tensor([*ids[:begin], *kept, *text]),
            start=begin + len(kept),
            target=target,
            references=record.references,
        )
    ]


def _tokens(
    record: Record,
    target: int | float | None,
    tokenizer: Tokenizer,
    config: ExamplesConfig,
    counts: Counter[str],
) -> tuple[list[int], list[Span]]:
    """Return the ids of a record as its tokenizer marks them, and what of them is learned."""
    if record.turns:
        ids, spans = learned_of(record.turns, tokenizer, record.where)
        return ids[: spans[-1][1]], spans
    with named(record.where):
        plain, ends = tokenizer.placed(record.prompt + record.text)
        alone = tokenizer.encode(record.prompt)
    # A token that holds the end of the prompt and the begin of the answer is the answer's.
    if plain[: len(alone)] == alone:
        start = len(alone)
    else:
        counts["answers that begin inside a token"] += 1
        inside = len(record.prompt)
        start = shared(plain, alone) if ends is None else bisect_right(ends, inside)
    ids = begun(tokenizer, plain)
    start += len(ids) - len(plain)
    if config.end and target is None:
        ids = ended(tokenizer, ids)
    return ids, [(max(start, len(tokenizer.begin)), len(ids))]


def _conversation(
    ids: list[int],
    spans: list[Span],
    record: Record,
    config: ExamplesConfig,
    counts: Counter[str],
) -> list[Example]:
    kept = [(a, min(b, config.length)) for a, b in spans if a < config.length]
    if not kept:
        counts["conversations without an answer within the length"] += 1
        return []
    whole = kept == spans
    counts["conversations cut"] += not whole
    return [
        Example(
            ids=torch.tensor(ids[: kept[-1][1]]),
            start=kept[0][0],
            gaps=tuple((a[1], b[0]) for a, b in pairwise(kept)),
            references=record.references if whole else (),
        )
    ]


def _pieces(
    text: list[int], tokenizer: Tokenizer, config: ExamplesConfig, counts: Counter[str]
) -> list[Example]:
    """Return a text as rows, each of which begins as the tokenizer begins a text."""
    begin = list(tokenizer.begin)
    room = max(1, config.length - len(begin))
    pieces = [text[i : i + room] for i in range(0, len(text), room)]
    # A single token behind a full row has nothing before it to be predicted from.
    least = 1 if begin else 2
    counts["tokens dropped"] += sum(len(piece) for piece in pieces if len(piece) < least)
    return [
        Example(ids=torch.tensor(begin + piece), start=len(begin))
        for piece in pieces
        if len(piece) >= least
    ]


def _ordered(splits: dict[str, list[Example]]) -> list[str]:
    known = [name for name in SPLIT_FRACTIONS if name in splits]
    return known + sorted(set(splits) - set(known))


def _details(
    records: list[Record],
    parts: dict[str, tuple[Example, ...]],
    tokenizer: Tokenizer,
    config: ExamplesConfig,
    counts: Counter[str],
) -> dict[str, Any]:
    lengths = sorted(len(row.ids) for rows in parts.values() for row in rows)
    seen = Counter(
        key for rows in parts.values() for key in {row.ids.numpy().tobytes() for row in rows}
    )
    drawn = records[0].split is None
    return {
        "tokenizer": tokenizer.name,
        "before_each_row": ids_said(tokenizer.begin),
        "lines": len(records),
        "length": {
            "most": config.length,
            "shortest": lengths[0],
            "median": lengths[len(lengths) // 2],
            "longest": lengths[-1],
        },
        "duplicates_across_splits": sum(times > 1 for times in seen.values()),
        "long": config.long,
        "cut": {name: count for name, count in sorted(counts.items()) if count},
        "learned_tokens": {name: sum(row.learned for row in rows) for name, rows in parts.items()},
        "split": {"drawn by": "prompt or text", "seed": config.seed, "shares": SPLIT_FRACTIONS}
        if drawn
        else "as in the file",
    }


def _digest(parts: dict[str, tuple[Example, ...]]) -> str:
    digest = hashlib.sha256()
    for name, rows in parts.items():
        for row in rows:
            digest.update(
                f"{name}|{row.start}|{row.gaps}|{row.target!r}|{row.references!r}|".encode()
            )
            digest.update(row.ids.numpy().tobytes())
    return digest.hexdigest()
