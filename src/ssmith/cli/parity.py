"""``ssmith parity``: does a model give the same numbers whichever way it is run?"""

from __future__ import annotations

import argparse

from ssmith.cli import flags
from ssmith.cli.output import Output

_SIZES = {
    "--length": "steps of each sequence, at least 16 (default: 40, or what the chunks take)",
    "--batch": "sequences, at least 2 (default: 2)",
    "--following": "tokens that follow a padded prompt, and that are generated (default: 16)",
    "--double-up-to": "parameters up to which a language model is checked in float64 too, in a "
    "copy of eight bytes each (default: 500000000)",
    "--tokens": "tokens of the text, e.g. 50000 (default: 1024)",
}


def add(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    parser = flags.command(
        subparsers,
        "parity",
        about="run a model every way there is and compare; exit 1 if a tolerance is broken",
        example="ssmith parity embedded:digits-s5",
        run=run,
    )
    flags.add_model(parser)
    parser.add_argument(
        "--stock",
        action="store_true",
        help="run a Hugging Face model's own code instead of the engine, to see what it does",
    )
    for name, text in _SIZES.items():
        parser.add_argument(
            name, type=flags.whole, default=argparse.SUPPRESS, metavar="N", help=text
        )
    parser.add_argument(
        "--chunks",
        type=flags.wholes,
        default=argparse.SUPPRESS,
        metavar="N,N,…",
        help="lengths of chunks to try (default: 1, 3, 13, and what the model itself works in)",
    )
    parser.add_argument(
        "--text",
        default=argparse.SUPPRESS,
        metavar="TEXT",
        help="compare perplexity on it: a text file, .jsonl, directory, token ids, or stdlib: "
        "(default: a module of Python's standard library, where the model can read text)",
    )
    parser.add_argument(
        "--require-backend",
        dest="backend",
        default=argparse.SUPPRESS,
        metavar="NAME",
        help="stop unless the scan takes this path: reference, torch, native or triton",
    )
    flags.add_seed(parser, "the random input")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print which path runs and how fast, then one row per comparison."""
    from ssmith import api
    from ssmith.jobs.paths import PathText, compare_paths

    config = flags.config_of(api.PathParityConfig, arguments)
    text = flags.config_of(PathText, arguments)
    with output.progress() as progress:
        found = compare_paths(api.load(arguments.model), config, text, progress=progress)
    output.result({"name": arguments.model, **found.as_dict()})
    if found.stock:
        output.line("stock code, without the engine")
    for path in found.paths:
        remedy = f"; faster: {path['remedy']}" if path["remedy"] else ""
        output.line(f"{path['op']} runs on {path['backend']}: {path['reason']}{remedy}")
    for speed in found.speeds:
        output.line(
            f"{speed.work} on {speed.backend}: {speed.tokens_per_second:,.0f} tokens per second "
            f"(best of 2 runs over {speed.tokens:,} tokens)"
        )
    output.table(
        ("compared", "worst difference", "tolerance", "agrees"),
        [(item.name, item.difference, item.tolerance, item.passed) for item in found.checks],
    )
    if found.rounding is not None:
        output.line(
            f"rounding alone moves the logits by {found.rounding:.2g} of the largest (reference "
            "against float64); ways that round may differ by 4 times that, at least 1e-05"
        )
    for left in found.left_out:
        output.line(f"not compared: {left.name}; {left.reason}")
    failed = sum(not item.passed for item in found.checks)
    output.line(
        f"{failed} of {len(found.checks)} ways disagree"
        if failed
        else f"every way agrees; nearest to its tolerance: {found.worst.name}"
    )
    return 0 if found.passed else 1
