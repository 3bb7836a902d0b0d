"""What flows through a site in a call: input, output, the output wanted, steps that count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ssmith.calibrate.observe import Call, valid_of
from ssmith.calibrate.record import Recording
from ssmith.calibrate.shards import Group
from ssmith.core.errors import InputError
from ssmith.core.rows import Valid
from ssmith.families.parts.padding import Padding


@dataclass(frozen=True, kw_only=True)
class Flow:
    """What flows through a site in one call.

    ``wanted`` is what it should give, ``valid`` says which steps count (None: all do), ``widths``
    how wide they are (None: as usual), ``moved`` whether they stand in another order than in the
    network.
    """

    given: Float[Tensor, "b l m"]
    mask: Tensor | None = None
    output: Float[Tensor, "b l m"] | None = None
    valid: Bool[Tensor, "b l"] | None = None
    wanted: Float[Tensor, "b l m"] | None = None
    widths: Float[Tensor, "b l"] | None = None
    moved: bool = False

    def recording(self) -> Recording:
        """Return the same as refits of LTI layers read it."""
        u, y = self.given.cpu(), self.output
        if y is None:
            raise NotImplementedError("an LTI layer is recorded with its output")
        valid = self.valid
        return Recording(
            u=u, y=y.cpu(), wanted=(y if self.wanted is None else self.wanted).cpu(),
            valid=torch.ones(u.shape[:2], dtype=torch.bool) if valid is None else valid.cpu(),
            widths=None if self.widths is None else self.widths.cpu(),
        )  # fmt: skip

    def sorted(self) -> Flow:
        """Return a mixer's flow as it runs that is told of padding: valid steps first."""
        length = self.given.shape[1]
        padding = Padding.of(self.mask, length)
        if padding is None:
            return self
        steps = torch.arange(length, device=padding.order.device)
        moved = not bool(((padding.order == steps) | ~padding.valid).all())
        valid = padding.valid
        if self.valid is not None:
            valid = valid & self.valid.gather(1, padding.order)
        given = padding.sort(self.given) if moved else self.given
        return replace(self, given=given, valid=valid, mask=None, moved=moved)

    def on_cpu(self) -> Flow:
        """Return a copy on the CPU."""
        names = [item.name for item in fields(self) if isinstance(getattr(self, item.name), Tensor)]
        return replace(self, **{name: getattr(self, name).cpu() for name in names})


def flows_of(
    site: str, calls: Sequence[Call], valid: Valid, wanted: Sequence[Call] | None = None
) -> list[Flow]:
    """Return what flows through a site in one batch."""
    outputs = [None] * len(calls) if wanted is None else [call.output for call in wanted]
    return [
        Flow(
            given=call.given,
            mask=call.mask,
            output=call.output,
            valid=mask,
            wanted=output,
            widths=call.widths,
        )
        for call, mask, output in zip(calls, valid_of(valid, site, calls), outputs, strict=True)
    ]


def joined(flows: Sequence[Flow], site: str) -> Flow:
    """Return the input of all calls of a site as one batch."""
    lengths = {flow.given.shape[1] for flow in flows}
    if len(lengths) > 1:
        raise InputError(
            f"{site} is given {min(lengths)} to {max(lengths)} steps, and the method combines rows "
            "step by step",
            allowed="rows of one length",
            next_step="give rows of one length, or choose another method",
        )
    valid = None
    if any(flow.valid is not None for flow in flows):
        every = [torch.ones(flow.given.shape[:2], dtype=torch.bool) for flow in flows]
        found = zip(flows, every, strict=True)
        valid = torch.cat([every if own.valid is None else own.valid for own, every in found])
    given = torch.cat([flow.given for flow in flows])
    return Flow(given=given, valid=valid, moved=any(flow.moved for flow in flows))


def shared(flows: Sequence[Flow], group: Group) -> Sequence[Flow]:
    """Return the flows of all processes, in order of their rows; the same for each of them."""
    if group.size == 1:
        return flows
    names = [item.name for item in fields(Flow) if item.name != "moved"]
    nothing = torch.empty(0)
    mine = [
        nothing if (v := getattr(flow, name)) is None else v for flow in flows for name in names
    ]
    found = []
    for theirs in group.share(mine):
        for start in range(0, len(theirs), len(names)):
            own = zip(names, theirs[start : start + len(names)], strict=True)
            known: dict[str, Any] = {name: item for name, item in own if item.ndim > 1}
            found.append(Flow(**known))
    return found
