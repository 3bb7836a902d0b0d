"""Processes that change a line and are killed, at any moment or at one write; they need no torch.

Run as a script: ``killing.py random PLACE KILLS LONGEST`` kills children of its own that change a
line without end, each after at most so many seconds, and says how things stood after each;
``killing.py counted PLACE ACTION`` kills one at each write of an action in turn, and says how each
ended.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

from helpers.lines import Shelf, files_of, receipt
from ssmith.core.errors import InputError
from ssmith.release import change
from ssmith.release.begin import init
from ssmith.release.line import Line
from ssmith.release.promotion import promote, rollback
from ssmith.release.verify import verify

KINDS = ("add", "promote", "rollback")
WRITES = ("open", "write", "fsync", "mkdir", "rename", "symlink", "unlink", "truncate", "rmdir")
OWN = {
    "line.json", "log.jsonl", "live", "versions", "manifests", "receipts", "profiles",
    ".ssmith-lock",
}  # fmt: skip


def opened(place):
    """The shelf of an earlier process."""
    shelf = Shelf.__new__(Shelf)
    shelf.place, shelf.line = place, Line.open(place / "line")
    return shelf


def endless(place, seed):
    """Add, promote and roll back at random, each time saying what is live and what will be."""
    draw, shelf, count = random.Random(seed), opened(place), 0
    line = shelf.line
    while True:
        live, versions = line.live, line.versions()
        others = [item for item in versions if live is None or item.digest != live.digest]
        was = [item.version for item in line.entries() if item.action == "promote"]
        count += 1
        kind = draw.choice(KINDS)
        if kind == "add" or not others or (kind == "rollback" and len(set(was)) < 2):
            say("add", live, live)
            shelf.add(f"of {seed}, {count}")
        elif kind == "promote":
            target = draw.choice(others)
            say("promote", live, target)
            promote(line, target)
        else:
            target = draw.choice([item for item in others if item.digest in was])
            say("rollback", live, target)
            rollback(line, target)


def say(kind, live, target):
    digests = [None if item is None else item.digest for item in (live, target)]
    os.write(1, f"{json.dumps([kind, *digests])}\n".encode())


def kill(place, seed, pause):
    """Kill a child that changes a line without end, and say how things stand."""
    before = len(Line.open(place / "line").entries())
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writes, 1)
        endless(place, seed)
    os.close(writes)
    with os.fdopen(reads) as told:
        first = told.readline()
        time.sleep(pause)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        during, *allowed = json.loads((first + told.read()).splitlines()[-1])
    leftovers = change.has_leftovers(place / "line")
    line = Line.open(place / "line")
    live = None if line.live is None else line.live.digest
    return {
        "during": during,
        "mid_write": leftovers,
        "entries": len(line.entries()) - before,
        "opens_as_before_or_after": live in allowed,
        "verifies": verify(line).passed,
        "leaks": sorted({item.name for item in line.path.iterdir()} - OWN),
    }


def at_random(place, kills, longest):
    """Kill children at random moments, and say how things stood after each."""
    draw = random.Random(0)
    return [kill(place, seed, draw.uniform(0, longest)) for seed in range(kills)]


def act(place, action):
    shelf = opened(place)
    line = shelf.line
    if action == "add":
        shelf.add("new", receipt("new"))
    elif action == "promote":
        promote(line, next(item for item in line.versions() if item.name == "three"))
    else:
        rollback(line)


def dies_at(step):
    """Let the process be killed at one of its writes: before it, or half-way through its bytes."""
    count = 0

    def counting(real, name):
        def call(*given, **more):
            nonlocal count
            if name == "open" and not (len(given) > 1 and given[1] & os.O_CREAT):
                return real(*given, **more)
            count += 1
            if count == step:
                if name == "write":
                    real(given[0], bytes(given[1])[: len(given[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*given, **more)

        return call

    for name in WRITES:
        setattr(os, name, counting(getattr(os, name), name))


def counted(place, action):
    """Kill a child at every write of an action in turn; return how many there are."""
    seen = {"before": 0, "after": 0}
    before, whole = state(place), {}
    for step in range(1, 1000):
        work = place.with_name(f"{place.name}-{action}-{step}")
        shutil.copytree(place, work, symlinks=True)
        child = os.fork()
        if child == 0:
            dies_at(step)
            act(work, action)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        ended = state(work)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            return {**seen, "writes": step - 1}
        assert os.WTERMSIG(status) == signal.SIGKILL
        said = "before" if ended == before else "after"
        if said == "after":
            whole = whole or ended
            other = {name for name in {*ended, *whole} if ended.get(name) != whole.get(name)}
            assert not other, f"neither before nor after: {action}, write {step}: {other}"
        else:
            assert not whole, f"a later write went back: {action}, write {step}"
        seen[said] += 1
        shutil.rmtree(work)
    raise AssertionError("it never ends")


def state(place):
    """What a line is when it is opened, its times aside; everything in it must verify."""
    line = Line.open(place / "line")
    found = verify(line)
    assert found.passed, found.faults
    assert {item.name for item in line.path.iterdir()} <= OWN
    # A room that is empty is as good as none.
    files = {name: held for name, held in files_of(line.path).items() if held is not None}
    log = [(item.action, item.version, item.receipts) for item in line.entries()]
    return {**files, "log.jsonl": log, ".ssmith-lock": None}


def counted_init(place):
    """Kill a child at every write of a beginning in turn: a line is there, or can begin."""
    for step in range(1, 1000):
        child = os.fork()
        if child == 0:
            dies_at(step)
            init(place / f"line-{step}")
            os._exit(0)
        _, status = os.waitpid(child, 0)
        try:
            line = Line.open(place / f"line-{step}")
        except InputError:
            line = init(place / f"line-{step}")
        assert [item.action for item in line.entries()] == ["init"]
        assert verify(line).passed
        assert {item.name for item in line.path.iterdir()} <= OWN
        if os.WIFEXITED(status):
            return {"writes": step - 1}
    raise AssertionError("it never ends")


if __name__ == "__main__":
    kind, where, *last = sys.argv[1], Path(sys.argv[2]), *sys.argv[3:]
    if kind == "random":
        print(json.dumps(at_random(where, int(last[0]), float(last[1]))))
    elif last == ["init"]:
        print(json.dumps(counted_init(where)))
    else:
        print(json.dumps(counted(where, *last)))
