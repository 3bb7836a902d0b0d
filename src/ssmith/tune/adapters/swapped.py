"""Modules that heed their adapters: a swap of class per instance, which leaves all names alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from jaxtyping import Complex, Float, Int64
from torch import Tensor, nn

from ssmith.families import LTILayer
from ssmith.families.lti import Discrete
from ssmith.families.parts.hooks import check_rows, expanded
from ssmith.tune.adapters.slot import Slot, slot_of

_PLAIN = "_ssmith_plain_class"
_TUNED = "_ssmith_tuned"


def heed_(module: nn.Module) -> None:
    """Make a module heed the parts in its slot: its trained parameters, and its output.

    Its parameters, names and ``state_dict`` stay as they are; its class becomes a subclass of it.
    """
    slot = slot_of(module)
    names = (
        set() if slot is None else {name for name in module._parameters if _is_tuned(slot, name)}
    )
    module.__class__ = _subclass(plain_class(type(module)), tuple(sorted(names)))


def unheed_(module: nn.Module) -> None:
    """Give a module its own class back."""
    module.__class__ = plain_class(type(module))


def plain_class(kind: type) -> Any:
    """Return the class a module had before it heeded adapters; its own if it never did."""
    return kind.__dict__.get(_PLAIN, kind)


def _is_tuned(slot: Slot, parameter: str) -> bool:
    return any(
        getattr(part, "parameter", None) == parameter
        for adapter in slot.adapters()
        for _, part in slot.of(adapter)
    )


@cache
def _subclass(plain: Any, tuned: tuple[str, ...]) -> Any:
    body: dict[str, Any] = {
        _PLAIN: plain, _TUNED: tuned, "__module__": plain.__module__, "__doc__": plain.__doc__,
        "__qualname__": plain.__qualname__, "__reduce_ex__": _reduce,
    }  # fmt: skip
    body |= {name: property(_reader(name)) for name in tuned}
    if issubclass(plain, nn.Linear):
        body["forward"] = _linear_forward
    if issubclass(plain, LTILayer):
        body |= {"forward": _lti_forward, "scan": _lti_scan, "step": _lti_step}
        body["varied"] = _lti_varied
        body["initial_state"] = _lti_initial_state
    return type(plain.__name__, (plain,), body)


def _reader(name: str) -> Callable[[Any], Any]:
    """Return the getter of a parameter that adapters may stand in for."""

    def read(self: Any) -> Tensor | None:
        base: Tensor | None = self._parameters[name]
        slot = slot_of(self)
        if base is None or slot is None:
            return base
        value = slot.tuned(name, base)
        return value if value.dtype == base.dtype else value.to(base.dtype)

    return read


def _renewed(plain: Any, tuned: tuple[str, ...]) -> Any:
    """Return an empty module that heeds adapters, to be filled by copying or unpickling."""
    kind = _subclass(plain, tuned)
    return kind.__new__(kind)


def _reduce(self: Any, protocol: Any) -> Any:
    """Copy and pickle by the plain class and what is read through adapters."""
    made = object.__reduce_ex__(self, protocol)
    kind = type(self)
    return (_renewed, (plain_class(kind), getattr(kind, _TUNED)), *made[2:])


def _linear_forward(self: Any, input: Tensor) -> Tensor:
    y: Tensor = plain_class(type(self)).forward(self, input)
    slot = slot_of(self)
    return y if slot is None else slot.linear(self, input, y)


def _start(layer: Any, batch: int) -> Tensor | None:
    slot = slot_of(layer)
    start = None if slot is None else slot.lti("start")
    if start is None:
        return None
    return expanded(start, batch, axes=1)


def _with_offset(layer: Any, y: Tensor) -> Tensor:
    slot = slot_of(layer)
    offset = None if slot is None else slot.lti("offset")
    if offset is None:
        return y
    if offset.ndim == 2:
        check_rows(offset, y.shape[0])
        offset = offset if y.ndim == 2 else offset[:, None]
    return y + offset


def _lti_forward(
    self: Any,
    u: Float[Tensor, "b l m"],
    lengths: Int64[Tensor, "b"] | None = None,
    widths: Float[Tensor, "b l"] | None = None,
) -> Float[Tensor, "b l m"]:
    if widths is not None:
        return _lti_varied(self, u, widths, lengths=lengths)[0]
    plain, start = plain_class(type(self)), _start(self, u.shape[0])
    # The common forward runs `scan`, which heeds the offset by itself.
    if start is None and plain.forward is not LTILayer.forward:
        return _with_offset(self, plain.forward(self, u, lengths))
    y, _ = plain.scan(self, u, start, lengths)
    return _with_offset(self, y)


def _lti_scan(
    self: Any,
    u: Float[Tensor, "b l m"],
    state: Complex[Tensor, "b s"] | None = None,
    lengths: Int64[Tensor, "b"] | None = None,
    discrete: Discrete | None = None,
) -> tuple[Float[Tensor, "b l m"], Complex[Tensor, "b s"]]:
    before = _start(self, u.shape[0]) if state is None else state
    y, last = plain_class(type(self)).scan(self, u, before, lengths, discrete)
    return _with_offset(self, y), last


def _lti_varied(
    self: Any,
    u: Float[Tensor, "b l m"],
    widths: Float[Tensor, "b l"],
    state: Complex[Tensor, "b s"] | None = None,
    lengths: Int64[Tensor, "b"] | None = None,
) -> tuple[Float[Tensor, "b l m"], Complex[Tensor, "b s"]]:
    before = _start(self, u.shape[0]) if state is None else state
    y, last = plain_class(type(self)).varied(self, u, widths, before, lengths)
    return _with_offset(self, y), last


def _lti_step(
    self: Any,
    u: Float[Tensor, "b m"],
    state: Complex[Tensor, "b s"],
    discrete: Discrete | None = None,
    out: Complex[Tensor, "b s"] | None = None,
) -> tuple[Float[Tensor, "b m"], Complex[Tensor, "b s"]]:
    y, last = plain_class(type(self)).step(self, u, state, discrete, out)
    return _with_offset(self, y), last


def _lti_initial_state(self: Any, batch_size: int) -> Complex[Tensor, "b s"]:
    """Return the state a sequence starts from."""
    start = _start(self, batch_size)
    zero: Tensor = plain_class(type(self)).initial_state(self, batch_size)
    return zero if start is None else zero + start
