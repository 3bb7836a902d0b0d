"""``ssmith parity``: does a model give the same numbers whichever way it is run?"""

from __future__ import annotations

import argparse

from ssmith.cli import flags
from ssmith.cli.generated import whole
from ssmith.cli.output import Output
from ssmith.cli.recipe import config_of


def add(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    command = flags.Command(
        subparsers,
        "parity",
        about="run a model every way there is and compare; exit 1 if a tolerance is broken",
        example="ssmith parity embedded:digits-s5",
        run=run,
    )
    command.model()
    command.settings(
        "ssmith.evaluation.path_rows:PathParityConfig", called={"backend": "require-backend"}
    )
    command.add(
        "--text",
        "compare perplexity on it: a text file, .jsonl, directory, token ids, or stdlib: "
        "(default: a module of Python's standard library, where the model can read text)",
        metavar="TEXT",
    )
    command.add(
        "--tokens", "tokens of the text, e.g. 50000 (default: 1024)", kind=whole, metavar="N",
        default=1024,
    )  # fmt: skip


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print which path runs, then one row per comparison."""
    from ssmith import api
    from ssmith.jobs.paths import compare_paths

    config = config_of(api.PathParityConfig, arguments)
    with output.progress() as progress:
        found = compare_paths(
            api.load(arguments.model),
            config,
            text=arguments.text,
            tokens=arguments.tokens,
            progress=progress,
        )
    output.result({"name": arguments.model, **found.as_dict()})
    if found.stock:
        output.line("stock code, without the engine")
    for path in found.paths:
        remedy = f"; faster: {path['remedy']}" if path["remedy"] else ""
        output.line(f"{path['op']} runs on {path['backend']}: {path['reason']}{remedy}")
    output.table(
        ("compared", "worst difference", "tolerance", "agrees"),
        [(item.name, item.worst, item.tolerance, item.passed) for item in found.checks],
    )
    if found.rounding is not None:
        output.line(
            f"rounding alone moves the logits by {found.rounding:.2g} of the largest (reference "
            "against float64); ways that round may differ by 4 times that, at least 1e-05"
        )
    for left in found.left_out:
        output.line(f"not compared: {left.name}; {left.why_null}")
    failed = sum(not item.passed for item in found.checks)
    output.line(
        f"{failed} of {len(found.checks)} ways disagree"
        if failed
        else f"every way agrees; nearest to its tolerance: {found.worst.name}"
    )
    return 0 if found.passed else 1
