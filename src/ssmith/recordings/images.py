"""Images as sequences: a step for each row, pixel or patch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssmith.core.errors import DataError
from ssmith.core.optional import require
from ssmith.core.preparation import PrepareConfig
from ssmith.recordings.folder import Item, entries_of, recordings_of
from ssmith.recordings.recording import Recordings

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
_MOST = 1 << 26
"""Most pixels of one image."""


def read_images(
    path: Path,
    config: PrepareConfig,
    entries: Sequence[Item] | None = None,
    *,
    grey: bool | None = None,
) -> Recordings:
    """Read images of one size: folders named after labels, files beside ``labels.csv``, or one.

    One recording an image, from top left to bottom right; ``pixels`` says what a step is, ``patch``
    how large a patch. Values are from 0 to 1, grey if all images are (see `are_grey`), else red,
    green and blue. Raises `DataError` if there is no file, one cannot be read, or they differ in
    size, and `MissingExtraError` without the package pillow.
    """
    entries = entries_of(path, IMAGES) if entries is None else entries
    grey = are_grey(entries) if grey is None else grey
    images = [_pixels(entry.path, grey=grey) for entry in entries]
    for entry, image in zip(entries, images, strict=True):
        if image.shape != images[0].shape:
            size, first = (f"{item.shape[1]} × {item.shape[0]}" for item in (image, images[0]))
            raise DataError(
                f"{entry.path} has {size} pixels",
                allowed=f"{first}, as {entries[0].path.name} has",
                next_step="scale them to one size",
            )
    values = [steps_of_image(image, config) for image in images]
    names = tuple(f"pixel {place}" for place in range(values[0].shape[1]))
    return recordings_of(path, entries, names, values)


def are_grey(entries: Sequence[Item]) -> bool:
    """Return whether no image has colours."""
    return all(_mode(entry.path) in ("1", "L", "I", "I;16", "F") for entry in entries)


def steps_of_image(image: NDArray[np.float64], config: PrepareConfig) -> NDArray[np.float64]:
    """Return an image (height, width, colours) as steps: a row, a pixel or a patch each.

    What does not fill a patch is left out.
    """
    height, width, colours = image.shape
    if config.pixels == "row":
        return image.reshape(height, width * colours)
    if config.pixels == "pixel":
        return image.reshape(height * width, colours)
    side = min(config.patch, height, width)
    down, across = height // side, width // side
    whole = image[: down * side, : across * side].reshape(down, side, across, side, colours)
    return whole.transpose(0, 2, 1, 3, 4).reshape(down * across, side * side * colours)


def _opened(path: Path) -> Any:
    library = require("PIL.Image", extra="images", purpose="reading images")
    try:
        found = library.open(path)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(
            f"cannot read {path}: {error}", allowed=", ".join(IMAGES), next_step="check the file"
        ) from error
    if found.width * found.height > _MOST:
        raise DataError(
            f"{path} has {found.width} × {found.height} pixels", allowed=f"at most {_MOST:,} in all"
        )
    return found


def _mode(path: Path) -> str:
    with _opened(path) as opened:
        return str(opened.mode)


def _pixels(path: Path, *, grey: bool) -> NDArray[np.float64]:
    try:
        with _opened(path) as opened:
            if grey:
                values = np.asarray(opened.convert("F"), dtype=np.float64)[..., None]
                return values / (65535.0 if opened.mode.startswith("I") else 255.0)
            return np.asarray(opened.convert("RGB"), dtype=np.float64) / 255.0
    except (OSError, SyntaxError) as error:
        raise DataError(f"cannot read {path}: {error}", next_step="check the file") from error
