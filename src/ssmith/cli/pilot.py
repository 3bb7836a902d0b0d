"""``ssmith pilot``: find a safe cut, make it, prove it and report it."""

from __future__ import annotations

import argparse

from ssmith.cli import flags
from ssmith.cli.output import Output
from ssmith.cli.recipe import config_of, recipe_of

_CONFIG = "ssmith.jobs.pilot.config:PilotConfig"
_GROUPS = (
    ("", "", "units method baselines sparsities refine compensate target samples metric"),
    ("what is accepted", "",
     "max_loss min_gain proof allow_copies own_metric own_lower_is_better own_max_loss"),
    ("recall of what stood far back", "texts whose gaps are filled from the test split",
     "recall_texts recall_length max_recall_loss"),
    ("recovery", "cut models learn from the dense one; larger cuts are tried with it",
     "recover recover_steps recover_rate distill_weight"),
    ("language models", "calibrated on windows of the training split",
     "length windows test_windows field group lm_eval lm_eval_limit few_shot"),
    ("estimate of the saving", "", "price_per_hour currency sequences_per_day"),
    ("how it runs", "", "batch_size threads speed_seconds seed"),
)  # fmt: skip
"""Titles of the help, and the settings below them."""
_CALLED = {"units": "cut", "sparsities": "at"}


def add(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    command = flags.Command(
        subparsers,
        "pilot",
        about="find the largest cut within a tolerance, make it, check it and report it",
        example="ssmith pilot embedded:digits-s5 --data embedded:digits --max-loss 0.005 "
        "--out pilot",
        run=run,
        kept=kept,
    )
    command.model()
    command.add("--data", flags.DATA_HELP, required=True)
    command.out("directory for model/, plan.json, receipt.json, recipe.yaml, report.html, …")
    command.switch("--resume", "go on with an interrupted pilot in --out")
    for title, about, names in _GROUPS:
        if title:
            command.group(title, about)
        command.settings(_CONFIG, names.split(), called=_CALLED)


def kept(arguments: argparse.Namespace) -> str:
    """Say what an interrupted pilot leaves."""
    if not arguments.out.exists():
        return "nothing was written"
    return f"finished stages are kept in {arguments.out}; go on with --resume"


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Run the pilot; exit 0 if it accepts its cut, 1 if it refuses."""
    from ssmith.jobs.pilot import PilotConfig, pilot

    config = config_of(PilotConfig, arguments)
    with output.progress() as progress:
        receipt = pilot(
            arguments.model,
            arguments.data,
            arguments.out,
            config,
            resume=arguments.resume,
            overwrite=arguments.overwrite,
            command=arguments.command_line,
            recipe=recipe_of(arguments, config),
            progress=progress,
        )
    verdict = receipt.verdict
    output.result(receipt.as_dict())
    output.line(f"{'accepted' if verdict.accepted else 'refused'}: {verdict.headline}")
    for item in verdict.reasons:
        output.line(f"{'passed' if item.passed else 'failed'}  {item.gate}: {item.text}")
    output.findings(receipt.findings)
    output.line(f"report: {arguments.out / 'report.html'}")
    return 0 if verdict.accepted else 1
