"""The door: parse, run one command, turn every end into an exit code."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version

from ssmith.cli import (
    audit,
    canary,
    compare,
    cycle,
    dashboard,
    data,
    evaluate,
    inspect,
    list_names,
    merge,
    parity,
    pilot,
    predict,
    prune,
    release,
    report,
    train,
    trial,
    tune,
    verify,
    watch,
)
from ssmith.cli.flags import ArgumentParser
from ssmith.cli.output import Output, one_line, print_json
from ssmith.cli.recipe import resolve
from ssmith.core.errors import ArtefactError, InputError, SsmithError
from ssmith.core.launch import is_main_process, refuse_processes

COMMANDS = {
    "data": data,
    "inspect": inspect,
    "prune": prune,
    "eval": evaluate,
    "predict": predict,
    "compare": compare,
    "audit": audit,
    "canary": canary,
    "trial": trial,
    "pilot": pilot,
    "verify": verify,
    "watch": watch,
    "parity": parity,
    "train": train,
    "tune": tune,
    "merge": merge,
    "release": release,
    "report": report,
    "dashboard": dashboard,
    "cycle": cycle,
    "list": list_names,
}
SHARED = ("prune", "tune")
"""Commands whose work several processes share."""
BUG = 70
INTERRUPTED = 130
# 128 + SIGPIPE, as a shell counts it.
BROKEN_PIPE = 141
_EPILOG = """\
exit codes:
  0    done (pilot: accepted; verify, parity: every check passed; watch: no alarm)
  1    done, and a gate or a check says no
  2    bad input or output; nothing was written
  3    an optional package is missing; the message names the extra
  70   a bug in ssmith
  75   somebody else is writing; the same command may do later
  130  interrupted

example:
  ssmith pilot embedded:digits-s5 --data embedded:digits --max-loss 0.005 --out pilot
"""


@cache
def parser() -> ArgumentParser:
    """Return the parser of the whole command line, the same for all."""
    main_parser = ArgumentParser(
        prog="ssmith",
        description="Prune, tune and ship state space models, with a receipt for every step.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    main_parser.add_argument("--version", action="version", version=f"ssmith {version('ssmith')}")
    main_parser.add_argument(
        "--verbose",
        action="store_true",
        help="with --version: which path each operation takes on this machine, and why",
    )
    subparsers = main_parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in COMMANDS.values():
        module.add(subparsers)
    return main_parser


def main(argv: Sequence[str]) -> int:
    """Run one command."""
    output = Output(as_json="--json" in argv, quiet="--quiet" in argv)
    arguments = argparse.Namespace()
    try:
        if "--verbose" in argv[:2]:
            return _version(argv)
        if not is_main_process():
            # Of several processes the first one speaks.
            output = Output(as_json=False, quiet=True)
        _suggest_command(argv)
        parser().parse_args(argv, arguments)
        resolve(arguments)
        _refuse_side_by_side(arguments)
        arguments.command_line = ("ssmith", *argv)
        with output.captured(), _based(arguments):
            return int(arguments.run(arguments, output))
    except SystemExit as end:
        # --help and --version end this way.
        return end.code if isinstance(end.code, int) else BUG
    except BrokenPipeError:
        raise
    except (Exception, KeyboardInterrupt) as error:
        if "--debug" in argv:
            traceback.print_exc()
        return _fail(_as_ours(error), output, arguments)


def _refuse_side_by_side(arguments: argparse.Namespace) -> None:
    """Refuse to run, once for each process of a launcher, what these do not share."""
    name = arguments.command
    if name not in SHARED or getattr(arguments, "sweep", None) is not None:
        refuse_processes(f"ssmith {name}" + (" --sweep" if name in SHARED else ""))


@contextmanager
def _based(arguments: argparse.Namespace) -> Iterator[None]:
    """Open adapters on the base of the command line, if there is one."""
    base = getattr(arguments, "base", None)
    if base is None:
        yield
        return
    from ssmith.api import based_on

    with based_on(base):
        yield


def _version(argv: Sequence[str]) -> int:
    """Print the version and which path each operation takes here."""
    from ssmith.core.receipt import versions
    from ssmith.jobs.paths import kernels

    if set(argv) != {"--version", "--verbose"}:
        raise InputError("--verbose goes with --version", next_step="ssmith --version --verbose")
    for name, said in versions().items():
        print(one_line(f"{name} {said}"))
    for line in kernels():
        print(one_line(line))
    return 0


def run() -> None:
    """Run the command line of this process and exit."""
    _prepare_streams()
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        code = BROKEN_PIPE
        _forget_stdout()
    except OSError as error:
        print(one_line(f"error: cannot print: {error.strerror or error}."), file=sys.stderr)
        code = SsmithError.exit_code
        _forget_stdout()
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)


def _prepare_streams() -> None:
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            # Closed by whoever started us (`>&-`).
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))
        elif hasattr(stream, "reconfigure"):
            # A letter the terminal has no sign for must not end a finished run.
            stream.reconfigure(errors="replace")


def _forget_stdout() -> None:
    """Drop what is still to be printed: nobody can take it, and Python would try at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _suggest_command(argv: Sequence[str]) -> None:
    if not argv or argv[0].startswith("-") or argv[0] in COMMANDS:
        return
    close = difflib.get_close_matches(argv[0], COMMANDS, n=1, cutoff=0.5)
    raise InputError(
        f"there is no command {argv[0]!r}",
        allowed=", ".join(COMMANDS),
        next_step=f"did you mean {close[0]!r}?" if close else "see `ssmith --help`",
    )


def _as_ours(error: BaseException) -> BaseException:
    """Say in our words what the operating system refused."""
    if isinstance(error, OSError) and not isinstance(error, SsmithError):
        place = f"{error.filename}: " if error.filename else ""
        return ArtefactError(
            f"{place}{error.strerror or error}",
            next_step="check the path, its permissions and the space on the disk",
        )
    return error


def _fail(error: BaseException, output: Output, arguments: argparse.Namespace) -> int:
    """Report an error in one line and return its exit code."""
    allowed = next_step = ""
    if isinstance(error, SsmithError):
        code, message, line = error.exit_code, error.what, str(error)
        allowed, next_step = error.allowed, error.next_step
    elif isinstance(error, KeyboardInterrupt):
        code, message = INTERRUPTED, "interrupted"
        kept = getattr(arguments, "kept", None) if hasattr(arguments, "content") else None
        next_step = kept(arguments) if kept else "nothing was written"
        line = f"{message}; {next_step}."
    else:
        code, message = BUG, f"unexpected {type(error).__name__}: {error}"
        next_step = "run again with --debug for the traceback, and report it"
        line = f"{message}; this is a bug in ssmith; next: {next_step}."
    print(one_line(f"error: {line}"), file=sys.stderr)
    if output.as_json:
        kind = type(error).__name__
        details = {"message": message, "allowed": allowed, "next_step": next_step}
        print_json({"error": {"kind": kind, **details}})
    return code
