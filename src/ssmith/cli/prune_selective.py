"""``ssmith prune`` for selective models: entries of A_log, state columns, projections."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssmith.cli import flags
from ssmith.cli.output import Output
from ssmith.core.errors import InputError

if TYPE_CHECKING:
    from ssmith.core.receipt import Receipt
    from ssmith.jobs.selective import SelectiveConfig
    from ssmith.jobs.selective.save import PruneTask

CUTS = ("a_log", "columns", "projections", "whole", "blocks")
"""Flags that make a pruning a selective one."""
PROJECTION_FLAGS = ("projection_method", "allocation", "width", "refresh", "activations")
"""Flags that say how projections are cut."""
_ONLY_HERE = (
    *CUTS, *PROJECTION_FLAGS, "pattern", "per_layer", "compensate", "recover", "spread", "data",
    "samples", "length", "field", "semantics", "kept_gb", "work_dir", "from_disk", "sweep",
)  # fmt: skip
_ONLY_THERE = ("ratio", "min_per_layer", "refit_on", "plan_in")


def add(parser: flags.Parser) -> None:
    """Add the flags."""
    group = parser.add_argument_group(
        "selective models", "Mamba and Falcon-Mamba: one shot, from some windows of text"
    )
    _add_amounts(group)
    _add_remedies(group)
    group.add_argument(
        "--data", default=argparse.SUPPRESS, metavar="TEXT",
        help="calibration text: stdlib:, a .txt, .jsonl, .csv, .npy or .bin file, or a directory",
    )  # fmt: skip
    flags.add_field(group)
    for name, default, what in (
        ("samples", 64, "windows of text"), ("length", 2048, "tokens of each window"),
        ("seed", 0, "seed of their places, and of what is random"),
        ("batch-size", 4, "windows per forward pass"),
    ):  # fmt: skip
        group.add_argument(
            f"--{name}", type=flags.whole, default=argparse.SUPPRESS, metavar="N",
            help=f"{what} (default: {default})",
        )  # fmt: skip
    group.add_argument(
        "--kept-gb", type=flags.number, default=argparse.SUPPRESS, metavar="GB",
        help="memory for what is held of a block between two looks at it, rather than computed "
        "again (default: 1)",
    )  # fmt: skip
    group.add_argument(
        "--semantics", default=argparse.SUPPRESS, metavar="NAME",
        help="what a cut entry of A_log does: memoryless, unit-decay or fast-decay "
        "(default: memoryless)",
    )  # fmt: skip
    group.add_argument(
        "--work-dir", type=Path, default=argparse.SUPPRESS, metavar="DIR",
        help="keep activations and finished blocks here; the same command goes on from it",
    )  # fmt: skip
    group.add_argument(
        "--sweep", default=argparse.SUPPRESS, metavar="NAME=V,V,…",
        help="in place of a model, a plot and a table of perplexity on the selection split over "
        "samples, a-log, columns, projections or width",
    )  # fmt: skip
    group.add_argument(
        "--from-disk", action="store_true", default=argparse.SUPPRESS,
        help="read blocks one by one, for a model larger than memory (needs --work-dir; chosen by "
        "itself where the model does not fit)",
    )  # fmt: skip


def _add_amounts(group: flags.Group) -> None:
    group.add_argument(
        "--a-log", type=amount, default=argparse.SUPPRESS, metavar="R",
        help="fraction of the entries of A_log to remove, or N:M to keep N of M",
    )  # fmt: skip
    group.add_argument(
        "--columns", type=flags.number, default=argparse.SUPPRESS, metavar="R",
        help="fraction of whole state columns to remove",
    )  # fmt: skip
    group.add_argument(
        "--per-layer", action="store_true", default=argparse.SUPPRESS,
        help="remove columns from the layers where it costs least; only ssmith loads the result",
    )  # fmt: skip
    group.add_argument(
        "--pattern", default=argparse.SUPPRESS, metavar="N:M",
        help="keep N of M in place of a fraction, of everything that takes a pattern",
    )  # fmt: skip
    group.add_argument(
        "--projections", type=amount, default=argparse.SUPPRESS, metavar="R",
        help="fraction of the weights of in_proj, conv1d, x_proj, dt_proj and out_proj to remove, "
        "or N:M along their inputs",
    )  # fmt: skip
    group.add_argument(
        "--blocks", type=flags.whole, default=argparse.SUPPRESS, metavar="N",
        help="remove N whole blocks, each time the one the text misses least; goes alone",
    )  # fmt: skip
    group.add_argument(
        "--whole", type=amount, default=argparse.SUPPRESS, metavar="R",
        help="the same share of A_log and of every projection: all weights of the blocks but "
        "biases, D and norms",
    )  # fmt: skip


def _add_remedies(group: flags.Group) -> None:
    for name, what in (
        ("compensate", "what makes up for removed columns at no cost: none, C or CB, new rows of "
         "x_proj (default: C where the criterion counts on it)"),
        ("spread", "how layers share the cut of A_log: layer (equally) or model (where it costs "
         "least) (default: model for criteria that measure the output)"),
        ("recover", "refit what a cut of states took: none, or any of the letters D (skip "
         "weights), h and y (offsets beside the weights) (default: D, with a named --method none)"),
        ("projection-method", "obs, sparsegpt, wanda, magnitude or random (default: obs)"),
        ("allocation", "how projections share their budget: spare-conv, uniform, local, "
         "sensitivity, sensitivity-trace or measured (default: spare-conv)"),
        ("refresh", "look at inputs anew after each projection, or once per block "
         "(default: projection)"),
        ("activations", "fresh, or released: with the fault of SparseSSM's code, for comparison "
         "(default: fresh)"),
    ):  # fmt: skip
        group.add_argument(f"--{name}", default=argparse.SUPPRESS, metavar="NAME", help=what)
    group.add_argument(
        "--width", type=flags.number, default=argparse.SUPPRESS, metavar="A",
        help="α of the allocation by sensitivity (default: 0.04)",
    )  # fmt: skip


def amount(text: str) -> Any:
    """Read a fraction, or a pattern as text."""
    return text if ":" in text else flags.number(text)


def is_selective(arguments: argparse.Namespace) -> bool:
    """Return whether flags for selective models were given."""
    return any(hasattr(arguments, name) for name in _ONLY_HERE)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Prune a selective model, or only say what would be cut."""
    from ssmith.core.files import refuse_existing
    from ssmith.jobs.outputs import refuse_own_input
    from ssmith.jobs.selective.processes import joined
    from ssmith.jobs.selective.save import Calibration, PruneTask, prune_and_save

    _refuse_foreign(arguments)
    config = None if hasattr(arguments, "blocks") else config_of(arguments)
    if not hasattr(arguments, "data"):
        raise InputError("--data is missing", allowed="--data TEXT", next_step="try --data stdlib:")
    out = None if arguments.dry_run else arguments.out
    for path in (out, getattr(arguments, "work_dir", None)):
        if path is not None:
            refuse_own_input(path, arguments.model, arguments.data)
    if out is not None:
        refuse_existing(out, overwrite=arguments.overwrite)
    given = {
        **vars(arguments),
        "out": out,
        "config": config,
        "calibration": flags.config_of(Calibration, arguments),
        "command": arguments.command_line,
    }
    if config is None:
        return _run_blocks(argparse.Namespace(**given), output)
    task = flags.config_of(PruneTask, argparse.Namespace(**given))
    if hasattr(arguments, "sweep"):
        return _sweep(arguments, output, task)
    with joined() as group:
        # Of several processes the first one speaks.
        said = output if group.rank == 0 else Output(as_json=False, quiet=True)
        with said.progress() as progress:
            done = prune_and_save(task, say=said.line, progress=progress)
    if group.rank > 0:
        return 0
    if arguments.plan_out is not None:
        for unit, plan in done.plans.items():
            plan.save(arguments.plan_out.with_suffix(f".{unit}.json"))
    _show(arguments, output, done.receipt, out)
    return 0


