"""Let a version go live, and go back: each one entry and one exchange."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from ssmith.core.errors import ArtefactError, InputError
from ssmith.release.case import NEVER_WAIVED, Case, Rule
from ssmith.release.disk import hex_of
from ssmith.release.keys import Key
from ssmith.release.line import Line, policy_at
from ssmith.release.lineage import lineage_of
from ssmith.release.log import Entry
from ssmith.release.rules import check, whole
from ssmith.release.version import VERSIONS, Version, live_in, short, trail_of
from ssmith.release.writing import LIVE_LINK, Writing


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a promotion: every rule, and the entry; None if it was live already."""

    promoted: bool
    rules: tuple[Rule, ...] = ()
    entry: Entry | None = None

    @property
    def never_waived(self) -> tuple[str, ...]:
        """Names of the rules that do not hold, and that no override stands for."""
        return tuple(
            rule.name for rule in self.rules if not rule.passed and rule.name in NEVER_WAIVED
        )


def promote(
    line: Line,
    version: Version,
    *,
    reason: str = "",
    override: bool = False,
    key: Key | None = None,
) -> Outcome:
    """Let a version go live if the policy's rules hold; write down a refusal, too.

    Args:
        line: the line.
        version: that is to go live.
        reason: in words.
        override: go on where rules do not hold, if the policy allows that.
        key: that signs.

    Returns:
        What became of it.

    Raises:
        InputError: if an override is not allowed, or gives no reason.
        BusyError: if another writer is not done in time.
        ArtefactError: if the disk refuses, or the clock runs backwards.
    """
    if override and not reason.strip():
        raise InputError("an override without a reason", next_step="say why with --reason TEXT")
    with line.change(f"promote {short(version.digest)}") as writing:
        case = _case(line, writing.before, version, key)
        if case.live is not None and case.live.digest == version.digest:
            return Outcome(promoted=True)
        if override and not case.policy.override:
            raise InputError(
                "the policy of this line allows no override",
                next_step="settle the rules; `ssmith release promote` without it names them",
            )
        rules = check(case)
        failed = {rule.name for rule in rules if not rule.passed}
        facts = {"rules": [asdict(rule) for rule in rules],
                 "before": None if case.live is None else case.live.digest}  # fmt: skip
        waived = override and failed and not failed & set(NEVER_WAIVED)
        if failed and not waived:
            entry = writing.record(
                "refuse", version=version.digest, reason=reason, details=facts, key=key
            )
            return Outcome(promoted=False, rules=rules, entry=entry)
        _point(writing, version)
        entry = writing.record(
            "override" if waived else "promote",
            version=version.digest,
            receipts=_rests_on(version),
            reason=reason,
            details=facts,
            key=key,
        )
    return Outcome(promoted=True, rules=rules, entry=entry)


def rules_for(line: Line, version: Version, *, key: Key | None = None) -> tuple[Rule, ...]:
    """Hold the policy's rules against a version that ``key`` would sign; nothing is written."""
    return check(_case(line, line.entries(), version, key))


def rollback(
    line: Line, version: Version | None = None, *, reason: str = "", key: Key | None = None
) -> Entry:
    """Go back to a version that was live, to the same bytes.

    Args:
        line: the line.
        version: which one; the one before the live one if None.
        reason: in words.
        key: that signs.

    Returns:
        The entry.

    Raises:
        InputError: if there is nothing to go back to, or the version was never live, or is.
        ArtefactError: if the version's files were changed, the disk refuses, or the clock runs
            backwards.
        BusyError: if another writer is not done in time.
    """
    with line.change("rollback") as writing:
        entries = writing.before
        trail = trail_of(entries)
        target = line.version(_target(trail, entries, version))
        found = whole(_case(line, writing.before, target, key))
        if not found.passed:
            raise ArtefactError(
                f"{found.found}, so it cannot go live",
                next_step=f"restore it from a copy, or name another version; {found.settle}",
            )
        _point(writing, target)
        return writing.record(
            "rollback", version=target.digest, reason=reason, details={"before": trail[-1]}, key=key
        )


def _case(line: Line, entries: Sequence[Entry], version: Version, key: Key | None) -> Case:
    live = live_in(entries)
    # Anew: what was written down since the caller asked for it counts.
    version = line.version(version.digest)
    made_from = lineage_of(version, line.versions()).versions[1:]
    return Case(
        root=line.path,
        version=version,
        live=None if live is None else line.version(live),
        made_from=made_from[0] if made_from else None,
        entries=entries,
        policy=policy_at(entries).promote,
        now=line.clock(),
        signed=None if key is None else key.id,
    )


def _target(trail: Sequence[str], entries: Sequence[Entry], version: Version | None) -> str:
    if not trail:
        raise InputError("no version is live yet", next_step="promote one first")
    if version is None:
        if len(trail) < 2:
            raise InputError(
                f"there is nothing to go back to: no version was live before {short(trail[-1])}",
                next_step="name a version, or promote another one",
            )
        return trail[-2]
    if version.digest == trail[-1]:
        raise InputError(f"{short(version.digest)} is live", next_step="name another version")
    if not any(item.version == version.digest and item.action in ("promote", "override")
               for item in entries):  # fmt: skip
        raise InputError(
            f"{short(version.digest)} was never live",
            allowed=", ".join(map(short, trail[:-1])) or "there is none",
            next_step="promote it, so that the policy is asked",
        )
    return version.digest


def _point(writing: Writing, version: Version) -> None:
    writing.staged.point(LIVE_LINK, f"{VERSIONS}/{hex_of(version.digest)}")


def _rests_on(version: Version) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one for item in version.evidence for one in item.receipts))
