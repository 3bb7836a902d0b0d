"""A tiny S5 model of three classes, and data that fits it."""

import torch

from ssmith.core.sequences import SPLITS, SequenceData, Sequences
from ssmith.families import SequenceConfig, SequenceModel

CLASSES = ("a", "b", "c")
COUNT = 12


def tiny_model(channels=2, seed=0, states=6):
    torch.manual_seed(seed)
    config = SequenceConfig(
        family="s5", width=6, states=(states, states), outputs=3, channels=channels, classes=CLASSES
    )
    return SequenceModel(config, torch.Generator().manual_seed(seed)).eval()


def tiny_data(channels=2, classes=CLASSES, count=COUNT):
    def part(index):
        draw = torch.Generator().manual_seed(index)
        return Sequences(
            x=torch.randn(count, 7, channels, generator=draw),
            lengths=torch.randint(3, 8, (count,), generator=draw),
            y=torch.arange(count) % len(classes),
        )

    return SequenceData(
        name="toy",
        task="classification",
        splits={name: part(index) for index, name in enumerate(SPLITS)},
        classes=classes,
    )