def _run_blocks(arguments: argparse.Namespace, output: Output) -> int:
    """Remove whole blocks, or only say which."""
    from ssmith.jobs.selective.shed import ShedTask, shed_and_save

    with_it = {"blocks", "data", "samples", "length", "field", "work_dir"}
    others = [name for name in _ONLY_HERE if hasattr(arguments, name) and name not in with_it]
    if others:
        raise InputError(
            f"--blocks with --{others[0].replace('_', '-')}", allowed="--blocks alone",
            next_step="remove blocks first, then prune the model that is left",
        )  # fmt: skip
    with output.progress() as progress:
        receipt = shed_and_save(flags.config_of(ShedTask, arguments), progress=progress)
    _show(arguments, output, receipt, arguments.out)
    steps = receipt.details["steps"]
    output.table(
        ("block removed", "perplexity of the calibration text"),
        [(item.get("removed", "none"), item["perplexity"]) for item in steps],
    )
    return 0


def _sweep(arguments: argparse.Namespace, output: Output, task: PruneTask) -> int:
    """Prune copies over the values of one setting, and show what each costs."""
    from ssmith.jobs.selective.sweep import Axis, sweep

    axis = Axis.parse(arguments.sweep)
    with output.progress() as progress:
        found = sweep(task, axis, progress=progress)
    output.result({"sweep": found, "directory": None if task.out is None else str(task.out)})
    output.line(f"perplexity of the dense model: {found['dense']['perplexity']:.4f}")
    output.table(
        (axis.name, "perplexity", "increase", "low", "high"),
        [
            tuple(row[name] for name in ("value", "perplexity", "increase", "low", "high"))
            for row in found["rows"]
        ],
    )
    output.line(
        "dry run: nothing was written" if task.out is None else f"plot and data: {task.out}"
    )
    return 0


