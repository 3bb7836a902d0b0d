"""ListOps: nested list operations on digits, answered with a digit.

The grammar is that of the Long Range Arena's generator: a node below the depth limit is an
operator with probability 1/4 and else a digit; an operator has 2 to ``max_arguments`` arguments.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import torch

from ssmith.core.errors import InputError
from ssmith.core.seeds import derive
from ssmith.data.pool import Pool

OPERATORS = ("[MIN", "[MAX", "[MED", "[SM")
CLOSE = "]"
DIGITS = tuple(str(digit) for digit in range(10))
# Id 0 is padding and never part of an expression.
TOKENS = ("<pad>", *DIGITS, *OPERATORS, CLOSE)
_OPERATOR_RATE = 0.25
# Draws in a row without a new expression, after which there is hardly another one.
_PATIENCE = 20_000


@dataclass(frozen=True, kw_only=True)
class ListOps:
    """Settings of the generator.

    Args:
        counts: split name → expressions, all ≥ 1.
        max_depth: levels of nesting, ≥ 1.
        max_arguments: arguments of one operator, ≥ 2.
        min_length: fewest tokens of an expression, ≥ 4.
        max_length: most tokens of an expression.
    """

    counts: dict[str, int] = field(
        default_factory=lambda: {
            "train": 20_000,
            "validation": 2_000,
            "selection": 4_000,
            "test": 4_000,
        }
    )
    max_depth: int = 10
    max_arguments: int = 5
    min_length: int = 10
    max_length: int = 100

    def __post_init__(self) -> None:
        if min(self.counts.values(), default=0) < 1:
            raise InputError(f"counts are {self.counts}", allowed="at least 1 in every split")
        if self.max_depth < 1 or self.max_arguments < 2:
            raise InputError(
                f"max_depth is {self.max_depth}, max_arguments is {self.max_arguments}",
                allowed="max_depth ≥ 1 and max_arguments ≥ 2",
            )
        if not 4 <= self.min_length <= self.max_length:
            raise InputError(
                f"lengths are {self.min_length} to {self.max_length}",
                allowed="4 ≤ min_length ≤ max_length",
            )


def generate_listops(config: ListOps, *, seed: int) -> Pool:
    """Generate different expressions and their values.

    Lengths and values keep the distribution of the grammar within the length range, so classes
    are not balanced.
    """
    # Only random() is promised to give the same numbers in every Python version.
    draw = random.Random(derive(seed, "listops"))
    wanted = sum(config.counts.values())
    values: dict[tuple[str, ...], int] = {}
    fruitless = 0
    while len(values) < wanted:
        fruitless += 1
        if fruitless > _PATIENCE:
            raise InputError(
                f"found only {len(values)} of {wanted} different expressions",
                allowed="fewer expressions, or wider limits",
            )
        expression = _expression(draw, config)
        if expression is not None and tuple(expression) not in values:
            values[tuple(expression)] = evaluate_listops(expression)
            fruitless = 0
    return _pool(config, values, seed)


def evaluate_listops(tokens: list[str]) -> int:
    """Return the value of one expression.

    MIN and MAX are as named, MED is the median rounded down, SM the sum modulo 10.
    """
    open_lists: list[tuple[str, list[int]]] = [("", [])]
    for token in tokens:
        if token in OPERATORS:
            open_lists.append((token, []))
        elif token in DIGITS:
            open_lists[-1][1].append(int(token))
        elif token == CLOSE and len(open_lists) > 1 and open_lists[-1][1]:
            operator, arguments = open_lists.pop()
            open_lists[-1][1].append(_apply(operator, arguments))
        else:
            raise InputError(f"cannot read token {token!r}", allowed="a complete expression")
    if len(open_lists) != 1 or len(open_lists[0][1]) != 1:
        raise InputError("the expression is not complete", allowed="one value or closed list")
    return open_lists[0][1][0]


def _apply(operator: str, arguments: list[int]) -> int:
    if operator == "[MIN":
        return min(arguments)
    if operator == "[MAX":
        return max(arguments)
    if operator == "[SM":
        return sum(arguments) % 10
    ordered = sorted(arguments)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) // 2


def _expression(draw: random.Random, config: ListOps) -> list[str] | None:
    """Draw one expression; None as soon as it leaves the length range.

    A lone digit is always too short, so the root is drawn as an operator.
    """
    tokens: list[str] = []
    missing: list[int] = []
    while not tokens or missing:
        if missing and missing[-1] == 0:
            tokens.append(CLOSE)
            missing.pop()
            continue
        if missing:
            missing[-1] -= 1
        inner = len(missing) < config.max_depth and draw.random() <= _OPERATOR_RATE
        if not tokens or inner:
            tokens.append(OPERATORS[int(draw.random() * len(OPERATORS))])
            missing.append(2 + int(draw.random() * (config.max_arguments - 1)))
        else:
            tokens.append(DIGITS[int(draw.random() * len(DIGITS))])
        if len(tokens) + len(missing) + sum(missing) > config.max_length:
            return None
    return tokens if len(tokens) >= config.min_length else None


def _pool(config: ListOps, values: dict[tuple[str, ...], int], seed: int) -> Pool:
    ids = {token: i for i, token in enumerate(TOKENS)}
    rows = [torch.tensor([ids[token] for token in tokens]) for tokens in values]
    return Pool(
        name="listops",
        source="generated here by the grammar of the Long Range Arena's ListOps",
        task="classification",
        x=torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=0),
        lengths=torch.tensor([len(row) for row in rows]),
        y=torch.tensor(list(values.values())),
        classes=DIGITS,
        vocabulary=len(TOKENS),
        split_of=tuple(name for name, count in config.counts.items() for _ in range(count)),
        details={
            "split": "by generation",
            "generation_seed": seed,
            "max_depth": config.max_depth,
            "max_arguments": config.max_arguments,
            "min_length": config.min_length,
            "max_length": config.max_length,
            "tokens": list(TOKENS),
        },
    )
