"""Python sources every machine has: the standard library, and packages of a pinned version."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path, PurePosixPath

from ssmith.core.errors import DataError, InputError
from ssmith.core.words import number_of
from ssmith.data.documents import Document, Documents, digest_documents
from ssmith.data.overlap import Overlap, overlap_with

STDLIB = "stdlib"
_NOT_LIBRARY = {"test", "tests", "idle_test", "site-packages", "_bundled", "lib2to3"}
# Lines in common beyond this share make a file a copy.
_COPY = 0.1


def read_stdlib() -> Documents:
    """Read the sources of the standard library of the Python that runs, without its tests."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.py"))
    chosen = [name for name in files if _is_library(PurePosixPath(name))]
    if not chosen:
        raise DataError(f"{root} holds no sources", next_step="use a Python with its library")
    version = ".".join(map(str, sys.version_info[:3]))
    return Documents(
        name=STDLIB,
        source=f"the standard library of Python {version}, without its tests",
        items=tuple(_readable((name, root / name) for name in chosen)),
        details={"python": version},
    )


def _is_library(path: PurePosixPath) -> bool:
    module = path.parts[0].removesuffix(".py")
    # What the build wrote differs from machine to machine and is no listed module.
    return module in sys.stdlib_module_names and not _NOT_LIBRARY & set(path.parts)


def read_packages(
    versions: Mapping[str, str], *, size: int, avoid: Documents | None = None
) -> Documents:
    """Read the Python sources of installed packages of certain versions, by package and path.

    Each package gives an equal share of ``size`` bytes, or all it has; what small ones leave goes
    to the others. Within a package every k-th file is taken, so that all its parts are there. A
    file that is also in another package, or shares more than a tenth of its lines with a document
    to avoid, is left out. Raises `InputError` if a package is not installed, or in another version.
    """
    if not versions or size < 1:
        raise InputError(
            f"{number_of(len(versions), 'package')}, {number_of(size, 'byte')}",
            allowed="at least one of each",
        )
    found = {name: _package(name, versions[name]) for name in sorted(versions, key=str.lower)}
    judge = overlap_with(avoid.items if avoid else ())
    seen: set[bytes] = set()
    kept: dict[str, list[Document]] = {}
    left = {"copies of another file": 0, "shared with what is avoided": 0}
    for name, items in found.items():
        kept[name] = []
        for item in items:
            reason = _why_left(item, seen, judge)
            seen.add(item.content)
            if reason:
                left[reason] += 1
            else:
                kept[name].append(item)
    sizes = {name: sum(len(item.content) for item in items) for name, items in kept.items()}
    shares = fair_shares(sizes, size)
    chosen = {name: _spread(kept[name], shares[name]) for name in kept}
    everything = tuple(item for part in chosen.values() for item in part)
    packages = {
        name: {
            "version": versions[name],
            "files": len(part),
            "bytes": sum(len(item.content) for item in part),
            "sha256": digest_documents(part),
        }
        for name, part in chosen.items()
    }
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return Documents(
        name="packages",
        source=f"Python sources of {listed}",
        items=everything,
        details={"packages": packages, "files_left_out": left},
    )


def _package(name: str, version: str) -> list[Document]:
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError as error:
        raise InputError(
            f"package {name!r} is not installed", next_step=f"pip install '{name}=={version}'"
        ) from error
    if found.version != version:
        raise InputError(
            f"package {name!r} has version {found.version}",
            allowed=version,
            next_step=f"pip install '{name}=={version}', or name this version",
        )
    listed = sorted({path.as_posix(): path for path in found.files or ()}.items())
    return list(
        _readable((name, Path(str(path.locate()))) for name, path in listed if name.endswith(".py"))
    )


def _readable(files: Iterable[tuple[str, Path]]) -> Iterable[Document]:
    """Yield what is not empty and UTF-8 without NUL; sources in other encodings are rare."""
    for name, path in files:
        content = path.read_bytes() if path.is_file() else b""
        if not content.strip() or b"\0" in content:
            continue
        try:
            content.decode("utf-8")
        except UnicodeDecodeError:
            continue
        yield Document(name=name, content=content.replace(b"\r\n", b"\n"))


def _why_left(item: Document, seen: set[bytes], judge: Overlap) -> str:
    if item.content in seen:
        return "copies of another file"
    return "shared with what is avoided" if judge.share(item) > _COPY else ""


def fair_shares(sizes: Mapping[str, int], total: int) -> dict[str, int]:
    """Share ``total`` equally, where nobody gets more than its size."""
    shares: dict[str, int] = {}
    rest = total
    for place, name in enumerate(sorted(sizes, key=lambda name: (sizes[name], name))):
        shares[name] = min(sizes[name], rest // (len(sizes) - place))
        rest -= shares[name]
    return shares


def _spread(items: list[Document], share: int) -> list[Document]:
    """Take files evenly over the list until the next one would exceed the share."""
    total = sum(len(item.content) for item in items)
    if total <= share:
        return items
    taken, seen, used = [], 0, 0
    for item in items:
        seen += len(item.content)
        # On the straight line from (0, 0) to (total, share), never above it.
        if (used + len(item.content)) * total <= share * seen:
            taken.append(item)
            used += len(item.content)
    return taken