def config_of(arguments: argparse.Namespace) -> SelectiveConfig:
    """Return what the flags ask for.

    Args:
        arguments: of the command line.

    Returns:
        The configuration.

    Raises:
        InputError: if the flags do not fit together.
    """
    from ssmith.jobs.selective import SelectiveConfig

    given = _amounts({**vars(arguments)})
    if "projections" in given:
        given["projections"] = _projections(given)
    else:
        _refuse_without("projections", PROJECTION_FLAGS, given)
    if "per_layer" in given:
        given["split"] = "marginal"
    if "settings" in given:
        given["settings"] = dict(given["settings"])
    return flags.config_of(SelectiveConfig, argparse.Namespace(**given))


def _amounts(given: dict[str, Any]) -> dict[str, Any]:
    """Return flags with patterns read, and --whole and --pattern spelled out."""
    from ssmith.core.pattern import Pattern

    for name in ("a_log", "projections", "whole"):
        if isinstance(given.get(name), str):
            given[name] = Pattern.parse(given[name])
    if "whole" in given:
        for name in ("a_log", "projections"):
            if given.setdefault(name, given["whole"]) != given["whole"]:
                raise InputError(
                    f"--whole {given['whole']} and --{name.replace('_', '-')} {given[name]} both "
                    "decide",
                    allowed="one of them",
                )
    if "pattern" in given:
        pattern = Pattern.parse(given["pattern"])
        named = [name for name in ("a_log", "projections") if name in given] or ["a_log"]
        for name in named:
            if given.get(name, pattern) not in (pattern, pattern.removed):
                raise InputError(
                    f"--pattern {pattern} and --{name.replace('_', '-')} {given[name]} both decide",
                    allowed=f"one of them, or the fraction {pattern} removes",
                )
            given[name] = pattern
    return given


def _projections(given: dict[str, Any]) -> Any:
    from ssmith.jobs.selective.projection_config import ProjectionConfig

    renamed = {"amount": given["projections"], "method": given.get("projection_method", "obs")}
    # Of the flags with the same names elsewhere, only these are meant for projections.
    wanted = {name: given[name] for name in (*PROJECTION_FLAGS, "seed") if name in given}
    return flags.config_of(ProjectionConfig, argparse.Namespace(**(wanted | renamed)))


def _refuse_without(what: str, names: tuple[str, ...], given: dict[str, Any]) -> None:
    for name in names:
        if name in given:
            raise InputError(
                f"--{name.replace('_', '-')} without --{what}", allowed=f"both, e.g. --{what} 0.5"
            )


def _refuse_foreign(arguments: argparse.Namespace) -> None:
    """Refuse flags that mean something for other models only."""
    named = [name for name in _ONLY_THERE if getattr(arguments, name, None) is not None]
    if named:
        raise InputError(
            f"--{named[0].replace('_', '-')} is for S5 and S4D models, "
            f"--{next(n for n in _ONLY_HERE if hasattr(arguments, n)).replace('_', '-')} for "
            "selective ones",
            allowed="one kind of flags",
        )
    if not arguments.dry_run and arguments.out is None:
        raise flags.no_out()


def _show(
    arguments: argparse.Namespace, output: Output, receipt: Receipt, out: Path | None
) -> None:
    output.result({"receipt": receipt.as_dict(), "model": None if out is None else str(out)})
    method = receipt.method
    output.line(f"method: {method['criterion']}; cut means {said(method['semantics'])}")
    output.table(
        ("removed", "before", "after", "fraction"),
        [
            (unit, facts["before"], facts["after"], facts["fraction"])
            for unit, facts in receipt.removed.items()
        ],
    )
    for unit, facts in receipt.details["stability"].items():
        output.line(
            f"stability of {unit} over two halves of the text, least stable layer: rank "
            f"correlation {facts['rank_correlation']:.3f}, overlap {facts['overlap']:.3f} "
            f"(warned below {facts['threshold']:g})"
        )
    if not receipt.details["stability"]:
        output.line("stability: not measured (one window, no data, or a method in lockstep)")
    for finding in receipt.findings:
        output.line(f"note: {finding['message']}")
    output.line(f"model: {out}" if out is not None else "dry run: nothing was written")


def said(semantics: dict[str, str]) -> str:
    """Return semantics per unit in words."""
    return ", ".join(f"{meaning} ({unit})" for unit, meaning in semantics.items())
