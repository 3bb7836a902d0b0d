"""Recordings of sound: a folder for each label, or files with a table of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssmith.core.errors import DataError
from ssmith.core.optional import require
from ssmith.core.preparation import PrepareConfig
from ssmith.recordings.folder import Item, entries_of, recordings_of
from ssmith.recordings.recording import Recordings

SOUND = (".wav", ".flac", ".ogg", ".aiff", ".aif", ".w64", ".mp3", ".opus")
BANDS, _FRAME, _HOP = 40, 0.025, 0.010
_FLOOR = 1e-8
_MOST = 1 << 28
"""Most samples of one file."""


def read_sound(
    path: Path, config: PrepareConfig, entries: Sequence[Item] | None = None
) -> tuple[Recordings, PrepareConfig]:
    """Read sound: folders named after labels, files beside ``labels.csv``, or one file.

    One recording a file, channels of a file mixed into one, and the settings as they are:
    ``features`` says whether a step is 10 ms of 40 band energies or one sample; ``rate`` is what
    files of other rates are brought to, the lowest of them if None. Raises `DataError` if there is
    no file, or one cannot be read, and `MissingExtraError` without the package soundfile.
    """
    entries = entries_of(path, SOUND) if entries is None else entries
    sounds = [_sound(entry.path) for entry in entries]
    rate = config.rate or min(item[1] for item in sounds)
    waves = [_at_rate(wave, own, rate) for wave, own in sounds]
    if config.features == "bands":
        values = [bands(wave, rate) for wave in waves]
        names = tuple(f"band {place}" for place in range(BANDS))
        hop = _HOP
    else:
        values = [wave[:, None] for wave in waves]
        names, hop = ("wave",), 1 / rate
    found = recordings_of(path, entries, names, values)
    rates = sorted({item[1] for item in sounds})
    times = tuple(hop * np.arange(len(item), dtype=np.float64) for item in values)
    details = {"rates": rates, "read_at": rate, "features": config.features}
    return replace(found, times=times, details=details), replace(config, rate=rate)


def bands(wave: NDArray[np.float64], rate: int) -> NDArray[np.float64]:
    """Return the logarithm of the energy in 40 bands of the mel scale, every 10 ms.

    One row a frame of 25 ms under a Hann window; a shorter wave is one frame.
    """
    size, hop = max(2, round(_FRAME * rate)), max(1, round(_HOP * rate))
    padded = np.pad(wave, (0, max(0, size - len(wave))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    points = max(512, 1 << (size - 1).bit_length())
    power = np.abs(np.fft.rfft(frames * np.hanning(size), points)) ** 2 / size
    return np.asarray(np.log(power @ _filters(rate, points).T + _FLOOR))


def _filters(rate: int, points: int) -> NDArray[np.float64]:
    """Return triangles evenly spaced on the mel scale, each with a sum of 1."""
    highest = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, highest, BANDS + 2) / 2595) - 1)
    places = np.fft.rfftfreq(points, 1 / rate)
    rising = (places - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - places) / (edges[2:] - edges[1:-1])[:, None]
    found = np.maximum(0, np.minimum(rising, falling))
    return np.asarray(found / np.maximum(found.sum(1, keepdims=True), 1e-9))


def _sound(path: Path) -> tuple[NDArray[np.float64], int]:
    """Return a file's samples in [-1, 1], its channels mixed, and its rate."""
    library: Any = require("soundfile", extra="audio", purpose="reading sound")
    try:
        facts = library.info(str(path))
        if facts.frames > _MOST:
            raise DataError(
                f"{path} has {facts.frames:,} samples", allowed=f"at most {_MOST:,}",
                next_step="cut it into shorter files",
            )  # fmt: skip
        samples, rate = library.read(str(path), dtype="float64", always_2d=True)
    except library.LibsndfileError as error:
        raise DataError(
            f"cannot read {path}: {error}", allowed=", ".join(SOUND), next_step="check the file"
        ) from error
    if not len(samples):
        raise DataError(f"{path} holds no sample", next_step="leave the file out")
    return samples.mean(1), int(rate)


def _at_rate(wave: NDArray[np.float64], own: int, rate: int) -> NDArray[np.float64]:
    """Return a wave at another rate: what the lower one cannot carry is cut out of its spectrum."""
    if own == rate:
        return wave
    count = max(1, round(len(wave) * rate / own))
    spectrum = np.fft.rfft(wave)
    kept = np.zeros(count // 2 + 1, dtype=complex)
    common = min(len(kept), len(spectrum))
    kept[:common] = spectrum[:common]
    return np.asarray(np.fft.irfft(kept, count) * (count / len(wave)))
