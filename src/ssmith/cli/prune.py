"""``ssmith prune``: cut a model, or only say what would be cut."""

from __future__ import annotations

import argparse
import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssmith.cli import flags
from ssmith.cli.cuts import PER_CUT, cuts_of
from ssmith.cli.generated import in_words, settings_of
from ssmith.cli.output import Output
from ssmith.cli.recipe import given_settings, recipe_of
from ssmith.core.errors import InputError

if TYPE_CHECKING:
    from ssmith.jobs.prune import PruneConfig, Pruned, PruneTask

_CONFIG, _BUDGET = "ssmith.jobs.prune:PruneConfig", "ssmith.core.budget:Budget"


def add(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    command = flags.Command(
        subparsers,
        "prune",
        about="remove units from a model and save it with its plan, receipt and recipe",
        example="ssmith prune embedded:digits-s5 --cut state=0.33 --method last --out smaller",
        run=run,
    )
    command.model()
    command.out("directory for the cut model (not with --dry-run)", required=False)
    for name, text in (
        ("--plan-in", "follow this plan, a file or a result's directory, in place of --cut"),
        ("--plan-out", "also write the plan here, to read or edit"),
        ("--work-dir", "keep what is done already; the same command goes on from it"),
    ):
        command.add(name, text, kind=Path, metavar="PATH", in_recipe=False)
    command.switch("--dry-run", "say what would be cut, and write no model")
    command.add(
        "--sweep",
        "in place of a model, a plot and a table of perplexity on the selection split over "
        "samples, or over the amount of a unit that is cut",
        metavar="NAME=V,V",
        in_recipe=False,
    )
    command.group("what goes", "with several cuts the other flags are given as UNIT:VALUE")
    command.add(
        "--cut",
        "what goes: a share (state=0.5), a count (block=1), N:M to keep (weight=2:4), or what the "
        "model is to weigh (state=parameters:0.7, bytes:…, state_bytes:…, step_time:…, "
        "prompt_time:…); several units can share that (neuron+head_dim=parameters:0.7)",
        metavar="UNIT=AMOUNT",
        many=True,
    )
    known = settings_of(_BUDGET)
    for name, (flag, metavar) in PER_CUT.items():
        command.add(f"--{flag}", in_words(known[name]), metavar=metavar, many=True)
    command.settings(_CONFIG, ("mode", "target"))
    command.group("calibration")
    command.settings("ssmith.jobs.source:Calibration", under="calibration")
    command.settings(_CONFIG, ("batch_size", "kept_gb", "from_disk"))


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Plan, and unless it is a dry run, cut and save."""
    from ssmith.core.directories import refuse_existing
    from ssmith.core.plan import Plan
    from ssmith.jobs.outputs import refuse_own_input
    from ssmith.jobs.processes import joined
    from ssmith.jobs.prune import PruneTask, prune

    config = _config(arguments)
    if not arguments.dry_run and arguments.out is None:
        raise InputError(
            "--out is missing",
            allowed="--out DIR, or --dry-run to cut nothing",
            next_step="add --out with the directory to make, e.g. --out pruned",
        )
    out = None if arguments.dry_run else arguments.out
    for path in (out, arguments.work_dir, arguments.plan_out):
        if path is not None:
            refuse_own_input(path, arguments.model, *filter(None, [config.calibration.data]))
    plan_files = () if arguments.plan_out is None else Plan.places(arguments.plan_out)
    for path in filter(None, (out, *plan_files)):
        refuse_existing(path, overwrite=arguments.overwrite)
    task = PruneTask(
        model=arguments.model, config=config, plan=arguments.plan_in, out=out,
        overwrite=arguments.overwrite, work_dir=arguments.work_dir,
        command=arguments.command_line, recipe=recipe_of(arguments, config),
    )  # fmt: skip
    if arguments.sweep is not None:
        return _sweep(arguments, output, task)
    with joined() as group, output.progress() as progress:
        done = prune(task, say=output.line, progress=progress)
    if arguments.plan_out is not None and group.rank == 0:
        done.plan.save(arguments.plan_out)
    _show(output, done, out, arguments.plan_out)
    return 0


def _config(arguments: argparse.Namespace) -> PruneConfig:
    from ssmith.core.settings import from_mapping
    from ssmith.jobs.prune import PruneConfig

    names = {item.name for item in fields(PruneConfig)}
    content = given_settings(arguments, names, of="prune")
    if arguments.plan_in is None:
        content["cuts"] = cuts_of(arguments, content)
    else:
        _refuse_beside_a_plan(arguments, content)
    return from_mapping(PruneConfig, content, where="prune")


def _refuse_beside_a_plan(arguments: argparse.Namespace, content: dict[str, Any]) -> None:
    given = [
        flag.name for flag in arguments.spec.flags if flag.many and getattr(arguments, flag.dest)
    ]
    given += [
        f"--{name.replace('_', '-')}"
        for name in content
        if name not in ("mode", "calibration", "from_disk")
    ]
    given += [f"--{name}" for name in content.get("calibration", {})]
    given += ["--sweep"] if arguments.sweep is not None else []
    given += ["--work-dir"] if arguments.work_dir is not None else []
    if given:
        raise InputError(f"--plan-in and {given[0]} both decide", allowed="a plan alone")


def _sweep(arguments: argparse.Namespace, output: Output, task: PruneTask) -> int:
    """Prune copies over the values of one setting, and show what each costs."""
    from ssmith.jobs.sweep import SweptAxis, sweep

    for name in ("plan_out", "work_dir"):
        if getattr(arguments, name) is not None:
            flag = name.replace("_", "-")
            raise InputError(f"--{flag} does not apply to --sweep", next_step="leave it out")
    axis = SweptAxis.parse(arguments.sweep)
    with output.progress() as progress:
        found = sweep(task, axis, progress=progress)
    output.result({"sweep": found, "directory": None if task.out is None else str(task.out)})
    output.line(f"perplexity of the dense model: {found['dense']['perplexity']:.4f}")
    names = ("value", "perplexity", "increase", "low", "high")
    rows = [tuple(row[name] for name in names) for row in found["rows"]]
    output.table((axis.name, *names[1:]), rows)
    output.line(
        "dry run: nothing was written" if task.out is None else f"plot and data: {task.out}"
    )
    return 0


def _show(output: Output, done: Pruned, out: Path | None, plan_file: Path | None) -> None:
    from ssmith.core.plan import PLAN

    plan, receipt = done.plan, done.receipt
    output.result(
        {
            "plan": json.loads(plan.files()[PLAN]),
            "receipt": receipt.as_dict(),
            "model": None if out is None else str(out),
            "plan_file": None if plan_file is None else str(plan_file),
        }
    )
    output.line(str(plan).splitlines()[0])
    output.table(
        ("unit", "layer", "units", "kept", "removed"),
        [
            (cut.unit, name, mask.numel(), int(mask.sum()), mask.numel() - int(mask.sum()))
            for cut in plan.cuts
            for name, mask in cut.keep.items()
        ],
    )
    for shared in plan.facts.get("across", ()):
        output.line(f"{shared['quantity']}: {shared['before']:,} → {shared['after']:,}, of which")
        output.table(
            ("unit", "layers", "removed", "gives"),
            [(item["unit"], item["layers"], item["share"], item["gives"])
             for item in shared["units"]],
        )  # fmt: skip
    for unit, facts in plan.facts.get("stability", {}).items():
        output.line(
            f"stability of {unit} over two halves of the text, least stable layer: rank "
            f"correlation {facts['rank_correlation']:.3f}, overlap {facts['overlap']:.3f} "
            f"(warned below {facts['threshold']:g})"
        )
    output.findings((*receipt.findings, *plan.findings))
    if plan_file is not None:
        output.line(f"plan: {plan_file}")
    output.line(f"model: {out}" if out is not None else "dry run: nothing was written")
