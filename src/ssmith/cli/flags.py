"""Flags: generated from the configs that they fill, and joined with a recipe."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ssmith.cli.foreign import our_words
from ssmith.cli.generated import Setting, in_words, reader_of, settings_of
from ssmith.core.errors import InputError
from ssmith.core.names import meant

# The names of these types in argparse are private.
Subparsers = Any

_ALIKE = 0.6
PREPARE = {"seed": "split_seed", "by": "split_by"}
"""Flags of `PrepareConfig` that are not named as their settings."""
MODEL_HELP = "directory, hub id owner/name, or embedded:NAME"
DATA_HELP = (
    "embedded:NAME, or a .npz, .csv or .jsonl file; for language models stdlib:, pydoc:, a text, "
    ".jsonl, .csv, .npy or .bin file, or a directory of text"
)


class ArgumentParser(argparse.ArgumentParser):
    """A parser whose mistakes are errors like all others: one line, exit code 2."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, and refuse what is left over here, where the flags of the command are known."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            flag = unknown[0].partition("=")[0]
            known = self._option_string_actions
            question = our_words(flag, known) or meant(flag, known, cutoff=_ALIKE)
            raise InputError(
                f"unrecognized arguments: {' '.join(unknown)}",
                next_step=question or f"see `{self.prog} --help`",
            )
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print with its usage."""
        raise InputError(message, next_step=f"see `{self.prog} --help`")


@dataclass(frozen=True, kw_only=True)
class Flag:
    """One flag, or positional argument, of a command.

    Args:
        name: as it is written: ``--batch-size`` or ``MODEL``.
        dest: where its value is found: of a setting the dotted path in the config.
        kind: reads its text.
        setting: whether it is a setting of a config; else it is the command's own.
        default: of the command's own, where it is left out.
        required: whether it must be given.
        many: whether it may be given several times.
        in_recipe: whether a recipe may hold it; not what is of one run alone.
        example: what to try where it is missing.
    """

    name: str
    dest: str
    kind: Callable[[str], Any] = str
    setting: bool = False
    default: Any = None
    required: bool = False
    many: bool = False
    in_recipe: bool = True
    example: str = ""

    @property
    def key(self) -> str:
        """Its name in a recipe."""
        return self.name.removeprefix("--").removeprefix("no-").replace("-", "_").lower()


class Command:
    """A command with its flags.

    Args:
        subparsers: of the main parser.
        name: of the command.
        about: one line on what it does.
        example: a command line that works.
        run: what to call with the arguments and the output.
        kept: says, given the arguments, what an interrupted run leaves.
    """

    def __init__(
        self,
        subparsers: Subparsers,
        name: str,
        *,
        about: str,
        example: str,
        run: Callable[..., int],
        kept: Callable[..., str] | None = None,
    ) -> None:
        self.name, self.example = name, example
        self.flags: list[Flag] = []
        # Whether the command reads by itself what a recipe holds beside the flags.
        self.free = False
        self.parser: ArgumentParser = subparsers.add_parser(
            name,
            help=about,
            description=f"{about[:1].upper()}{about[1:]}.",
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self._group: Any = self.parser.add_argument_group("output")
        self._switch("--json", "print one JSON document on stdout, also for errors")
        self._switch("--quiet", "print nothing but errors; the exit code tells")
        self._switch("--debug", "show the traceback of an error")
        self._group = self.parser
        self.parser.set_defaults(run=run, spec=self, kept=kept)
        self.add(
            "--recipe",
            "settings from a .yaml or .json file, under the names of the flags or nested as in "
            "the recipe.yaml of a result; flags go before it",
            kind=Path,
            in_recipe=False,
        )

    def group(self, title: str, about: str | None = None) -> None:
        """Put the flags that follow under a title."""
        self._group = self.parser.add_argument_group(title, about)

    def model(self, name: str = "MODEL") -> None:
        """Add a model as a positional argument."""
        self.positional(name, MODEL_HELP)
        if all(flag.dest != "base" for flag in self.flags):
            self.add(
                "--base",
                "where the base of an adapter lies now, if not where the adapter says",
                metavar="MODEL",
                in_recipe=False,
            )

    def positional(
        self,
        name: str,
        about: str,
        *,
        kind: Callable[[str], Any] = str,
        required: bool = True,
        many: bool = False,
    ) -> None:
        """Add a positional argument, or several of a kind; a recipe may hold it."""
        dest = name.lower()
        self.flags.append(Flag(name=name, dest=dest, kind=kind, required=required, many=many))
        self._group.add_argument(
            dest,
            metavar=name,
            nargs="*" if many else "?",
            # argparse reads the mark of what was left out as if it had been given.
            type=lambda text: text if text is argparse.SUPPRESS else kind(text),
            default=argparse.SUPPRESS,
            help=about,
        )

    def add(
        self,
        name: str,
        about: str,
        *,
        kind: Callable[[str], Any] = str,
        metavar: str | None = None,
        default: Any = None,
        required: bool = False,
        many: bool = False,
        in_recipe: bool = True,
        example: str = "",
    ) -> None:
        """Add a flag of the command's own.

        One that may be given ``many`` times has a list as its value; what is of one run alone is
        not ``in_recipe``; ``example`` is what to try where it is missing.
        """
        dest = name.removeprefix("--").replace("-", "_")
        self.flags.append(
            Flag(
                name=name, dest=dest, kind=kind, default=default, required=required,
                many=many, in_recipe=in_recipe, example=example,
            )
        )  # fmt: skip
        self._group.add_argument(
            name,
            dest=dest,
            type=kind,
            action="append" if many else "store",
            metavar=metavar or ("FILE" if kind is Path else "NAME"),
            default=argparse.SUPPRESS,
            help=about.replace("%", "%%"),
        )

    def switch(self, name: str, about: str) -> None:
        """Add a flag without a value, of this one run."""
        dest = name.removeprefix("--").replace("-", "_")
        self.flags.append(Flag(name=name, dest=dest, default=False, in_recipe=False))
        self._switch(name, about)

    def out(self, what: str, *, required: bool = True) -> None:
        """Add ``--out`` and ``--overwrite``."""
        self.add("--out", what, kind=Path, metavar="DIR", required=required, in_recipe=False)
        self.switch("--overwrite", "replace what is there")

    def settings(
        self,
        source: str,
        names: Iterable[str] | None = None,
        *,
        but: Collection[str] = (),
        under: str = "",
        called: Mapping[str, str] | None = None,
    ) -> None:
        """Add a flag for each field of a config: name, kind, default and words are the field's."""
        known = settings_of(source)
        for name in [name for name in known if name not in but] if names is None else names:
            dest = f"{under}.{name}" if under else name
            if not any(flag.dest == dest for flag in self.flags):
                self._setting(known[name], dest, (called or {}).get(name, name))

    def _setting(self, setting: Setting, dest: str, name: str) -> None:
        flag = f"--{name.replace('_', '-')}"
        more: dict[str, Any] = {}
        if "bool" in setting.kinds:
            if setting.optional:
                more["action"] = argparse.BooleanOptionalAction
            elif setting.default is True:
                flag = f"--no-{flag.removeprefix('--')}"
                more["action"] = "store_false"
            else:
                more["action"] = "store_true"
        else:
            kind, letter = reader_of(setting)
            more |= {"type": kind, "metavar": letter}
        about = in_words(setting).replace("%", "%%")
        self.flags.append(Flag(name=flag, dest=dest, setting=True))
        self._group.add_argument(flag, dest=dest, default=argparse.SUPPRESS, help=about, **more)

    def _switch(self, name: str, about: str) -> None:
        self._group.add_argument(name, action="store_true", default=argparse.SUPPRESS, help=about)
