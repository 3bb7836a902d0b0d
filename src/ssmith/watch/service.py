"""Watch a line: take profiles, look, and write down what was found."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ssmith.core.checks import check_integer
from ssmith.core.errors import InputError
from ssmith.core.looks import LookReceipt
from ssmith.core.receipt import moment, versions
from ssmith.release.adding import keep_profile
from ssmith.release.line import Line, counted_in
from ssmith.release.version import COUNTS, Version, short, trail_of
from ssmith.watch.findings import Commands
from ssmith.watch.look import WatchConfig, look
from ssmith.watch.profile import Profile, ProfileConfig, take
from ssmith.watch.stream import FILE, Stream
from ssmith.watch.subject import WINDOW, WatchSubject, open_subject


@dataclass(frozen=True, kw_only=True)
class TakeConfig:
    """Of what a profile is taken.

    Args:
        length: tokens of each window of text, ≥ 2; 512 if None.
        metric: name of a task; the usual one of the model if None.
        unlabelled: the rows have no labels: no metric is promised, and no curve tells losses.
        profile: how it is taken.

    Raises:
        InputError: if a value is outside its domain.
    """

    length: int | None = None
    metric: str | None = None
    unlabelled: bool = False
    profile: ProfileConfig = field(default_factory=ProfileConfig)

    def __post_init__(self) -> None:
        if self.length is not None:
            check_integer("length", self.length, at_least=2)


def take_profile(
    line: Line,
    version: Version,
    spec: str,
    config: TakeConfig | None = None,
    *,
    parent: str | None = None,
) -> Profile:
    """Take the profile of a version, and keep it in the line.

    Args:
        line: the line.
        version: of which it is.
        spec: labelled data; the test split is looked at, which the model has not learned from. Of
            rows without labels all of them.
        config: how.
        parent: what the version was cut from, where the line cannot tell.

    Returns:
        The profile.

    Raises:
        InputError: if there is no such data.
        DataError: if it does not fit the model.
        MissingExtraError: if SciPy is missing.
    """
    chosen = config or TakeConfig()
    subject = open_subject(line, version, parent)
    most = chosen.profile.sample
    if chosen.unlabelled:
        rows, task = subject.new(spec, labels=False, length=chosen.length, most=most), None
    else:
        rows = subject.labelled(spec, chosen.length, most)
        task = subject.task(chosen.metric, rows)
    profile = take(
        subject.model, rows, dense=subject.dense, plan=subject.plan, task=task,
        config=chosen.profile,
    )  # fmt: skip
    left = {**profile.left, **({"cut": subject.why} if subject.why else {})}
    more = {"length": chosen.length or WINDOW} if subject.is_text else {}
    profile = replace(profile, left=left, settings={**profile.settings, **more})
    with tempfile.TemporaryDirectory() as scratch:
        profile.save(scratch)
        keep_profile(line, version, Path(scratch), reason=f"profile on {spec}")
    return profile


@dataclass
class Watch:
    """A version that is watched: opened once, looked at as often as one likes.

    ``parent`` is what it was cut from, where the line cannot tell.
    """

    line: Line
    version: Version
    parent: str | None = None
    config: WatchConfig = field(default_factory=WatchConfig)
    profile: Profile = field(init=False)
    subject: WatchSubject = field(init=False)

    def __post_init__(self) -> None:
        place = self.version.profile
        if place is None:
            raise InputError(
                f"version {self.version.digest[7:19]} has no profile to hold new rows against",
                next_step=f"take it on labelled data: ssmith watch {self.line.path} --take "
                "--data DATA",
            )
        self.profile = Profile.load(place)
        self.subject = open_subject(self.line, self.version, self.parent)
        self._counts = f"{COUNTS}/{place.name}/{FILE}"

    def look(
        self,
        spec: str,
        *,
        labels: bool = False,
        keep: Callable[[LookReceipt], None] = lambda _: None,
    ) -> LookReceipt:
        """Look at new rows, and write down what was found: ``alarm``, or ``watch``.

        Args:
            spec: the rows; read anew at every look.
            labels: whether they are labelled, and count.
            keep: keeps what was found elsewhere, before the line is written: the entry comes last,
                so that what a kill leaves undone can be done again.

        Returns:
            What was found.

        Raises:
            InputError: if there is no such data.
            DataError: if it does not fit the model.
            ArtefactError: if the line cannot be written.
        """
        length = self.profile.settings.get("length")
        rows = self.subject.new(spec, labels=labels, length=length, most=self.config.sample)
        promised = None
        if self.profile.promise.metric is not None:
            promised = self.subject.task(self.profile.promise.metric, rows)
        # Every window of text has its labels in it.
        task = promised if labels or self.subject.is_text else None
        found, stream = look(
            self.profile, self.subject.pair(task), rows, self._counted(),
            time=moment(), config=self.config, commands=self._commands(spec, labels=labels),
            promised=promised,
        )  # fmt: skip
        receipt = LookReceipt(
            line=self.line.name, version=self.version.digest,
            profile=Path(self._counts).parent.name, data=rows.describe(),
            settings=asdict(self.config), versions=versions(), alarm=found.alarm,
            headline=found.headline, look=found,
        )  # fmt: skip
        keep(receipt)
        # Counted with the entry: a look that could not be written down has not been spent.
        self.line.record(
            "alarm" if found.alarm else "watch", version=self.version,
            receipts=(receipt.as_dict(),), reason=found.headline,
            details={
                "alarms": [item.kind for item in found.findings if item.alarm],
                "rows": found.rows, "data": spec,
            },
            beside={self._counts: stream.content()},
        )  # fmt: skip
        return receipt

    def _counted(self) -> Stream:
        """Return what earlier looks counted, as the newest of them left it."""
        with self.line.change("watch"):
            digest = counted_in(self.line.entries()).get(self._counts)
            return Stream.load(self.line.path / self._counts, digest)

    def _commands(self, spec: str, *, labels: bool) -> Commands:
        trail, text = trail_of(self.line.entries()), self.subject.is_text
        return Commands(
            line=str(self.line.path), place=self.subject.place,
            version=short(self.version.digest), data=spec, labelled=labels or text, text=text,
            dense=self.subject.dense_name, cuts=_cuts(self.subject),
            earlier=len(trail) > 1 and trail[-1] == self.version.digest,
        )  # fmt: skip


def _cuts(subject: WatchSubject) -> tuple[str, ...]:
    """Return the cuts of a plan as flags of ``prune``."""
    budgets = [] if subject.plan is None else [cut.budget for cut in subject.plan.cuts]
    words: list[str] = []
    for item in budgets:
        if "unit" in item:
            words += ["--cut", f"{item['unit']}={item['sparsity']}"]
            for name in ("method", "scope", "compensate"):
                if item.get(name, "auto") != "auto":
                    words += [f"--{name}", f"{item['unit']}:{item[name]}"]
    return tuple(words)
