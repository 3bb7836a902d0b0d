"""Tables of series: how fast they are read, and in how much memory, beside pandas.

*ssmith* reads tables that are laid out for it, *ssmith data* any table, as recordings.

``make bench-readers`` reads 1,200,000 numbers, ``QUICK=1`` a sixth of them. Each reader runs in a
process of its own, a few times; the least CPU time counts, and the most memory above what its
imports took. One line of JSON is printed, and with ``--out`` stored.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

STEPS, CHANNELS = 200, 6
ALLOWED = 1.5
_READ = {
    "ssmith": (
        "import pyarrow.csv, ssmith.data.table as reader",
        "found = reader.read_long(Path(path)); assert found.x.shape[2] == channels",
    ),
    "ssmith data": (
        "import pyarrow.csv, pyarrow.compute\n"
        "from ssmith.recordings import read\n"
        "from ssmith.core.preparation import PrepareConfig",
        "config = PrepareConfig(sequence='sequence', label=('label',))\n"
        "found, _ = read(Path(path), config); assert len(found.channels) == channels",
    ),
    # What ends where ours does: one block of numbers, a name and a label for each sequence.
    "pandas": (
        "import pandas",
        "table = pandas.read_csv(path)\n"
        "names = [n for n in table.columns if n not in ('sequence', 'label')]\n"
        "groups = table.groupby('sequence', sort=False)\n"
        "labels = groups['label'].first()\n"
        "values = table[names].to_numpy('float64')\n"
        "assert values.shape[1] == channels and len(labels)",
    ),
}
_CHILD = """
import json, resource, sys, time
from pathlib import Path
{imports}
path, channels = sys.argv[1], int(sys.argv[2])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.process_time()
{work}
took = time.process_time() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({{"seconds": took, "mib": (peak - before) / 1024}}))
"""


def write(path: Path, sequences: int) -> None:
    """Write a table of random numbers, as sensors log them."""
    draw = np.random.default_rng(0)
    values = draw.normal(size=(sequences * STEPS, CHANNELS)).round(6)
    names = ",".join(f"c{k}" for k in range(CHANNELS))
    with path.open("w") as stream:
        stream.write(f"sequence,label,{names}\n")
        for place, row in enumerate(values.tolist()):
            sequence = place // STEPS
            stream.write(f"s{sequence},{'ab'[sequence % 2]},{','.join(map(repr, row))}\n")


def measure(reader: str, path: Path, times: int) -> dict[str, float]:
    """Return the best time and the most memory of some runs."""
    imports, work = _READ[reader]
    code = _CHILD.format(imports=imports, work=work)
    runs = []
    for _ in range(times):
        command = [sys.executable, "-c", code, str(path), str(CHANNELS)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        runs.append(json.loads(done.stdout))
    return {
        "seconds": round(min(run["seconds"] for run in runs), 3),
        "mib": round(max(run["mib"] for run in runs), 1),
    }


def main() -> int:
    """Measure all readers on one file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    sequences = 1000 // (6 if given.quick else 1)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "steps.csv"
        write(path, sequences)
        found = {name: measure(name, path, 3 if given.quick else 5) for name in _READ}
        size = path.stat().st_size
    theirs = found["pandas"]
    ratios = {
        name: {key: round(ours[key] / theirs[key], 3) for key in ours}
        for name, ours in found.items() if name != "pandas"
    }  # fmt: skip
    line = {
        "numbers": sequences * STEPS * CHANNELS, "bytes": size, **found, "ratios": ratios,
        "allowed": ALLOWED,
        "passed": all(most <= ALLOWED for own in ratios.values() for most in own.values()),
    }  # fmt: skip
    print(json.dumps(line))
    if given.out:
        given.out.write_text(json.dumps(line, indent=1) + "\n")
    return 0 if line["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
