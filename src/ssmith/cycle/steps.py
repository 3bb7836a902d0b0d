"""The steps of a cycle: each finds something, says whether the cycle goes on, and if not, why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ssmith.core.details import CanaryDetails
from ssmith.core.progress import Progress
from ssmith.cycle.config import CycleConfig
from ssmith.cycle.renewing import add_version, recalibrate, retune
from ssmith.release.line import Line
from ssmith.release.log import Entry
from ssmith.release.promotion import rules_for
from ssmith.release.verify import verify as check
from ssmith.release.version import Version, short
from ssmith.trials.audit import audit as audit_behaviour
from ssmith.trials.canary.job import run_canary
from ssmith.watch.service import TakeConfig, Watch, take_profile

END = "propose"


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a step found, and whether all is well and the cycle ends here.

    ``next_step`` is the command that a person may run now, if there is one; ``version`` what it
    made or is about; facts are for the steps behind it.
    """

    name: str
    passed: bool
    text: str
    stops: bool = False
    next_step: str = ""
    version: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        return asdict(self) | {"facts": dict(self.facts)}


@dataclass(kw_only=True)
class Round:
    """A cycle that is under way since an entry, and what its steps found so far, by name."""

    line: Line
    config: CycleConfig
    begun: Entry
    out: Path
    command: tuple[str, ...]
    progress: Progress
    done: dict[str, Done] = field(default_factory=dict)

    @property
    def live(self) -> Version | None:
        """The version that was live when the cycle began."""
        return None if self.begun.version is None else self.line.version(self.begun.version)

    @property
    def new(self) -> Version:
        """The version that this cycle made."""
        return self.line.version(str(self.done["renew"].version))

    def known(self, name: str, key: str) -> Done | None:
        """Return what an earlier run of this cycle found in a step; None if it never got there."""
        for entry in self.line.entries()[self.begun.index + 1 :]:
            told = entry.details.get(key)
            if isinstance(told, Mapping) and told.get("step") == name:
                names = [item for item in told if item not in ("begun", "step")]
                return Done(**{item: told[item] for item in names})
        return None

    def written(self, *actions: str) -> Entry | None:
        """Return what a killed run has written down of a step, so that it is not spent twice."""
        own = self.line.entries()[self.begun.index + 1 :]
        return next((entry for entry in own if entry.action in actions), None)


def verify(here: Round) -> Done:
    """Check the log and every file; nothing is built on a damaged line."""
    found = check(here.line)
    if found.passed:
        return Done(name="verify", passed=True, text=f"nothing is wrong in {found.files} files")
    fault = found.faults[0]
    return Done(
        name="verify", passed=False, stops=True, text=f"{fault.where}: {fault.text}",
        next_step=f"ssmith release verify {here.line.path}",
    )  # fmt: skip


def watch(here: Round) -> Done:
    """Look at the live version on new rows."""
    place, data = here.line.path, here.config.data
    if here.live is None:
        return Done(name="watch", passed=False, stops=True, text="no version is live",
                    next_step=f"ssmith release promote {place} VERSION")  # fmt: skip
    if here.live.profile is None:
        return Done(name="watch", passed=False, stops=True, text="the live version has no profile",
                    next_step=f"ssmith watch {place} --take --data DATA")  # fmt: skip
    if entry := here.written("watch", "alarm"):
        return _watched(entry.action == "alarm", entry.reason)
    found = Watch(line=here.line, version=here.live, config=here.config.watch)
    look = found.look(data, labels=here.config.labels).look
    return _watched(look.alarm, look.headline)


def _watched(alarm: bool, headline: str) -> Done:
    return Done(name="watch", passed=not alarm, text=headline, facts={"alarm": alarm})


def decide(here: Round) -> Done:
    """Say whether a new version is made: what the config says, and never more."""
    when, alarm = here.config.renew.when, here.done["watch"].facts["alarm"]
    if when == "always" or (when == "alarm" and alarm):
        return Done(name="decide", passed=True, text="a new version is made")
    if not alarm:
        return Done(name="decide", passed=True, stops=True, text="there is nothing to do")
    return Done(
        name="decide", passed=False, stops=True, text="an alarm is open, and a person decides",
        next_step=f"ssmith release rollback {here.line.path} --reason TEXT",
    )  # fmt: skip


def renew(here: Round) -> Done:
    """Make a new version and bring it into the line, if its own receipt accepts it."""
    made = (recalibrate if here.config.renew.how == "recalibrate" else retune)(
        here.config, here.live, here.out, command=here.command, progress=here.progress
    )
    if not made.accepted:
        return Done(name="renew", passed=False, stops=True, text=made.headline,
                    next_step=f"see {made.directory}")  # fmt: skip
    version = add_version(here.line, made)
    return Done(name="renew", passed=True, text=made.headline, version=version.digest)


def profile(here: Round) -> Done:
    """Take a profile of the new version, so that it can be watched."""
    if not here.config.profile:
        return Done(name="profile", passed=True, text="left out", version=here.new.digest)
    if here.new.profile is None:
        config = TakeConfig(length=here.config.pilot.length)
        take_profile(here.line, here.new, here.config.renew.data, config)
    return Done(name="profile", passed=True, text="taken", version=here.new.digest)


def audit(here: Round) -> Done:
    """Say which answers change from the live version to the new one."""
    if here.config.audit is None or here.live is None:
        return Done(name="audit", passed=True, text="left out", version=here.new.digest)
    if entry := here.written("audit"):
        return Done(name="audit", passed=True, text=entry.reason, version=here.new.digest)
    found = audit_behaviour(
        str(here.live.path), str(here.new.path), here.config.renew.data, here.config.audit,
        line=str(here.line.path), command=here.command, progress=here.progress,
    )  # fmt: skip
    return Done(name="audit", passed=True, text=found.headline, version=here.new.digest)


def canary(here: Round) -> Done:
    """Interleave requests to the new version; a leak ends the cycle."""
    if here.config.canary is None:
        return Done(name="canary", passed=True, text="left out", version=here.new.digest)
    if entry := here.written("canary"):
        passed, headline = entry.details["passed"] is True, entry.reason
    else:
        receipt, headline = run_canary(
            str(here.new.path), here.config.canary, line=str(here.line.path),
            command=here.command, progress=here.progress,
        )  # fmt: skip
        seen = receipt.details
        passed = isinstance(seen, CanaryDetails) and seen.passed
    return Done(
        name="canary", passed=passed, stops=not passed, text=headline, version=here.new.digest,
        next_step="" if passed else f"ssmith canary {here.new.path}",
    )  # fmt: skip


def propose(here: Round) -> Done:
    """Hold the policy against the new version; a person promotes."""
    place, digest = here.line.path, here.new.digest
    failed = [rule for rule in rules_for(here.line, here.new) if not rule.passed]
    promote = f"ssmith release promote {place} {short(digest)} --reason TEXT"
    if not failed:
        text = f"{short(digest)} may go live: every rule of the policy holds"
        return Done(name=END, passed=True, stops=True, text=text, next_step=promote, version=digest)
    names = ", ".join(rule.name for rule in failed)
    text = f"{short(digest)} may not go live yet: {names}"
    settle = next((rule.settle for rule in failed if rule.settle), promote)
    return Done(name=END, passed=False, stops=True, text=text, next_step=settle, version=digest)


STEPS: Mapping[str, Callable[[Round], Done]] = {
    "verify": verify, "watch": watch, "decide": decide, "renew": renew, "profile": profile,
    "audit": audit, "canary": canary, END: propose,
}  # fmt: skip
"""In order; each may end the cycle."""
