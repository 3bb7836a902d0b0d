"""``ssmith watch``: is the cut still right on the rows of today?"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssmith.cli import flags
from ssmith.cli.output import Output, one_line
from ssmith.cli.recipe import config_of
from ssmith.core.errors import InputError

if TYPE_CHECKING:
    from ssmith.core.looks import LookReceipt, SiteCost
    from ssmith.release.line import Line
    from ssmith.release.version import Version
    from ssmith.watch.look import WatchConfig
    from ssmith.watch.service import Watch

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_YEAR = 365 * 86400


def add(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    command = flags.Command(
        subparsers,
        "watch",
        about="hold new rows against the profile of a line's version: the cut, the rows, the "
        "answers, with labels the metric, and speed",
        example="ssmith watch line --data today.csv --json",
        run=run,
    )
    command.positional("LINE", "directory of the line", kind=Path)
    command.add("--data", flags.DATA_HELP + "; labels may be missing", required=True)
    command.switch("--labels", "the rows are labelled: hold the metric against its promise")
    command.switch("--take", "take the profile, on labelled data that was not learned from")
    command.add("--version", "first digits of a version's digest; the live one if None, or the "
                "newest where none is live")  # fmt: skip
    command.add("--parent", "what the version was cut from, where the line cannot tell",
                metavar="MODEL")  # fmt: skip
    command.add("--prometheus", "write the look for the node exporter's textfile collector",
                kind=Path)  # fmt: skip
    command.add("--every", "look again and again: 10m, 1h, 1d", kind=seconds_of, metavar="TIME")
    command.add("--looks", "stop after so many looks", kind=int, metavar="N")
    command.settings("ssmith.watch.look:WatchConfig")
    command.group("with --take")
    command.switch(
        "--unlabelled",
        "the rows have no labels: all are looked at, no metric is promised, and no curve tells "
        "losses",
    )
    command.add("--length", "tokens of each window of text; 512 if None", kind=int, metavar="N")
    command.add("--metric", "name of a task; the usual one of the model if None")


def seconds_of(text: str) -> float:
    """Read a time such as ``10m``: a number and s, m, h or d; raises `ArgumentTypeError`."""
    number, unit = text[:-1], text[-1:]
    try:
        value = float(number) * _UNITS[unit]
    except (ValueError, KeyError):
        value = 0.0
    if not 0 < value < float("inf"):
        allowed = "a number and s, m, h or d, such as 10m"
        raise argparse.ArgumentTypeError(f"{text!r} is no time; allowed: {allowed}")
    return value


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a command line asks of a watch: one look without ``every``, no end without ``looks``.

    ``take``: the profile, in place of a look; with the settings that were given for it.
    """

    line: Line
    version: Version
    data: str
    config: WatchConfig
    labels: bool = False
    parent: str | None = None
    take: Mapping[str, Any] | None = None
    every: float | None = None
    looks: int | None = None
    prometheus: Path | None = None


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Look once, or again and again; exit 1 if the last look found an alarm."""
    from ssmith.release.line import Line
    from ssmith.watch.look import WatchConfig

    line, config = Line.open(arguments.line), config_of(WatchConfig, arguments)
    taken = {}
    for name in ("length", "metric", "unlabelled"):
        taken[name] = getattr(arguments, name)
        if taken[name] not in (None, False) and not arguments.take:
            raise InputError(f"--{name} without --take", next_step="the profile says it")
    for name in ("sample", "seed", "batch_size", "speed_seconds"):
        if hasattr(arguments, name):
            taken[name] = getattr(arguments, name)
    if arguments.every is not None:
        often = max(config.looks_per_year, round(_YEAR / arguments.every))
        config = replace(config, looks_per_year=often)
    elif arguments.looks is not None:
        raise InputError("--looks without --every", next_step="say how often")
    asked = Asked(
        line=line, version=_version_of(line, arguments.version), data=arguments.data,
        config=config, labels=arguments.labels, parent=arguments.parent,
        take=taken if arguments.take else None, every=arguments.every, looks=arguments.looks,
        prometheus=arguments.prometheus,
    )  # fmt: skip
    return watching(asked, output)


def watching(asked: Asked, output: Output) -> int:
    """Do what was asked; return the exit code."""
    from ssmith.watch.service import Watch

    if asked.take is not None:
        return _take(asked, asked.take, output)
    watch = Watch(line=asked.line, version=asked.version, parent=asked.parent, config=asked.config)
    if asked.every is not None:
        return _again_and_again(watch, asked, asked.every, output)
    found = watch.look(asked.data, labels=asked.labels, keep=partial(_export, asked))
    output.result(found.as_dict())
    _show(found, output)
    return 1 if found.alarm else 0


def _version_of(line: Line, given: str | None) -> Version:
    """Return the version that is meant."""
    return line.version(given or ("newest" if line.live is None else "live"))


def _take(asked: Asked, given: Mapping[str, Any], output: Output) -> int:
    from ssmith.watch.profile import ProfileConfig, as_plain
    from ssmith.watch.service import TakeConfig, take_profile

    own = {key: given[key] for key in ("length", "metric", "unlabelled")}
    profiled = {key: value for key, value in given.items() if key not in own}
    config = TakeConfig(**own, profile=ProfileConfig(**profiled))
    profile = take_profile(asked.line, asked.version, asked.data, config, parent=asked.parent)
    output.result(as_plain(profile))
    output.line(f"profile of {profile.rows:,} rows: {len(profile.sketches)} readings")
    for name, why in profile.left.items():
        output.line(f"not watched: {name}: {why}")
    return 0


def _again_and_again(watch: Watch, asked: Asked, every: float, output: Output) -> int:
    """Look every so often; what goes wrong in one look is said, and the next one comes."""
    alarm, done, due = False, 0, time.monotonic()
    quiet = not sys.stdout.isatty()
    while asked.looks is None or done < asked.looks:
        time.sleep(max(0.0, due - time.monotonic()))
        due, done = due + every, done + 1
        try:
            found = watch.look(asked.data, labels=asked.labels, keep=partial(_export, asked))
        except Exception as error:
            message = one_line(f"this look failed: {error}")
            print(message, file=sys.stderr, flush=True)
            output.record({"error": {"kind": type(error).__name__, "message": message}})
            continue
        alarm = found.alarm
        output.record(found.as_dict())
        if alarm or not quiet:
            _show(found, output)
    return 1 if alarm else 0


def _export(asked: Asked, found: LookReceipt) -> None:
    if asked.prometheus is not None:
        from ssmith.watch.prometheus import write_metrics

        write_metrics(asked.prometheus, found)


def _show(found: LookReceipt, output: Output) -> None:
    look = found.look
    output.line(
        f"look {look.number} at {look.time}: {look.rows:,} of {look.there:,} rows, "
        f"{'ALARM' if look.alarm else 'no alarm'}"
    )
    for item in look.findings:
        since = ""
        if item.since is not None:
            since = f" (since {item.since}{'' if item.row is None else f', row {item.row}'})"
        sure = f" [{item.sure}]" if item.sure else ""
        output.line(f"{'alarm' if item.alarm else 'note'}  {item.kind}: {item.what}{since}{sure}")
        for command in item.do:
            output.line(f"       do: {command}")
    if not look.findings:
        output.line("nothing has drifted")
    if look.cut is not None:
        sites = [_site(name, site) for name, site in look.cut.sites.items()]
        columns = ("site", "cost of the cut", "at release", "times", "removed carries",
                   "at release")  # fmt: skip
        output.table(columns, sites)
    for name, why in look.left.items():
        output.line(f"not watched: {name}: {why}")


def _site(name: str, site: SiteCost) -> tuple[object, ...]:
    times = "" if site.times is None else "{:.2f} [{:.2f}, {:.2f}]".format(*site.times)
    shares = [site.now, site.at_release, site.removed, site.removed_at_release]
    cells = ["" if share is None else f"{share:.2%}" for share in shares]
    return (name, *cells[:2], times, *cells[2:])
