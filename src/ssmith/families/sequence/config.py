"""The configuration of a sequence model: everything but the weights, as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ssmith.core.checks import check_choice, check_integer, check_number
from ssmith.core.errors import InputError, ModelError
from ssmith.core.sequences import Task
from ssmith.core.settings import from_mapping, to_mapping
from ssmith.families.lti import Initialisation, LTIOptions

Activation = Literal["gelu", "half_glu", "full_glu"]
Pooling = Literal["mean", "last"]


@dataclass(frozen=True, kw_only=True)
class SequenceConfig:
    """Shape and settings of a `SequenceModel`.

    Args:
        family: ``"s5"`` or ``"s4d"``.
        width: model width ``m``.
        states: per layer, the stored states: one number (S5: of the layer; S4D: of each channel),
            or for S4D one number per channel. Its length is the number of layers.
        channels: channels of a real-valued input series; None for tokens.
        vocabulary: number of token ids; None for a series.
        outputs: classes, targets, or for a forecast horizon × channels.
        task: what the head predicts.
        classes: names of the classes in output order, so that data can be matched to them.
        pooling: ``"mean"`` over valid steps or ``"last"`` valid step.
        intervals: whether the last channel is how long each step was, as a multiple of the usual
            one, which every layer multiplies its Δ by (S5 that runs forwards).
        activation: ``"gelu"``, ``"half_glu"`` or ``"full_glu"`` after each state space.
        dropout: probability in [0, 1), in training only.
        blocks: HiPPO blocks of S5's initialisation.
        initialisation: S4D's eigenvalues: ``"lin"``, ``"inv"`` or ``"legs"``; S5: ``"hippo"``.
        options: see `LTIOptions`.
    """

    family: Literal["s5", "s4d"]
    width: int
    states: tuple[int | tuple[int, ...], ...]
    outputs: int
    channels: int | None = None
    vocabulary: int | None = None
    task: Task = "classification"
    classes: tuple[str, ...] = ()
    pooling: Pooling = "mean"
    intervals: bool = False
    activation: Activation = "half_glu"
    dropout: float = 0.0
    blocks: int = 1
    initialisation: Initialisation = "hippo"
    options: LTIOptions = field(default_factory=LTIOptions)

    def __post_init__(self) -> None:
        check_choice("family", self.family, ("s5", "s4d"))
        check_choice("task", self.task, get_args(Task))
        check_choice("pooling", self.pooling, ("mean", "last"))
        check_choice("activation", self.activation, ("gelu", "half_glu", "full_glu"))
        # S5 has one initialisation; another word would be ignored.
        kinds = ("hippo",) if self.family == "s5" else ("hippo", "legs", "lin", "inv")
        check_choice("initialisation", self.initialisation, kinds)
        if (self.channels is None) == (self.vocabulary is None):
            raise InputError(
                f"channels {self.channels}, vocabulary {self.vocabulary}",
                allowed="exactly one of the two",
            )
        for name in ("width", "outputs", "channels", "vocabulary"):
            value = getattr(self, name)
            if value is not None or name in ("width", "outputs"):
                check_integer(name, value, at_least=1)
        check_integer("blocks", self.blocks, at_least=1)
        check_number("dropout", self.dropout, at_least=0, below=1)
        self._check_states()
        forwards = self.family == "s5" and not self.options.bidirectional
        if self.intervals and not (forwards and (self.channels or 0) > 1):
            raise InputError(
                f"intervals of steps in {self.family} of {self.channels} channels",
                allowed="s5 that runs forwards, of another channel beside them",
                next_step="leave intervals out: their channel is read as any other",
            )
        if self.classes and len(self.classes) != self.outputs:
            raise InputError(
                f"{len(self.classes)} classes for {self.outputs} outputs", allowed="one per output"
            )
        if self.task == "forecast" and (not self.channels or self.outputs % self.channels):
            raise InputError(
                f"{self.outputs} outputs for a forecast of {self.channels} channels",
                allowed="a multiple of the channels: horizon × channels",
            )

    def _check_states(self) -> None:
        if not self.states:
            raise InputError("states is empty", allowed="one entry per layer")
        for layer, entry in enumerate(self.states):
            name = f"states of layer {layer}"
            if not isinstance(entry, tuple):
                check_integer(name, entry, at_least=0)
                continue
            if self.family == "s5" or len(entry) != self.width:
                raise InputError(
                    f"{name} are {entry!r}",
                    allowed="one number, or in S4D one for each of the width's channels",
                )
            for count in entry:
                check_integer(name, count, at_least=0)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        return to_mapping(self)

    @classmethod
    def from_dict(cls, content: Any) -> SequenceConfig:
        """Build a configuration from parsed JSON."""
        try:
            return from_mapping(cls, content, where="the model's configuration")
        except InputError as error:
            raise ModelError(
                error.what, allowed=error.allowed, next_step="restore the file from its source"
            ) from error
