"""Bicycles hired in each hour of a year, with the weather: a forecast with covariates.

ISLP carries the table. ``OUT/spring.csv`` is January to June, ``OUT/summer.csv`` July to October:
warmer, with more people who hire. Hours without a row (nobody hired) have none.

    python recipes/domains/demand.py --out demand
    ssmith train recipes/domains/demand.json --out bicycles
    ssmith predict bicycles --data demand/summer.csv --out forecast.csv
"""

from __future__ import annotations

import argparse
import csv
import math
from datetime import datetime, timedelta
from pathlib import Path

from found import package_file

SEASONS = {"spring": (1, 181), "summer": (182, 304)}
"""First and last day of the year."""
WEATHER = ("temp", "hum", "windspeed")
KNOWN = ("workingday", "day sine", "day cosine")
FOGGY, WET = "cloudy/misty", ("light rain/snow", "heavy rain/snow")


def row_of(told: dict[str, str]) -> list[str]:
    """Return an hour's time, its weather, what the calendar says, and how many hired."""
    hour = int(told["hr"])
    time = datetime(2011, 1, 1) + timedelta(days=int(told["day"]) - 1, hours=hour)
    angle = 2 * math.pi * hour / 24
    wet = (told["weathersit"] == FOGGY) + 2 * (told["weathersit"] in WET)
    return [
        time.isoformat(sep=" "), *(told[name] for name in WEATHER), str(wet), told["workingday"],
        f"{math.sin(angle):.4f}", f"{math.cos(angle):.4f}", told["bikers"],
    ]  # fmt: skip


def write(path: Path, days: tuple[int, int]) -> None:
    """Write the hours of some days."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with package_file("ISLP", "data/Bikeshare.csv").open() as source, path.open("w") as target:
        out = csv.writer(target)
        out.writerow(["time", *WEATHER, "wet", *KNOWN, "bikers"])
        for told in csv.DictReader(source):
            if days[0] <= int(told["day"]) <= days[1]:
                out.writerow(row_of(told))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    for season, days in SEASONS.items():
        write(out / f"{season}.csv", days)


if __name__ == "__main__":
    main()
