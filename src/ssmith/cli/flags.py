"""Flags: each is defined once, so that it has one name and one meaning everywhere."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from ssmith.core.errors import InputError
from ssmith.core.names import meant

Parser = argparse.ArgumentParser
# The names of these types in argparse are private.
Subparsers = Any
Group = Any
Config = TypeVar("Config")

_ALIKE = 0.6
MODEL_HELP = "directory, hub id owner/name, or embedded:NAME"
DATA_HELP = (
    "embedded:NAME, or a .npz, .csv or .jsonl file; for language models stdlib:, pydoc:, a text, "
    ".jsonl, .csv, .npy or .bin file, or a directory of text"
)


class ArgumentParser(argparse.ArgumentParser):
    """A parser whose mistakes are errors like all others: one line, exit code 2."""

    example = ""
    """A whole command line that works, for who left out a part of it."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, and refuse what is left over here, where the flags of the command are known.

        Args:
            args: the words.
            namespace: that takes the values.

        Returns:
            The namespace, and an empty list.

        Raises:
            InputError: if a word is left over.
        """
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            flag = unknown[0].partition("=")[0]
            question = meant(flag, self._option_string_actions, cutoff=_ALIKE)
            raise InputError(
                f"unrecognized arguments: {' '.join(unknown)}",
                next_step=question or f"see `{self.prog} --help`",
            )
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print with its usage.

        Args:
            message: what is wrong with the command line.

        Raises:
            InputError: always.
        """
        step = f"see `{self.prog} --help`"
        if "required" in message and self.example:
            step += f"; an example: `{self.example}`"
        raise InputError(message, next_step=step)


