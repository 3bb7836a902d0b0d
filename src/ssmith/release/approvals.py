"""Who agreed: signatures that a version, or a policy, gathered since the last change of either."""

from __future__ import annotations

from collections.abc import Sequence

from ssmith.release.case import SIGNERS, Case, Rule
from ssmith.release.keys import agreed
from ssmith.release.log import LIVE, Entry


def signers(case: Case) -> Rule | None:
    """As many of the policy's keys agree as it asks for."""
    asked = case.policy.signers
    if not asked.at_least:
        return None
    found = approvals(case.entries, case.version.digest, asked.keys)
    if case.signed is not None and (not asked.keys or case.signed in asked.keys):
        found |= {case.signed}
    whole = f" of {len(asked.keys)}" if asked.keys else ""
    passed = len(found) >= asked.at_least
    return Rule(
        name=SIGNERS,
        asked=f"signed by {asked.at_least}{whole} keys",
        found=f"signed by {len(found)}",
        passed=passed,
        settle="" if passed else f"ssmith release sign {case.shown} --key FILE",
    )


def approvals(entries: Sequence[Entry], target: str, keys: Sequence[str]) -> frozenset[str]:
    """Return ids of the keys that signed for a version or a policy since either changed last.

    Of ``keys`` alone, where they are given; ``target`` is the digest of either.
    """
    since = max(
        (item.index for item in entries if item.action in (*LIVE, "policy", "init")), default=0
    )
    return agreed(
        (
            item
            for item in entries[since:]
            if item.action == "sign" and target in (item.version, item.details.get("policy"))
        ),
        keys,
    )
