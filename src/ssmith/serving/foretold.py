"""Anomalies of a stream: what comes against what was forecast of it, kept for each source."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ssmith.core.errors import UnsupportedError
from ssmith.core.preparation import Preparation
from ssmith.evaluation.wishes import anomaly_scores
from ssmith.families.steps import State

_FORECASTS, _CAME = "forecasts", "came"


class Foretold:
    """The last forecasts of every source, and what has come since: rings of as many steps.

    A step's score is that of the forecast whose last horizon it is, once all before it have come.
    """

    def __init__(self, preparation: Preparation) -> None:
        if preparation.config.reconstructs:
            raise UnsupportedError(
                "the model finds anomalies by reconstruction, of windows as a whole",
                allowed="anomalies by forecast, step by step",
                next_step="train with --score forecast, or predict whole recordings",
            )
        config = preparation.config
        self.preparation = preparation
        self.ahead = torch.tensor(config.horizon)
        self.ring = max(config.horizon) + 1
        self.places = [preparation.names.index(name) for name in config.label]

    def blank(self, count: int, like: Tensor) -> State:
        """Return what is kept of sources before their first step."""
        outputs, targets = len(self.preparation.targets), len(self.places)
        return {
            _FORECASTS: like.new_zeros(count, self.ring, outputs),
            _CAME: like.new_zeros(count, self.ring, targets),
        }

    def scored(
        self,
        own: State,
        index: Int64[Tensor, "b"],
        done: Int64[Tensor, "b"],
        x: Float[Tensor, "b c"],
        outputs: Float[Tensor, "b o"],
    ) -> Float[Tensor, "b"]:
        """Keep a step, the one after ``done`` others of its source, and return its score.

        NaN where the source has not been forecast so far back.
        """
        here = done % self.ring
        own[_FORECASTS][index, here] = outputs.to(own[_FORECASTS])
        own[_CAME][index, here] = x[:, self.places].to(own[_CAME])
        first = done - (self.ring - 1)
        ahead = self.ahead.to(done.device)
        given = own[_FORECASTS][index, first % self.ring]
        came = own[_CAME][index[:, None], (first[:, None] + ahead) % self.ring]
        scores = anomaly_scores(
            self.preparation.targets_back(given.double().cpu().numpy()), self._plain(came),
            self.preparation,
        )  # fmt: skip
        return torch.from_numpy(np.where((first < 0).cpu().numpy(), np.nan, scores))

    def _plain(self, came: Float[Tensor, "b h k"]) -> np.ndarray:
        channels = [self.preparation.channels[place] for place in self.places]
        std, mean = (np.array([getattr(item, name) for item in channels])
                     for name in ("std", "mean"))  # fmt: skip
        values = came.double().cpu().numpy() * std + mean
        return np.asarray(values.reshape(len(values), -1))
