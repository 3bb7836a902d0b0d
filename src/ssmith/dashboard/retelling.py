"""What rules and findings say, in the language of the page: recognised by their patterns.

A log keeps what was said when it was found, in English. Each pattern here is a message of the
catalogue; what stands in its places is retold in turn, and what no pattern knows stays as it is.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache

from ssmith.dashboard.language import Language, mark
from ssmith.dashboard.patterns import CARDS, PARTS, SAID, WHOLE

PATTERNS = (
    mark("{first}. {second}"),
    mark("{text}."),
    *WHOLE,
    # Sentences stand side by side: none of those below has such a mark in it.
    mark("{first}; {second}"),
    mark("{first} ← {second}"),
    *SAID,
    # What rules ask for.
    mark("every file is as it was added"),
    mark("the verdict of its own receipt is yes"),
    mark("judged on data {digest}"),
    mark("measured loss at most {limit}"),
    mark("proven loss at most {limit}"),
    mark("every way to run it gives the same numbers"),
    mark("compared within {days} days"),
    mark("no {column} loses more than {limit}"),
    mark("answers that change: at most {share}"),
    mark("{count} interleaved requests, each equal to its run alone"),
    mark("{count} rows answered by both"),
    mark("disagreement on {count} rows or more: at most {share}"),
    mark("signed by {count} of {all} keys"),
    mark("signed by {count} keys"),
    # What they found.
    mark("they are"),
    mark("no reason is given"),
    mark("no comparison"),
    mark("there is nothing to compare with: it was made from no other model, and none is live"),
    mark("nothing"),
    mark("it does, by entry {entry}"),
    mark("it does not, by entry {entry}"),
    mark("{days} days ago"),
    mark("no audit by it"),
    mark("of {groups} the worst is {worst}, which loses {loss}"),
    mark("{count} requests, some leaked"),
    mark("{count} requests, all equal"),
    mark("signed by {count}"),
    mark("{count} rows"),
    mark("no bound, from too few rows"),
    mark("{metric} {before} before, {after} after, {count} counted"),
    # What a watch found.
    mark("the cut costs more than at release: {site}"),
    mark("{times} times as much of {site}'s output on a row {range} ({now} of it, {then} then)"),
    mark("what was removed would now carry {now} of its output, {then} at release"),
    mark("that points to {loss}, or more: {share} of the rows cost more than any at release"),
    mark("that points to {loss}"),
    mark("a loss of {value} {unit} of {metric} [{low}, {high}]"),
    mark("answers differ from the dense model's by {now} on average, {then} at release"),
    mark(
        "answers differ from the dense model's {now} of the time, {then} at release, so no more "
        "than {most} points can be lost to the cut"
    ),
    mark("answers differ from the dense model's {now} of the time, {then} at release"),
    mark("a refit of the same states on the new rows would take most of it back"),
    mark("the model answers differently from the one it was cut from more often than at release"),
    mark("{place}: {what} is {now} on average, {before} at release ({share} of the rows differ)"),
    mark("so do {others}"),
    mark("the cut costs no more than at release"),
    mark("{count} other places drifted as well, less surely"),
    mark("1 other place drifted as well, less surely"),
    mark("{metric} is {now} on these rows, {promised} was promised"),
    mark("over {count} labelled rows: {loss}"),
    mark("not proven worse than promised"),
    mark("a pass takes {times} times as long as at release"),
    mark("an alarm if the next look says so as well"),
    mark("speed is not compared: {why}"),
    mark("times had not settled, and decide nothing"),
    mark("rows of another number or length than in the profile"),
    mark("another machine, or another number of threads"),
    mark("a pass holds {times} times the memory it held at release"),
    mark("nothing has drifted"),
    mark("p = {p} on {count} rows, {adjusted} for all that was tested"),
    mark("holds at all looks together"),
    mark("median and shortest time, {count} looks running"),
    # What an audit, a canary and a trial found.
    mark("{share} of {count} answers changed"),
    mark("{agree} of greedy tokens agree, {share} of {count} prompts are answered otherwise"),
    # What a check found, and where a version came from.
    mark("made from no other"),
    mark("of another tool, which names no parent"),
    mark("a model with digest {digest}, which is not in this line"),
    mark("exported from line {line}, which says: {said}"),
    mark("exported from line {line}, made from no other"),
    mark("itself: it goes in a circle"),
    mark("is missing"),
    mark("was changed"),
    mark("was added"),
    mark("has {found} bytes, and had {size}"),
    mark("cannot be read: {why}"),
    mark("does not point to the base"),
    mark("is {shown}, and the log says {wanted}"),
    mark("is not what the log says"),
    mark("no entry names it"),
    mark("does not belong to a line"),
    mark("is no manifest"),
    mark("does not speak of the version that rests on it"),
    mark("names other numbers, or another parent, than its entry"),
    mark("version {digest} was not added before"),
    mark("goes back to a version that was never live"),
    mark("promotes although {rules} did not hold"),
    mark("{action} needs signatures of {count} keys, and has those of {names}"),
    mark("no entry has the digest {digest}: entries were cut off, or written anew"),
    mark("its end is missing: the log is cut off"),
    mark("the log is empty"),
    mark("it was changed ({error})"),
    mark("it does not follow the entry before: one was changed, removed or moved"),
    mark("it says it is entry {entry}"),
    mark("it is older than the entry before"),
    mark("{action} cannot stand here"),
    mark("the signature of {key} does not hold"),
    mark("it says that it is signed by somebody who did not sign it"),
    mark("Not accepted ({gates}): {what}"),
    mark("No gain: neither size, memory nor time fell by {share}"),
    mark("{what} as fast as before"),
    mark("{what} as before"),
    mark("{share} of {unit} removed"),
    mark("nothing removed"),
    mark("Nothing was cut: {why}"),
    mark("{metric} {before} → {after}"),
    mark("{what} {share} lower"),
    mark("{what} {share} higher"),
    mark("{what} {share} smaller"),
    mark("{what} {share} larger"),
    mark("{what} {times}× faster"),
    mark("{what} {times}× slower"),
    mark("the cut costs more than at release on part of the rows, though less on average: {site}"),
    mark(
        "{what} still changed by {share} % or more from one call to the next af"
        "ter {calls} calls ({seconds} s) of warming up, and may hold part of that"
    ),
    mark("repeat it on a machine with nothing else to do, or for longer"),
    *CARDS,
    # What stands side by side in these.
    mark("[{low}, {high}]"),
    mark("{first} ({second})"),
    mark("{first}, {second}"),
    # Readings, places and units.
    mark("channel {number}"),
    mark("class {number}"),
    mark("value {number}"),
    mark("part {number} of {count}"),
    mark("answer"),
    mark("text"),
    mark("tokens"),
    mark("rows"),
    mark("mean"),
    mark("spread"),
    mark("smallest"),
    mark("largest"),
    mark("jumps"),
    mark("missing"),
    mark("out of range"),
    mark("length"),
    mark("surprise of single tokens"),
    mark("never seen"),
    mark("confidence"),
    mark("entropy"),
    mark("share"),
    mark("value"),
    mark("cost"),
    mark("mean cost"),
    mark("all sites"),
    mark("answers"),
    mark("disagree"),
    mark("distance"),
    mark("nats per token"),
    mark("points"),
    mark("units"),
    mark("accuracy"),
    mark("perplexity"),
    mark("mean absolute error"),
    mark("rmse"),
    mark("state per sequence"),
    mark("state"),
    mark("heads"),
    mark("channels"),
    mark("layers"),
    mark("file"),
    mark("memory"),
    mark("nobody"),
    mark("no link"),
    mark("{value} points"),
    *PARTS,
    mark("{first}: {second}"),
)
"""In the order in which they are tried: sentences, then what stands in them."""
_NUMBERS = ("share", "before", "times", "count", "low", "value")
_HOLES, _SAID = re.compile(r"\{\w+\}"), re.compile("[A-Za-z]")
_HOLE = re.compile(r"\\\{(\w+)\\\}")


@lru_cache(maxsize=4096)
def retell(language: Language, text: str) -> str | None:
    """Return what a program said in English in another language; None if it is not known."""
    for pattern, compiled in _compiled():
        found = compiled.fullmatch(text)
        if found is not None:
            parts = found.groupdict()
            told = {name: retell(language, part) for name, part in parts.items()}
            # Marks alone make no sentence of ours of what somebody else has written.
            if _SAID.search(_HOLES.sub("", pattern)) or any(told.values()):
                held = {name: told[name] or part for name, part in parts.items()}
                return language.say(pattern).format(**held)
    # At the beginning of a sentence.
    lower = text[:1].lower() + text[1:]
    return None if lower == text else retell(language, lower)


def _place(hole: re.Match[str]) -> str:
    # A name before a number may be of several words, and a number begins with no letter.
    start = r"[^A-Za-z\s]" if hole[1] in _NUMBERS else "."
    return rf"(?P<{hole[1]}>{start}.*?)"


@cache
def _compiled() -> tuple[tuple[str, re.Pattern[str]], ...]:
    found = []
    for pattern in PATTERNS:
        # Greedy in none of its places: the first sign that ends one ends it.
        words = _HOLE.sub(_place, re.escape(pattern))
        found.append((pattern, re.compile(words, re.DOTALL)))
    return tuple(found)
