"""``ssmith pilot``: find a safe cut, make it, prove it and report it."""

from __future__ import annotations

import argparse

from ssmith.cli import flags
from ssmith.cli.output import Output

_LANGUAGE = (
    "cut", "group", "samples", "length", "windows", "test_windows", "field", "compensate",
    *flags.HARNESS_FLAGS,
)  # fmt: skip
_SEQUENCES = (
    "calibration", "refine", "own_metric", "own_lower_is_better", "own_max_loss",
)  # fmt: skip


def add(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    parser = flags.command(
        subparsers,
        "pilot",
        about="find the largest cut within a tolerance, make it, check it and report it",
        example="ssmith pilot embedded:digits-s5 --data embedded:digits --max-loss 0.005 "
        "--out pilot",
        run=run,
    )
    flags.add_model(parser)
    flags.add_data(parser)
    flags.add_out(
        parser, "directory for model/, plan.json, receipt.json, report.html, plots/, stages/"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with an interrupted pilot in --out"
    )
    _add_search(parser)
    _add_limits(parser)
    _add_recovery(parser)
    _add_language(parser)
    _add_load(parser)
    flags.add_batch_size(parser)
    flags.add_speed(parser)
    flags.add_seed(parser, "resampling and of random pruning")
    parser.set_defaults(kept=kept)


def _add_search(parser: flags.Parser) -> None:
    flags.add_method(parser, default="auto")
    parser.add_argument(
        "--calibration",
        type=flags.whole,
        default=argparse.SUPPRESS,
        metavar="N",
        help="training sequences that refits are fitted to (default: 256)",
    )
    parser.add_argument(
        "--baselines",
        type=flags.words,
        default=argparse.SUPPRESS,
        metavar="A,B",
        help="criteria measured beside it (default: all others; '' for none)",
    )
    parser.add_argument(
        "--fractions",
        type=flags.numbers,
        default=argparse.SUPPRESS,
        metavar="R,R",
        help="fractions of states to try (default: 0.1,0.2, … 0.9)",
    )
    parser.add_argument(
        "--refine",
        type=flags.whole,
        default=argparse.SUPPRESS,
        metavar="N",
        help="further fractions around the best one (default: 4)",
    )


def _add_limits(parser: flags.Parser) -> None:
    group = parser.add_argument_group("what is accepted")
    group.add_argument(
        "--max-loss",
        type=flags.number,
        default=argparse.SUPPRESS,
        metavar="X",
        help="largest loss of the metric, in its own unit (default: 0.005, half a point); of text "
        "the relative increase of perplexity (default: 0.01)",
    )
    group.add_argument(
        "--proof",
        action="store_true",
        default=argparse.SUPPRESS,
        help="accept only a loss that is proven to be within --max-loss",
    )
    flags.add_own_metric(group)
    group.add_argument(
        "--own-max-loss",
        type=flags.number,
        default=argparse.SUPPRESS,
        metavar="X",
        help="largest loss of your metric (default: reported, not judged)",
    )


def _add_language(parser: flags.Parser) -> None:
    group = parser.add_argument_group(
        "language models", "calibrated on windows of the training split; --max-loss is relative"
    )
    group.add_argument(
        "--cut",
        default=argparse.SUPPRESS,
        metavar="UNIT",
        help="columns (whole states of a layer), a_log (its entries), projections (their weights) "
        "or whole (the last two; default: columns)",
    )
    for name, text in (
        ("--samples", "calibration windows (default: 64)"),
        ("--length", "tokens of each window (default: 1024)"),
        ("--windows", "most windows of the selection split (default: 64)"),
        ("--test-windows", "most windows of the test split (default: all)"),
        ("--group", "cut every fraction as N:M with this M (default: no pattern)"),
    ):
        group.add_argument(
            name, type=flags.whole, default=argparse.SUPPRESS, metavar="N", help=text
        )
    flags.add_field(group)
    group.add_argument(
        "--no-compensation",
        dest="compensate",
        action="store_false",
        default=argparse.SUPPRESS,
        help="do not make up for the cut in closed form",
    )
    flags.add_lm_eval(group)


def _add_recovery(parser: flags.Parser) -> None:
    group = parser.add_argument_group(
        "recovery", "cut models learn from the dense one; larger cuts are tried with it"
    )
    group.add_argument(
        "--recover",
        default=argparse.SUPPRESS,
        metavar="NAMES",
        help="adapters that learn to make up for the cut, written into the model in the end: "
        "state-offset-hy or lora:out_proj of language models, full of others",
    )
    for flag, kind, letter, text in (
        ("--recover-steps", flags.whole, "N", "optimiser steps of each recovery (default: 200)"),
        ("--recover-rate", flags.number, "R", "its learning rate (default: published ones)"),
        (
            "--distill-weight",
            flags.number,
            "X",
            "share of the dense model in its loss (default: 1)",
        ),
    ):
        group.add_argument(flag, type=kind, default=argparse.SUPPRESS, metavar=letter, help=text)


def _add_load(parser: flags.Parser) -> None:
    group = parser.add_argument_group("estimate of the saving")
    for flag, kind, letter, text in (
        ("--price-per-hour", flags.number, "X", "of the machine (default: 1)"),
        ("--currency", str, "NAME", "of the price (default: USD)"),
        (
            "--sequences-per-day",
            flags.number,
            "N",
            "how many are run, of text windows (default: 1e6)",
        ),
    ):
        group.add_argument(flag, type=kind, default=argparse.SUPPRESS, metavar=letter, help=text)


def kept(arguments: argparse.Namespace) -> str:
    """Say what an interrupted pilot leaves."""
    if not arguments.out.exists():
        return "nothing was written"
    return f"finished stages are kept in {arguments.out}; go on with --resume"


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Run the pilot; exit 0 if it accepts its cut, 1 if it refuses."""
    from ssmith.jobs.pilot import LanguagePilotConfig, PilotConfig, pilot
    from ssmith.jobs.source import reads_text

    text = reads_text(arguments.model)
    refused, reason = (_SEQUENCES, "S5 and S4D models") if text else (_LANGUAGE, "language models")
    flags.refuse_flags(arguments, refused, reason)
    config: LanguagePilotConfig | PilotConfig = (
        flags.config_of(LanguagePilotConfig, arguments)
        if text
        else flags.config_of(PilotConfig, arguments)
    )
    with output.progress() as progress:
        receipt = pilot(
            arguments.model,
            arguments.data,
            arguments.out,
            config,
            resume=arguments.resume,
            overwrite=arguments.overwrite,
            command=arguments.command_line,
            progress=progress,
        )
    verdict = receipt.verdict
    output.result(receipt.as_dict())
    output.line(f"{'accepted' if verdict['accepted'] else 'refused'}: {verdict['headline']}")
    for item in verdict["reasons"]:
        output.line(f"{'passed' if item['passed'] else 'failed'}  {item['gate']}: {item['text']}")
    for finding in receipt.findings:
        if finding["kind"] == "unsettled":
            output.line(f"note: {finding['message']}")
    output.line(f"report: {arguments.out / 'report.html'}")
    return 0 if verdict["accepted"] else 1
