"""``ssmith release policy``, ``key``, ``sign``: who may say what goes live."""

from __future__ import annotations

import argparse
from pathlib import Path

from ssmith.cli import flags
from ssmith.cli.output import Output
from ssmith.cli.release.shared import (
    VERSION_HELP,
    command,
    entry_as_dict,
    key_of,
    open_line,
    writes,
)


def add(subparsers: flags.Subparsers) -> None:
    """Add the commands."""
    made = command(
        subparsers,
        "policy",
        about="show the policy, or change it; where it asks for signatures, so does a change",
        example="ssmith release policy line --set policy.toml --reason 'the board of June'",
        run=policy,
    )
    made.add("--set", "the new policy, as TOML", kind=Path)
    writes(made)
    made = command(
        subparsers,
        "sign",
        about="agree with a key that a version goes live, or that a policy comes into force",
        example="ssmith release sign line 3f2a --key alice.key",
        run=sign,
    )
    made.positional("VERSION", f"{VERSION_HELP}; not with --policy", required=False)
    made.add("--policy", "agree to this policy instead", kind=Path)
    writes(made)
    key = flags.Command(
        subparsers,
        "key",
        about="make a key that signs: a private file, and beside it FILE.pub with its public id",
        example="ssmith release key --out alice.key",
        run=make,
    )
    key.add("--out", "file of the private key", kind=Path, required=True, in_recipe=False)


def policy(arguments: argparse.Namespace, output: Output) -> int:
    """Show or change the policy."""
    from ssmith.core.errors import InputError
    from ssmith.release.consent import change_policy
    from ssmith.release.policy import read_policy

    line = open_line(arguments)
    if arguments.set is None:
        if arguments.reason or arguments.key:
            raise InputError("--reason or --key without --set", next_step="give the new policy")
        output.result({"policy": line.policy.as_plain(), "digest": line.policy.digest})
        output.exactly(line.policy.as_toml().rstrip())
        return 0
    entry = change_policy(
        line, read_policy(arguments.set), reason=arguments.reason, key=key_of(arguments)
    )
    output.result({"policy": line.policy.as_plain(), "entry": entry_as_dict(entry)})
    output.line(f"the policy is changed, entry {entry.index}")
    return 0


def sign(arguments: argparse.Namespace, output: Output) -> int:
    """Agree to a version or a policy."""
    from ssmith.core.errors import InputError
    from ssmith.release.approvals import approvals
    from ssmith.release.consent import sign as agree
    from ssmith.release.policy import read_policy

    if (arguments.version is None) == (arguments.policy is None):
        raise InputError("what is signed?", allowed="a version, or --policy FILE")
    key = key_of(arguments)
    if key is None:
        raise InputError("--key is missing", next_step="make one: `ssmith release key --out FILE`")
    line = open_line(arguments)
    target = (
        line.version(arguments.version)
        if arguments.policy is None
        else read_policy(arguments.policy)
    )
    entry = agree(line, target, key, reason=arguments.reason)
    signers = line.policy.promote.signers
    found = len(approvals(line.entries(), target.digest, signers.keys))
    output.result({"entry": entry_as_dict(entry), "signed": found, "needed": signers.at_least})
    output.line(f"signed as entry {entry.index}; signatures: {found}, asked: {signers.at_least}")
    return 0


def make(arguments: argparse.Namespace, output: Output) -> int:
    """Make a key."""
    from ssmith.release.keys import make_key

    called = make_key(arguments.out)
    output.result({"key": called, "private": str(arguments.out), "public": f"{arguments.out}.pub"})
    output.line(f"key: {called}")
    output.line(f"private: {arguments.out}, for its owner only; public: {arguments.out}.pub")
    return 0
