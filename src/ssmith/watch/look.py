"""One look: new rows against the profile, by everything that can be known of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ssmith.core.checks import check_integer, check_number
from ssmith.core.looks import Drifted, LookFound, PassCost, WatchFinding
from ssmith.core.rows import Rows
from ssmith.evaluation.task import Task
from ssmith.watch import findings
from ssmith.watch.costs import SLOWER, measure, slower
from ssmith.watch.cut import costs_now
from ssmith.watch.drift import KINDS, Alarms, counted, find_drift
from ssmith.watch.findings import Commands
from ssmith.watch.inputs import read_inputs
from ssmith.watch.inside import ModelPair, look_at
from ssmith.watch.profile import Profile, refits, sampled
from ssmith.watch.quality import judge
from ssmith.watch.stream import Stream

_SHOWN = 10
_SLOW = "slow looks"
_QUALITY = "quality"


@dataclass(frozen=True, kw_only=True)
class WatchConfig:
    """How new rows are watched.

    Args:
        sample: most rows that are looked at, ≥ 1.
        alarms_per_year: false alarms of drift allowed in a year of looks, > 0; so many again for
            the metric, where there are labels.
        looks_per_year: looks that they are spread over, ≥ 1: 8,760 for one an hour. With
            ``every`` it is counted.
        least: distance of two distributions, the largest difference of shares of rows, below
            which no drift is an alarm, in [0, 1).
        speed_seconds: time to spend on timing, ≥ 0; 0 to leave it out.
        batch_size: rows per forward pass; 64 if None, of text 8.
        seed: of the draw of rows.

    Raises:
        InputError: if a value is outside its domain.
    """

    sample: int = 2048
    alarms_per_year: float = 0.05
    looks_per_year: int = 8760
    least: float = 0.1
    speed_seconds: float = 0.0
    batch_size: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_integer("sample", self.sample, at_least=1)
        check_number("alarms_per_year", self.alarms_per_year, above=0)
        check_integer("looks_per_year", self.looks_per_year, at_least=1)
        check_number("least", self.least, at_least=0, below=1)
        check_number("speed_seconds", self.speed_seconds, at_least=0)
        check_integer("seed", self.seed, at_least=0)
        if self.batch_size is not None:
            check_integer("batch_size", self.batch_size, at_least=1)

    @property
    def alarms(self) -> Alarms:
        """How often a false alarm is allowed."""
        return Alarms(
            per_year=self.alarms_per_year, looks_per_year=self.looks_per_year, least=self.least
        )


def look(
    profile: Profile,
    pair: ModelPair,
    rows: Rows,
    stream: Stream,
    *,
    time: str,
    config: WatchConfig | None = None,
    commands: Commands | None = None,
    promised: Task | None = None,
) -> tuple[LookFound, Stream]:
    """Look at new rows once.

    Args:
        profile: of the release.
        pair: the model in use, what it was cut from, and the task if the rows are labelled.
        rows: new rows, in their order; at least one.
        stream: of the looks before.
        time: of this look, UTC.
        config: how.
        commands: what can be done.
        promised: the profile's task, for the unit of losses where rows have no labels.

    Returns:
        What was found, and the stream to go on from.

    Raises:
        DataError: if there is no row.
        NumericalError: if an output is not finite.
    """
    chosen, can = config or WatchConfig(), commands or Commands()
    sample = sampled(rows, chosen.sample, chosen.seed)
    seen = look_at(pair, sample, batch_size=chosen.batch_size)
    readings = {**read_inputs(sample, profile.inputs, own=False), **seen.readings}
    count = len(next(iter(readings.values())))
    after = stream.after(counted(profile.sketches, readings, time, count))
    drifts = find_drift(profile.sketches, after, readings, chosen.alarms)
    task = pair.task or promised
    metric = None if task is None or profile.promise.metric is None else task.metric
    drifted = any(item.kind == "cut" and item.alarm for item in drifts)
    costs = costs_now(profile, seen, refits(pair, sample) if drifted else {}, metric)
    own = findings.of_cut(drifts, costs, metric, can)
    cut = None if costs is None else bool(own)
    found = [
        *own,
        *findings.of_drifts("output", drifts, cut=cut, can=can),
        *findings.of_drifts("input", drifts, cut=cut, can=can),
    ]
    memory = dict(after.memory)
    quality = None
    if pair.task is not None and seen.outcomes[1] is not None and profile.promise.level is not None:
        quality, memory[_QUALITY] = judge(
            profile.promise, seen.outcomes[1], pair.task.metric, memory.get(_QUALITY),
            chosen.alarms_per_year,
        )  # fmt: skip
        found = [*findings.of_quality(quality, metric, can), *found]
    speed = measure(pair.model, pair.dense, sample, chosen.speed_seconds)
    slow, memory[_SLOW] = _speed(profile, speed, int(memory.get(_SLOW, 0)), can)
    found += slow
    done = LookFound(
        time=time, number=after.looks, rows=count, there=len(rows),
        findings=tuple(sorted(found, key=lambda item: not item.alarm)),
        drifts=_surest(drifts), cut=costs, quality=quality, speed=speed, left=profile.left,
    )  # fmt: skip
    return done, replace(after, memory=memory)


def _surest(drifts: list[Drifted]) -> tuple[Drifted, ...]:
    return tuple(
        item
        for kind in KINDS
        for item in [drift for drift in drifts if drift.kind == kind][:_SHOWN]
    )


def _speed(
    profile: Profile, now: PassCost, before: int, can: Commands
) -> tuple[list[WatchFinding], int]:
    """Return what is to be said of speed and memory, and how many looks running were slow."""
    factor, why = slower(profile.speed, now)
    found = []
    if factor is not None and factor > SLOWER:
        before += 1
        words = f"a pass takes {factor:.2g} times as long as at release"
        words += "" if before > 1 else "; an alarm if the next look says so as well"
        sure = f"median and shortest time, {before} looks running"
        found.append(
            WatchFinding(
                kind="speed", alarm=before > 1, what=words, sure=sure, do=can.back("slower")
            )
        )
    elif factor is not None:
        before = 0
    elif now.why_not != "not asked for":
        found.append(WatchFinding(kind="speed", alarm=False, what=f"speed is not compared: {why}"))
    old = profile.speed.peak_bytes
    same = (profile.speed.rows, profile.speed.length) == (now.rows, now.length)
    if old and same and now.peak_bytes > SLOWER * old:
        words = f"a pass holds {now.peak_bytes / old:.2g} times the memory it held at release"
        found.append(WatchFinding(kind="speed", alarm=True, what=words, do=can.back("memory")))
    return found, before
