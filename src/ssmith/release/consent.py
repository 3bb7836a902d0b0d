"""Agree with a key, and change the rules: where a policy asks for signatures, so does its end."""

from __future__ import annotations

from ssmith.core.errors import InputError
from ssmith.release.approvals import approvals
from ssmith.release.keys import Key
from ssmith.release.line import Line, policy_at
from ssmith.release.log import Entry
from ssmith.release.policy import Policy
from ssmith.release.version import Version
from ssmith.release.writing import ABOUT, about


def sign(line: Line, target: Version | Policy, key: Key, *, reason: str = "") -> Entry:
    """Agree that a version goes live, or that a policy comes into force.

    Args:
        line: the line.
        target: the version or the policy; what is signed lapses when another one goes live, or the
            policy changes.
        key: that signs.
        reason: in words.

    Returns:
        The entry.

    Raises:
        InputError: if the key does not count, or has signed already.
        BusyError: if another writer is not done in time.
        ArtefactError: if the disk refuses, or the clock runs backwards.
    """
    with line.change("sign") as writing:
        keys = policy_at(writing.before).promote.signers.keys
        if keys and key.id not in keys:
            raise InputError(
                f"the key {key.id} is none of those that the policy names",
                allowed=", ".join(keys),
                next_step="sign with one of these, or let the policy name yours",
            )
        about_policy = isinstance(target, Policy)
        if key.id in approvals(writing.before, target.digest, keys):
            raise InputError(
                f"the key {key.id} has signed this already",
                next_step="promote it, or let another key sign as well",
            )
        return writing.record(
            "sign",
            version=None if about_policy else target.digest,
            reason=reason,
            details={"policy": target.digest} if about_policy else {},
            key=key,
        )


def change_policy(line: Line, policy: Policy, *, reason: str = "", key: Key | None = None) -> Entry:
    """Change what must hold; where the policy asks for signatures, so does this.

    Args:
        line: the line.
        policy: the new one.
        reason: in words.
        key: that signs.

    Returns:
        The entry.

    Raises:
        InputError: if it is the policy there is, or too few keys agree.
        BusyError: if another writer is not done in time.
        ArtefactError: if the disk refuses, or the clock runs backwards.
    """
    with line.change("policy") as writing:
        old = policy_at(writing.before)
        if old.digest == policy.digest:
            raise InputError("this is the policy there is", next_step="change the file first")
        signers = old.promote.signers
        found = set(approvals(writing.before, policy.digest, signers.keys))
        if key is not None and (not signers.keys or key.id in signers.keys):
            found.add(key.id)
        if len(found) < signers.at_least:
            raise InputError(
                f"a change of policy needs signatures of {signers.at_least} keys, and has "
                f"{len(found)}",
                next_step=f"ssmith release sign {line.path} --policy FILE --key FILE",
            )
        plain = policy.as_plain()
        writing.staged.replace(ABOUT, about(line.name, policy))
        return writing.record(
            "policy", reason=reason, details={"policy": plain, "before": old.digest}, key=key
        )
