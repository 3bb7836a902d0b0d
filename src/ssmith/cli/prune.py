"""``ssmith prune``: cut a model, or only say what would be cut."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ssmith.cli import flags, prune_selective
from ssmith.cli.output import Output
from ssmith.core.errors import InputError

if TYPE_CHECKING:
    from ssmith.core.plan import Plan
    from ssmith.core.receipt import Receipt
    from ssmith.jobs.prune import PruneConfig

_DECIDE = ("ratio", "method", "settings", "min_per_layer")


def add(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    parser = flags.command(
        subparsers,
        "prune",
        about="remove states from a model and save it with its plan and receipt",
        example="ssmith prune embedded:digits-s5 --method last --ratio 0.33 --out smaller",
        run=run,
    )
    flags.add_model(parser)
    flags.add_out(parser, "directory for the cut model (not with --dry-run)", required=False)
    _add_decision(parser)
    parser.add_argument(
        "--mode",
        default="shrink",
        help="shrink removes the states, mask only switches them off (default: shrink)",
    )
    prune_selective.add(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the plan and cut nothing")
    parser.add_argument(
        "--plan-out", type=Path, metavar="FILE", help="also write the plan here, to read or edit"
    )


def _add_decision(parser: flags.Parser) -> None:
    parser.add_argument(
        "--ratio",
        type=flags.number,
        default=argparse.SUPPRESS,
        metavar="R",
        help="fraction of all states to remove, in [0, 1)",
    )
    flags.add_method(parser)
    parser.add_argument(
        "--set",
        dest="settings",
        type=flags.setting,
        action="extend",
        nargs="+",
        default=argparse.SUPPRESS,
        metavar="NAME=VALUE",
        help="settings of the criterion, e.g. variant=released norm=exact",
    )
    parser.add_argument(
        "--min-per-layer",
        type=flags.whole,
        default=argparse.SUPPRESS,
        metavar="N",
        help="states that stay in every layer at least (default: 0)",
    )
    parser.add_argument(
        "--refit-on",
        metavar="DATA",
        help="refit the read-outs of what stays, layer by layer, on the training split of this "
        "data (state-obs needs it)",
    )
    parser.add_argument(
        "--plan-in", type=Path, metavar="FILE", help="cut what this plan says, instead of --ratio"
    )


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Plan, and unless it is a dry run, cut and save."""
    if prune_selective.is_selective(arguments):
        return prune_selective.run(arguments, output)
    from ssmith import api
    from ssmith.core.files import refuse_existing
    from ssmith.jobs.methods import calibration
    from ssmith.jobs.outputs import refuse_own_input
    from ssmith.jobs.prune import cut_and_save, decide

    how = _decision(arguments)
    for path in (None if arguments.dry_run else arguments.out, arguments.plan_out):
        if path is not None:
            refuse_own_input(path, arguments.model, *filter(None, [arguments.refit_on]))
            refuse_existing(path, overwrite=arguments.overwrite)
    model = api.load_sequence_model(arguments.model)
    part = None
    if arguments.refit_on is not None:
        part = calibration(api.load_data(arguments.refit_on, model, needs=("train",)))
    decision = decide(model, how, part)
    plan = decision.plan
    receipt = None
    if not arguments.dry_run:
        receipt = cut_and_save(
            model,
            decision,
            arguments.mode,
            arguments.out,
            name=arguments.model,
            command=arguments.command_line,
            overwrite=arguments.overwrite,
        )
    if arguments.plan_out is not None:
        plan.save(arguments.plan_out)
    _show(arguments, output, plan, receipt)
    return 0


def _decision(arguments: argparse.Namespace) -> PruneConfig | Path:
    """Return what decides: the flags, or a plan's file; never both, and never neither."""
    from ssmith.jobs.prune import PruneConfig

    if not arguments.dry_run and arguments.out is None:
        raise flags.no_out()
    given = [name for name in _DECIDE if hasattr(arguments, name)]
    if arguments.plan_in is not None:
        if given:
            flag = {"settings": "set"}.get(given[0], given[0].replace("_", "-"))
            raise InputError(f"--plan-in and --{flag} both decide", allowed="one of them")
        return Path(arguments.plan_in)
    if "ratio" not in given:
        raise InputError(
            "--ratio is missing",
            allowed="--ratio R, or --plan-in FILE",
            next_step="--ratio 0.33 removes a third of the states",
        )
    if hasattr(arguments, "settings"):
        arguments.settings = dict(arguments.settings)
    config = flags.config_of(PruneConfig, arguments)
    if arguments.refit_on is None and config.how().needs_data:
        raise InputError(
            f"--method {config.method} needs training sequences and there are none",
            allowed="--refit-on DATA, or a method that needs none, such as aire",
            next_step="add --refit-on with the data the model was trained on, or more of its kind",
        )
    return config


def _show(
    arguments: argparse.Namespace, output: Output, plan: Plan, receipt: Receipt | None
) -> None:
    done = receipt is not None
    output.result(
        {
            "plan": json.loads(plan.to_json()),
            "receipt": receipt.as_dict() if receipt is not None else None,
            "model": str(arguments.out) if done else None,
            "plan_file": str(arguments.plan_out) if arguments.plan_out is not None else None,
        }
    )
    output.line(str(plan).splitlines()[0])
    output.table(
        ("layer", "states", "kept", "removed"),
        [
            (name, mask.numel(), int(mask.sum()), mask.numel() - int(mask.sum()))
            for name, mask in plan.keep.items()
        ],
    )
    for finding in plan.findings:
        output.line(f"note: {asdict(finding)['message']}")
    if arguments.plan_out is not None:
        output.line(f"plan: {arguments.plan_out}")
    output.line(f"model: {arguments.out}" if done else "dry run: nothing was cut")