def command(
    subparsers: Subparsers, name: str, *, about: str, example: str, run: Callable[..., int]
) -> Parser:
    """Add a command with its example and the flags that every command has.

    Args:
        subparsers: of the main parser.
        name: of the command.
        about: one line on what it does.
        example: a command line that works.
        run: what to call with the arguments and the output.

    Returns:
        The command's parser.
    """
    parser: ArgumentParser = subparsers.add_parser(
        name,
        help=about,
        description=f"{about[:1].upper()}{about[1:]}.",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.example = example
    parser.set_defaults(run=run)
    group = parser.add_argument_group("output")
    group.add_argument(
        "--json", action="store_true", help="print one JSON document on stdout, also for errors"
    )
    group.add_argument(
        "--quiet", action="store_true", help="print nothing but errors; the exit code tells"
    )
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def add_model(parser: Parser, name: str = "model") -> None:
    """Add a model as an argument."""
    parser.add_argument(name, metavar=name.upper(), help=MODEL_HELP)


def add_data(parser: Parser, *, required: bool = True) -> None:
    """Add ``--data``."""
    parser.add_argument("--data", required=required, help=DATA_HELP)


def add_lm_eval(group: Group) -> None:
    """Add ``--lm-eval`` and how much of its tasks is run."""
    group.add_argument(
        "--lm-eval",
        type=words,
        default=argparse.SUPPRESS,
        metavar="TASK,TASK",
        help="also run these tasks of lm-eval on the model in memory: names it knows, or paths of "
        "YAML files (extra lm-eval)",
    )
    group.add_argument(
        "--lm-eval-limit",
        type=whole,
        default=argparse.SUPPRESS,
        metavar="N",
        help="most documents of each of these tasks, the first ones (default: all)",
    )
    group.add_argument(
        "--few-shot",
        type=whole,
        default=argparse.SUPPRESS,
        metavar="N",
        help="solved examples before each question (default: as each task says)",
    )


HARNESS_FLAGS = ("lm_eval", "lm_eval_limit", "few_shot")


def add_split(parser: Parser) -> None:
    """Add ``--split``."""
    parser.add_argument(
        "--split",
        default="test",
        help="train, validation, selection or test; of text also all (default: test)",
    )


def add_text(parser: Parser) -> Group:
    """Add the flags that say which windows of a text are measured."""
    group = parser.add_argument_group("language models", "perplexity on windows of text")
    for name, text in (
        ("--length", "tokens of each window (default: 2048)"),
        ("--stride", "tokens between their starts (default: the length)"),
        ("--windows", "most windows, evenly spread (default: all)"),
    ):
        group.add_argument(name, type=whole, default=argparse.SUPPRESS, metavar="N", help=text)
    add_field(group)
    return group


def add_field(group: Group) -> None:
    """Add ``--field``."""
    group.add_argument(
        "--field",
        default=argparse.SUPPRESS,
        metavar="NAME",
        help="key or column of the text in a .jsonl or .csv (default: text)",
    )


TEXT_FLAGS = ("length", "stride", "windows", "field")


def refuse_flags(arguments: argparse.Namespace, names: tuple[str, ...], reason: str) -> None:
    """Refuse flags that mean nothing for the model at hand.

    Args:
        arguments: of the command line.
        names: of the flags, as they stand in the arguments.
        reason: what they are for.

    Raises:
        InputError: if one was given.
    """
    for name in names:
        if getattr(arguments, name, None) is not None:
            raise InputError(
                f"--{name.replace('_', '-')} is for {reason}", next_step="leave it out"
            )


def add_metric(parser: Parser) -> None:
    """Add ``--metric``."""
    parser.add_argument(
        "--metric",
        help="accuracy, cross-entropy, mean-absolute-error or rmse "
        "(default: accuracy for classes, mean-absolute-error for numbers)",
    )


def add_method(parser: Parser, default: str = "last") -> None:
    """Add ``--method``."""
    parser.add_argument(
        "--method",
        default=argparse.SUPPRESS,
        metavar="NAME",
        help=f"criterion that cuts (default: {default}; all are in `ssmith list`); behind it "
        "+refit refits read-outs, +refit-full input rows and D as well; or balanced, "
        "singular-perturbation, h2-optimal",
    )


def add_own_metric(parser: Group) -> None:
    """Add ``--own-metric`` and its direction."""
    parser.add_argument(
        "--own-metric",
        metavar="MODULE:FUNCTION",
        default=argparse.SUPPRESS,
        help="your own metric (outputs, y) -> float, from a module or a file.py; its code is run",
    )
    parser.add_argument(
        "--own-lower-is-better",
        action="store_true",
        default=argparse.SUPPRESS,
        help="smaller values of your metric are better",
    )


def add_out(parser: Parser, what: str, *, required: bool = True) -> None:
    """Add ``--out`` and ``--overwrite``."""
    parser.add_argument("--out", type=Path, metavar="DIR", required=required, help=what)
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")


def no_out() -> InputError:
    """Return the error of a cut without a place for its result."""
    return InputError(
        "--out is missing",
        allowed="--out DIR, or --dry-run to cut nothing",
        next_step="add --out with the directory to make, e.g. --out pruned",
    )


def add_seed(parser: Parser, what: str) -> None:
    """Add ``--seed``."""
    parser.add_argument(
        "--seed", type=whole, default=0, metavar="N", help=f"seed of {what} (default: 0)"
    )


def add_batch_size(parser: Parser) -> None:
    """Add ``--batch-size``."""
    parser.add_argument(
        "--batch-size",
        type=whole,
        default=argparse.SUPPRESS,
        metavar="N",
        help="sequences per forward pass, also when timed (default: 64)",
    )


def add_speed(parser: Parser) -> None:
    """Add ``--threads`` and ``--speed-seconds``."""
    parser.add_argument(
        "--threads",
        type=whole,
        default=argparse.SUPPRESS,
        metavar="N",
        help="CPU threads of the speed measurement (default: as PyTorch chooses)",
    )
    parser.add_argument(
        "--speed-seconds",
        type=number,
        default=argparse.SUPPRESS,
        metavar="S",
        help="seconds for each of the three speed measurements (default: 2)",
    )


def number(text: str) -> float:
    """Read a number; what it may be is checked where it is used."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def whole(text: str) -> int:
    """Read a whole number; what it may be is checked where it is used."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def numbers(text: str) -> tuple[float, ...]:
    """Read numbers between commas."""
    return tuple(number(item) for item in words(text))


def wholes(text: str) -> tuple[int, ...]:
    """Read whole numbers between commas."""
    return tuple(whole(item) for item in words(text))


def words(text: str) -> tuple[str, ...]:
    """Read words between commas; an empty text is none."""
    return tuple(item.strip() for item in text.split(",") if item.strip())


def setting(text: str) -> tuple[str, str | int]:
    """Read ``NAME=VALUE``."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip() or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    digits = value.removeprefix("-")
    return name.strip(), int(value) if digits.isascii() and digits.isdigit() else value


def config_of(kind: type[Config], arguments: argparse.Namespace) -> Config:
    """Build a config from the flags that were given; all others keep the config's defaults."""
    # The bound of the variable would be a name that exists for type checkers only.
    names = {item.name for item in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in vars(arguments).items() if name in names})


def amount(text: str) -> float | int | str:
    """Read a share, a count, or a pattern as text."""
    if ":" in text:
        return text
    try:
        return int(text)
    except ValueError:
        return number(text)
