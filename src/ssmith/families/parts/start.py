"""What a mixer's first step starts from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ssmith.families.parts.cache import Carried
from ssmith.families.parts.convolving import last_inputs
from ssmith.families.parts.hooks import Hooks, expanded


def start(
    mixer: Any,
    hooks: Hooks,
    batch: int,
    run: Callable[[Tensor, Carried], tuple[Tensor, Tensor]],
    *,
    axes: int,
) -> Carried:
    """Return nothing, a given state of so many axes, or what a prefix leaves of it.

    The prefix is run once, and its states are handed to every sequence of the batch. ``run`` gives
    the inputs of the convolution and the last state, of hidden inputs from a start.
    """
    given, once = hooks.initial_state, 1 if hooks.prefix is not None else batch
    before = Carried() if given is None else Carried(recurrent=expanded(given, once, axes=axes))
    if hooks.prefix is None:
        return before
    raw, h = run(hooks.prefix.to(mixer.in_proj.weight.dtype)[None], before)
    return Carried(
        conv=last_inputs(raw, mixer.conv1d.kernel_size[0]).expand(batch, -1, -1),
        recurrent=h.expand(batch, *h.shape[1:]),
        virtual=True,
    )
