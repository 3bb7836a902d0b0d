"""``ssmith prune``: cut a model, or only say what would be cut."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssmith.cli import flags
from ssmith.cli.output import Output
from ssmith.core.errors import InputError

if TYPE_CHECKING:
    from ssmith.core.budget import Budget
    from ssmith.jobs.prune import Pruned

_PER_CUT = (
    ("method", "what chooses, by name (see `ssmith list`)"),
    ("scope", "how sites share the budget: auto, uniform, global, cost, measured, sensitivity"),
    (
        "compensate",
        "what is refitted: auto, none, once, readout, full, or any of BCDhy",
    ),
    ("semantics", "what a cut entry does: memoryless, unit-decay or fast-decay"),
)


def add(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    parser = flags.command(
        subparsers,
        "prune",
        about="remove units from a model and save it with its plan and receipt",
        example="ssmith prune embedded:digits-s5 --cut state=0.33 --method last --out smaller",
        run=run,
    )
    flags.add_model(parser)
    flags.add_out(parser, "directory for the cut model (not with --dry-run)", required=False)
    parser.add_argument(
        "--cut", action="append", default=[], metavar="UNIT=AMOUNT",
        help="what goes: a share (state=0.5), a count (block=1) or N:M (weight=2:4); repeatable",
    )  # fmt: skip
    for name, what in _PER_CUT:
        parser.add_argument(f"--{name}", metavar="NAME", help=what)
    parser.add_argument(
        "--set", dest="settings", type=flags.setting, action="extend", nargs="+",
        default=argparse.SUPPRESS, metavar="NAME=VALUE",
        help="settings of the method, e.g. variant=released norm=exact",
    )  # fmt: skip
    parser.add_argument("--targets", nargs="+", metavar="NAME", help="sites or weights, with *")
    parser.add_argument("--data", metavar="DATA", help="rows to calibrate on")
    flags.add_field(parser)
    for name, kind, what in (
        ("min-per-layer", flags.whole, "units that stay in every layer at least"),
        ("samples", flags.whole, "calibration rows"),
        ("length", flags.whole, "tokens of each window of text"),
        ("seed", flags.whole, "seed of what is drawn"),
        ("batch-size", flags.whole, "rows per forward pass"),
        ("kept-gb", flags.number, "memory for what is held of a block between two looks at it"),
    ):
        parser.add_argument(
            f"--{name}", type=kind, default=argparse.SUPPRESS, metavar="N", help=what
        )
    parser.add_argument("--work-dir", type=Path, metavar="DIR", help="go on from here after a kill")
    parser.add_argument("--from-disk", action="store_true", default=None, help="block by block")
    parser.add_argument("--mode", help="shrink or mask for all units (default: each unit's own)")
    parser.add_argument("--plan-in", type=Path, metavar="PATH", help="follow this plan")
    parser.add_argument("--dry-run", action="store_true", help="say what would be cut, write none")
    parser.add_argument("--plan-out", type=Path, metavar="PATH", help="also write the plan here")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Plan, and unless it is a dry run, cut and save."""
    from ssmith.core.files import refuse_existing
    from ssmith.jobs.outputs import refuse_own_input
    from ssmith.jobs.processes import joined
    from ssmith.jobs.prune import Calibration, PruneConfig, PruneTask, prune

    if not arguments.dry_run and arguments.out is None:
        raise flags.no_out()
    out = None if arguments.dry_run else arguments.out
    for path in (out, arguments.work_dir, arguments.plan_out):
        if path is not None:
            refuse_own_input(path, arguments.model, *filter(None, [arguments.data]))
    for path in (out, arguments.plan_out):
        if path is not None:
            refuse_existing(path, overwrite=arguments.overwrite)
    given = vars(arguments)
    if arguments.plan_in is not None:
        for name in ("settings", "samples", "length", "seed", "batch_size", "kept_gb", "field",
                     "min_per_layer"):  # fmt: skip
            if name in given:
                raise InputError(f"--plan-in and --{name.replace('_', '-')} both decide",
                                 allowed="a plan alone")  # fmt: skip
        for name in ("method", "scope", "compensate", "semantics", "targets", "from_disk",
                     "work_dir"):  # fmt: skip
            if given[name] is not None:
                raise InputError(f"--plan-in and --{name.replace('_', '-')} both decide",
                                 allowed="a plan alone")  # fmt: skip
    calibration = flags.config_of(Calibration, arguments)
    config = flags.config_of(
        PruneConfig,
        argparse.Namespace(**{**given, "calibration": calibration, "cuts": _budgets(arguments)}),
    )
    task = PruneTask(
        model=arguments.model, config=config, plan=arguments.plan_in, out=out,
        overwrite=arguments.overwrite, work_dir=arguments.work_dir, command=arguments.command_line,
    )  # fmt: skip
    with joined() as group:
        # Of several processes the first one speaks.
        said = output if group.rank == 0 else Output(as_json=False, quiet=True)
        with said.progress() as progress:
            done = prune(task, say=said.line, progress=progress)
    if group.rank > 0:
        return 0
    if arguments.plan_out is not None:
        done.plan.save(arguments.plan_out)
    _show(output, done, out)
    return 0


def _budgets(arguments: argparse.Namespace) -> tuple[Budget, ...]:
    from ssmith.core.budget import Budget

    found = []
    for text in arguments.cut:
        unit, _, amount = text.partition("=")
        if not amount:
            raise InputError(f"--cut {text}", allowed="UNIT=AMOUNT", next_step="state=0.5")
        per_cut: dict[str, Any] = {
            name: getattr(arguments, name)
            for name, _ in _PER_CUT
            if getattr(arguments, name) is not None
        }
        for name in ("seed", "min_per_layer"):
            if hasattr(arguments, name):
                per_cut[name] = getattr(arguments, name)
        if hasattr(arguments, "settings"):
            per_cut["settings"] = dict(arguments.settings)
        if arguments.targets:
            per_cut["targets"] = tuple(arguments.targets)
        if len(arguments.cut) > 1 and set(per_cut) - {"seed"}:
            raise InputError(
                f"--{sorted(set(per_cut) - {'seed'})[0]} with several cuts",
                allowed="with one --cut",
                next_step="cut one unit after the other, or write a recipe",
            )
        found.append(Budget(unit, flags.amount(amount), **per_cut))
    return tuple(found)


def _show(output: Output, done: Pruned, out: Path | None) -> None:
    plan, receipt = done.plan, done.receipt
    output.result({"receipt": receipt.as_dict(), "model": None if out is None else str(out)})
    output.line(str(plan).splitlines()[0])
    output.table(
        ("unit", "layer", "units", "kept", "removed"),
        [
            (cut.unit, name, mask.numel(), int(mask.sum()), mask.numel() - int(mask.sum()))
            for cut in plan.cuts
            for name, mask in cut.keep.items()
        ],
    )
    for unit, facts in plan.facts.get("stability", {}).items():
        output.line(
            f"stability of {unit} over two halves of the text, least stable layer: rank "
            f"correlation {facts['rank_correlation']:.3f}, overlap {facts['overlap']:.3f} "
            f"(warned below {facts['threshold']:g})"
        )
    for finding in plan.findings:
        output.line(f"note: {finding.message}")
    output.line(f"model: {out}" if out is not None else "dry run: nothing was written")
