"""Two small domains of sound, made on the fly: rising and falling tones, and the same in noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from ssmith.core.files import write_json, write_text

RATE, SAMPLES, COUNT = 8000, 4000, 60
SPLITS = ("train",) * 6 + ("validation", "selection", "test", "test")


def write_tones(place: Path) -> Path:
    """Write WAV files, their labels and a recipe; return where."""
    draw = np.random.default_rng(0)
    for name, noise, pitch in (("voices", 0.05, 600), ("others", 0.3, 900)):
        folder = place / "tones" / name
        folder.mkdir(parents=True, exist_ok=True)
        rows = ["file,label,split"]
        for number in range(COUNT):
            label, slope = (("rising", 1), ("falling", -1))[number % 2]
            times = np.arange(SAMPLES) / RATE
            height = pitch * draw.uniform(0.8, 1.2) * (1 + slope * (times - times.mean()))
            wave = 0.3 * np.sin(2 * np.pi * np.cumsum(height) / RATE)
            wave += noise * draw.normal(size=SAMPLES)
            soundfile.write(folder / f"{number}.wav", wave.clip(-1, 1), RATE)
            rows.append(f"{number}.wav,{label},{SPLITS[number // 2 % len(SPLITS)]}")
        write_text(folder / "labels.csv", "\n".join(rows) + "\n")
    recipe = {
        "data": "tones/voices",
        "prepare": {"task": "classification"},
        "model": {"family": "s5", "width": 8, "states": [8, 8], "blocks": 2},
        "fit": {"epochs": 20, "batch_size": 8, "lr": 0.01},
    }
    write_json(place / "tones.json", recipe)
    return place
