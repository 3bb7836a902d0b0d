"""``ssmith verify``: is a saved model what its manifest says?"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from ssmith.cli import flags
from ssmith.cli.output import Output


def add(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    command = flags.Command(
        subparsers,
        "verify",
        about="check a saved model against its manifest; exit 1 if a check fails",
        example="ssmith verify pilot/model",
        run=run,
    )
    command.model()


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print one row per check."""
    from ssmith import api

    checks = api.verify(arguments.model)
    passed = all(check.passed for check in checks)
    output.result({"passed": passed, "checks": [asdict(check) for check in checks]})
    output.table(
        ("check", "passed", "evidence"),
        [(check.name, check.passed, check.detail) for check in checks],
    )
    failed = sum(not check.passed for check in checks)
    output.line(f"{failed} of {len(checks)} checks failed" if failed else "every check passed")
    return 0 if passed else 1
