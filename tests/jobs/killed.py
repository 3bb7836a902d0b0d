"""Run pilots that are killed: ``python killed.py MODEL DATA ROOT COMMAND SPEC…`` as a program.

Each SPEC is a series of attempts at one pilot, e.g. ``write:run.json,tell:2``: the first dies
while it writes that file, the second, which resumes, when it tells of its second part,
``rename:1`` when it moves its first directory into place, and ``exchange:1`` when it replaces one.
``after:0.5`` is killed from outside after that many seconds. A last attempt resumes and may finish.
What each attempt has left is copied to ``ROOT/SPEC.N`` before the next one starts.
"""

import gc
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import jinja2  # noqa: F401 - loaded once, before the forks
import matplotlib.figure  # noqa: F401
import torch
import torch._dynamo

from jobs.toy import QUICK
from ssmith.core import directories
from ssmith.jobs.pilot import pilot


def die_at(count):
    """Return a function that ends the process, without any clean-up, when called so often."""
    calls = iter(range(1, count))

    def called(*_, **__):
        if next(calls, None) is None:
            os._exit(9)

    return called


def attempt(kill, place, model, data, command):
    """Run one pilot in this process, to be killed as ``kill`` says."""
    what, _, when = kill.partition(":")
    progress = [lambda *_, **__: None]
    if what == "tell":
        progress = [die_at(int(when))]
    if what == "write":
        replace = Path.replace

        def give_name(self, target):
            # The new bytes are in a file beside, and have not got their name.
            return os._exit(9) if target.name == when else replace(self, target)

        Path.replace = give_name
    if what == "rename":
        real, before = Path.rename, die_at(int(when))

        def rename(self, target):
            before()
            return real(self, target)

        Path.rename = rename
    if what == "exchange":
        directories._exchange = die_at(int(when))
    pilot(model, data, place, QUICK, resume=True, command=command, progress=progress[0])


def in_child(kill, place, *given):
    """Run one attempt in a fork; return how it ended."""
    child = os.fork()
    if child == 0:
        try:
            attempt(kill, place, *given)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    if kill.startswith("after:"):
        time.sleep(float(kill.removeprefix("after:")))
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(model, data, root, command, *specs):
    """Run all series; print how each attempt ended."""
    torch.set_num_threads(1)
    gc.freeze()
    for spec in specs:
        place = Path(root) / spec
        for number, kill in enumerate([*spec.split(","), "finish"]):
            words = command.split() + ["--resume"] * (number > 0)
            code = in_child(kill, place, model, data, words)
            print(spec, number, code, flush=True)
            if place.exists():
                shutil.copytree(place, Path(root) / f"{spec}.{number}")


if __name__ == "__main__":
    main(*sys.argv[1:])
