"""``ssmith release init``, ``add``, ``note`` and ``parity``: what a line holds and knows."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ssmith.cli import flags
from ssmith.cli.output import Output
from ssmith.cli.release.shared import (
    VERSION_HELP,
    command,
    entry_as_dict,
    key_of,
    open_line,
    version_as_dict,
    writes,
)
from ssmith.core.errors import InputError
from ssmith.core.files import beside

if TYPE_CHECKING:
    from ssmith.release.keys import Key
    from ssmith.release.line import Line
    from ssmith.release.version import Version


def add(subparsers: flags.Subparsers) -> None:
    """Add the commands."""
    made = command(
        subparsers,
        "init",
        about="begin a line",
        example="ssmith release init line --policy policy.toml",
        run=init,
    )
    made.add("--policy", "rules before a version may go live, as TOML (default: 1 % loss, parity)",
             kind=Path)  # fmt: skip
    made.add("--name", "what to call the line (default: the directory's name)")
    writes(made)
    made = command(
        subparsers,
        "add",
        about="bring a model or an adapter into a line, byte for byte, once it opens and verifies",
        example="ssmith release add line pilot/model --receipt pilot/receipt.json",
        run=bring,
    )
    made.positional("MODEL", f"{flags.MODEL_HELP}; a pilot's directory stands for its model")
    made.add("--receipt", "receipt.json that speaks of this model; may be given several times "
             "(default: those that lie with it)", many=True, metavar="FILE")  # fmt: skip
    made.add("--data", "labelled data: take the profile that `ssmith watch` holds new rows "
             "against")  # fmt: skip
    made.add("--parent", "with --data: what the model was cut from, where the line cannot tell",
             metavar="MODEL")  # fmt: skip
    writes(made)
    made = command(
        subparsers,
        "note",
        about="write something down about a version, or bring a newer receipt of it",
        example="ssmith release note line 3f2a --receipt verdict/receipt.json --reason 'July data'",
        run=note,
    )
    made.positional("VERSION", VERSION_HELP)
    made.add("--receipt", "receipt.json that speaks of this model; may be given several times",
             many=True, metavar="FILE")  # fmt: skip
    writes(made)
    made = command(
        subparsers,
        "parity",
        about="run a version every way there is, and write down whether the numbers agree",
        example="ssmith release parity line 3f2a",
        run=parity,
    )
    made.positional("VERSION", VERSION_HELP)
    writes(made)


def init(arguments: argparse.Namespace, output: Output) -> int:
    """Begin a line."""
    from ssmith.release.begin import init as begin
    from ssmith.release.policy import read_policy

    policy = None if arguments.policy is None else read_policy(arguments.policy)
    line = begin(
        arguments.line, policy, name=arguments.name, reason=arguments.reason,
        key=key_of(arguments), wait=arguments.wait,
    )  # fmt: skip
    output.result({"line": str(line.path), "name": line.name, "policy": line.policy.as_plain()})
    output.line(f"line {line.name!r} begins in {line.path}")
    return 0


def bring(arguments: argparse.Namespace, output: Output) -> int:
    """Add a version."""
    from ssmith.core.errors import InputError
    from ssmith.release.adding import keep
    from ssmith.release.evidence import read_paper
    from ssmith.release.lineage import lineage_of
    from ssmith.release.opening import opened, receipts_with

    if arguments.data is None and arguments.parent is not None:
        raise InputError("--parent without --data", next_step="give the data of the profile")
    line, key = open_line(arguments), key_of(arguments)
    _check_data(arguments.data, arguments.parent)
    artefact = opened(arguments.model)
    given = [Path(item) for item in arguments.receipt or ()]
    papers = [read_paper(path) for path in given or receipts_with(arguments.model)]
    known = len(line.entries())
    version = keep(line, artefact, papers=papers, reason=arguments.reason, key=key)
    new = version.added.index >= known
    way = lineage_of(version, line.versions())
    output.result({
        "version": version_as_dict(version), "new": new, "receipts": len(papers),
        "lineage": {"text": way.text, "whole": way.whole},
    })  # fmt: skip
    output.line(f"{'added' if new else 'there already'}: {version.digest}")
    facts = version.added.details
    output.line(f"files: {facts['files']}, {facts['bytes']:,} bytes; receipts: {len(papers)}")
    output.line(f"made from: {way.text}")
    if arguments.data is not None:
        _take_profile(line, version, arguments, output)
    return 0


def _check_data(data: str | None, parent: str | None) -> None:
    """Refuse before anything is added what could not be profiled after it."""
    if data is None and parent is not None:
        raise InputError("--parent without --data", next_step="give the data of the profile")
    if data is not None and ":" not in data and not Path(data).exists():
        raise InputError(f"there is no data {data!r}", next_step=beside(Path(data)) or "check it")


def _take_profile(
    line: Line, version: Version, arguments: argparse.Namespace, output: Output
) -> None:
    from ssmith.watch.service import take_profile

    profile = take_profile(line, version, arguments.data, parent=arguments.parent)
    output.line(f"profile: {profile.rows:,} rows, {len(profile.sketches)} readings")
    for name, why in profile.left.items():
        output.line(f"not watched: {name}: {why}")


def note(arguments: argparse.Namespace, output: Output) -> int:
    """Write something down."""
    from ssmith.release.adding import keep_papers
    from ssmith.release.evidence import read_paper

    if not arguments.reason.strip() and not arguments.receipt:
        raise InputError("nothing to note", next_step="give --reason TEXT or --receipt FILE")
    line, key = open_line(arguments), key_of(arguments)
    version = line.version(arguments.version)
    papers = [read_paper(Path(item)) for item in arguments.receipt or ()]
    entry = keep_papers(line, version, papers, reason=arguments.reason, key=key)
    output.result({"entry": entry_as_dict(entry)})
    output.line(f"noted as entry {entry.index}, receipts: {len(papers)}")
    return 0


def parity(arguments: argparse.Namespace, output: Output) -> int:
    """Check every path of a version; exit 1 if two disagree."""
    line, key = open_line(arguments), key_of(arguments)
    version = line.version(arguments.version)
    return 0 if check_parity(line, version, output, reason=arguments.reason, key=key) else 1


def check_parity(
    line: Line, version: Version, output: Output, *, reason: str = "", key: Key | None = None
) -> bool:
    """Run a version every way there is, and write down whether the numbers agree."""
    from ssmith import api
    from ssmith.core import sections
    from ssmith.core.details import CutDetails
    from ssmith.core.receipt import Receipt, versions
    from ssmith.core.settings import to_mapping
    from ssmith.jobs.paths import compare_paths

    model, config = api.load(version.path), api.PathParityConfig()
    with output.progress() as progress:
        found = compare_paths(model, config, progress=progress)
    disagree = [item.name for item in found.checks if not item.passed]
    facts = {"passed": found.passed, "compared": len(found.checks), "disagree": disagree}
    receipt = Receipt(
        action="parity",
        model=sections.ModelSection(digest_after=version.tensors),
        method=sections.MethodSection(settings=to_mapping(config)),
        seed=config.seed,
        versions=versions(),
        parity=found.section(),
        details=CutDetails(facts=found.as_dict()),
    )
    entry = line.record(
        "note",
        version=version,
        receipts=(receipt.as_dict(),),
        reason=reason or "parity",
        details={"parity": facts},
        key=key,
    )
    output.result({"entry": entry_as_dict(entry), "parity": facts})
    count = len(found.checks)
    said = f"{len(disagree)} of {count} ways disagree" if disagree else f"all {count} ways agree"
    output.line(f"parity: {said}, noted as entry {entry.index}")
    return found.passed
