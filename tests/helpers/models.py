"""Tiny layers and models for every combination of settings."""

import itertools
from dataclasses import dataclass

import torch

from ssmith.families import LTIOptions, S4DLayer, S5Layer, SequenceConfig, SequenceModel

WIDTH = 3


@dataclass(frozen=True)
class Kind:
    """One combination of settings that changes the maths of a layer."""

    family: str
    bidirectional: bool = False
    conj_sym: bool = True
    discretisation: str = "zoh"

    def __str__(self):
        return "-".join(
            [
                self.family,
                "two_way" if self.bidirectional else "one_way",
                "conj" if self.conj_sym else "full",
                self.discretisation,
            ]
        )

    def options(self, **changes):
        """The layer options of this kind."""
        given = {
            "bidirectional": self.bidirectional,
            "conj_sym": self.conj_sym,
            "discretisation": self.discretisation,
        }
        return LTIOptions(**{**given, **changes})

    @property
    def states(self):
        """States of one layer: even numbers, as layers without conjugate symmetry need them."""
        return {"s5": 6, "s4d": 4, "s4d_ragged": (4, 0, 2)}[self.family]


KINDS = [
    Kind(*parts)
    for parts in itertools.product(
        ("s5", "s4d", "s4d_ragged"), (False, True), (True, False), ("zoh", "bilinear")
    )
]
ONE_WAY = [kind for kind in KINDS if not kind.bidirectional]
FAMILIES = [Kind("s5"), Kind("s4d"), Kind("s4d_ragged")]


def make_layer(kind, *, seed=0, dtype=torch.float64, states=None, **options):
    """A random layer of width 3 with step sizes at which a dozen steps show its memory."""
    draw = torch.Generator().manual_seed(seed)
    settings = kind.options(**{"dt_min": 0.05, "dt_max": 0.5, **options})
    count = kind.states if states is None else states
    if kind.family == "s5":
        return S5Layer(WIDTH, count, options=settings, generator=draw).to(dtype)
    return S4DLayer(WIDTH, count, options=settings, generator=draw).to(dtype)


def make_model(kind, *, seed=0, dtype=torch.float64, layers=2, **changes):
    """A random model of two blocks; its input is a series of two channels unless told otherwise."""
    if "vocabulary" not in changes:
        changes.setdefault("channels", 2)
    changes.setdefault("outputs", 4)
    options = kind.options(dt_min=0.05, dt_max=0.5, **changes.pop("options", {}))
    config = SequenceConfig(
        **{
            "family": kind.family.partition("_")[0],
            "width": WIDTH,
            "states": (kind.states,) * layers,
            "initialisation": "lin" if kind.family != "s5" else "hippo",
            "options": options,
            **changes,
        }
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = SequenceModel(config, torch.Generator().manual_seed(seed))
    return model.to(dtype).eval()


def make_input(model, *, batch=4, length=11, seed=1):
    """Random sequences that a model reads."""
    draw = torch.Generator().manual_seed(seed)
    config = model.config
    if config.vocabulary is not None:
        return torch.randint(config.vocabulary, (batch, length), generator=draw)
    x = torch.randn(batch, length, config.channels, generator=draw, dtype=torch.float64)
    return x.to(model.head.weight.dtype)


def random_series(*shape, seed=0, dtype=torch.float64):
    """Normal random numbers."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=draw, dtype=torch.float64).to(dtype)


def random_mask(grid, *, seed=0, keep=0.5):
    """A random keep-mask."""
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(grid, generator=draw) < keep
