"""``ssmith audit``: what does the new model do differently?"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ssmith.cli import flags
from ssmith.cli.output import Output
from ssmith.cli.recipe import check_out, config_of, write_out

if TYPE_CHECKING:
    from ssmith.core.details import AuditDetails, GroupChanged, TextAuditDetails
    from ssmith.core.sections import Measured

_SHOWN = 10


def add(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    command = flags.Command(
        subparsers,
        "audit",
        about="say what changed from one model to another: by class, by group, by example",
        example="ssmith audit embedded:digits-s5 pilot/model --data embedded:digits",
        run=run,
    )
    command.model("OLD")
    command.model("NEW")
    command.add("--data", flags.DATA_HELP, required=True)
    command.add("--line", "write the audit into this line, where NEW is a version", metavar="LINE")
    command.out("directory for receipt.json, report.html and recipe.yaml", required=False)
    command.settings(
        "ssmith.evaluation.behaviour:BehaviourConfig",
        under="behaviour",
        called={"slices": "slice"},
    )
    command.settings("ssmith.jobs.source:RowsConfig", under="rows")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Audit, print what changed, and write the receipt if a place is given."""
    from ssmith.core.details import TextAuditDetails
    from ssmith.core.receipt import RECEIPT
    from ssmith.trials.audit import AuditConfig, audit

    check_out(arguments, arguments.old, arguments.new, arguments.data, page=True)
    config = config_of(AuditConfig, arguments)
    with output.progress() as progress:
        found = audit(
            arguments.old,
            arguments.new,
            arguments.data,
            config,
            line=arguments.line,
            keep=lambda receipt: write_out(arguments, config, receipt, page=True),
            command=arguments.command_line,
            progress=progress,
        )
    output.result(found.receipt.as_dict())
    output.line(found.headline)
    details = found.behaviour.section()
    if isinstance(details, TextAuditDetails):
        _show_text(output, details)
    else:
        _show(output, details)
    _examples(output, details.examples)
    output.findings(found.receipt.findings)
    if arguments.out is not None:
        output.line(f"receipt: {arguments.out / RECEIPT}")
        output.line(f"report: {arguments.out / 'report.html'}")
    if arguments.line is not None:
        output.line(f"written into {arguments.line}")
    return 0


def _show(output: Output, found: AuditDetails) -> None:
    """Print what changed among sequences."""
    whole = found.whole
    classes = whole.broken is not None
    columns = ("group", "", "rows", "changed [interval]", f"loss of {found.metric} [interval]")
    more = ("became wrong", "became right") if classes else ()
    rows = [("", whole)]
    for column, groups in found.groups.items():
        rows += [(column, item) for item in groups[:_SHOWN]]
    output.table(
        (*columns, *more), [(column, *_row(item, classes=classes)) for column, item in rows]
    )
    if found.groups:
        output.line(f"intervals of all groups hold together at {whole.loss.level:.0%}")
    for column, groups in found.groups.items():
        if len(groups) > _SHOWN:
            output.line(f"{column}: the {_SHOWN} worst of {len(groups)} groups are shown")
    if found.moves:
        moves = [f"{item.from_} → {item.to} ({item.rows})" for item in found.moves]
        output.line(f"what became what: {', '.join(moves[:_SHOWN])}")
    if found.sizes:
        sizes = ", ".join(f"{name}: {value:.4g}" for name, value in found.sizes.items())
        output.line(
            f"answers changed by, at quantiles: {sizes}; more than {found.moved:.4g} counts as "
            "another answer"
        )


def _row(item: GroupChanged, *, classes: bool) -> tuple[object, ...]:
    loss = _share(item.loss) if classes else _number(item.loss)
    counts = (item.broken, item.mended) if classes else ()
    return (item.name, item.rows, _share(item.changed), loss, *counts)


def _show_text(output: Output, found: TextAuditDetails) -> None:
    """Print what changed in a language model."""
    answers = found.answers
    written = f"answers of {answers.answer_tokens} tokens to {answers.prompts} prompts"
    output.table(
        ("", "value [interval]"),
        [
            ("greedy tokens that agree", _share(found.agreement)),
            ("KL(old ‖ new) per token, nats", _number(found.divergence)),
            (f"{written} that differ", _share(answers.changed)),
        ],
    )


def _examples(output: Output, examples: Sequence[dict[str, Any]]) -> None:
    for item in examples[:_SHOWN]:
        told = [f"{key} {value}" for key, value in item.items() if key not in ("x", "tokens")]
        output.line(f"example: {', '.join(told)}")
    if len(examples) > _SHOWN:
        output.line(f"{len(examples) - _SHOWN} more examples are in the receipt")


def _share(found: Measured) -> str:
    return _number(found, ".2%")


def _number(found: Measured, form: str = ".4g") -> str:
    low, high = found.low, found.high
    if low is None or high is None:
        return f"{found.value:{form}} [{found.interval}]"
    return f"{found.value:{form}} [{low:{form}}, {high:{form}}]"
