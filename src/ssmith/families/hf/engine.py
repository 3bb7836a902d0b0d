"""Hugging Face models on our scans: a swap of the mixers' class, per instance, and back."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import Tensor, nn

from ssmith.core.errors import UnsupportedError
from ssmith.families.hf.hybrids import check_padding_is_named, places_of, remember_padding
from ssmith.families.parts.hooks import ENGINE_ONLY, SLOT
from ssmith.families.parts.stock import STOCK, kind_of, stock_of
from ssmith.families.registry import MIXERS, mixers
from ssmith.ops.backends import Backend, Op, PathChoice, choose, require_backend

_HYBRIDS = frozenset(mixer.hybrid for _, mixer in MIXERS.values() if mixer.hybrid)
# How many blocks a module is in; absent from one that runs on the engine for good.
_BLOCKS = "_ssmith_blocks"
_LOCK = threading.Lock()
# Several sequences in one row: their states would run into each other.
_PACKED = ("seq_idx", "cu_seqlens", "cu_seq_lens_q", "cu_seq_lens_k")


@dataclass(frozen=True, kw_only=True)
class EngineReport:
    """What the engine did to a model.

    Args:
        layers: dotted names of the mixers that were swapped.
        left: dotted name and reason of every mixer that was left as it is.
        paths: the path each operation takes for this model's device and dtype, and why.
    """

    layers: tuple[str, ...]
    left: tuple[tuple[str, str], ...]
    paths: tuple[PathChoice, ...]


def accelerate_(model: nn.Module, *, require: Backend | None = None) -> EngineReport:
    """Run a model's selective layers on our scans until `restore_` is called.

    Parameters, buffers, names and ``state_dict`` stay as they are; each mixer's class is replaced
    by a subclass of it, for this instance alone. Works under ``generate``, ``Trainer``, autocast
    and gradient checkpointing.

    Args:
        model: a transformers model, or any module that holds one.
        require: path the scans must take; None for any.

    Returns:
        What was swapped, what was left, and which paths run.

    Raises:
        UnsupportedError: if the model has no mixer the engine knows, or is offloaded, or its scans
            would not take the required path; it is then left as it was.
    """
    with _LOCK:
        report = _swap(model, require)
        for part in model.modules():
            part.__dict__.pop(_BLOCKS, None)
    return report


def _swap(model: nn.Module, require: Backend | None) -> EngineReport:
    found, left = mixers(model)
    if not found:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left)
        raise UnsupportedError(
            f"{type(model).__name__} has no mixer the engine can run"
            + (f" ({reasons})" * bool(left)),
            allowed=f"models with {', '.join(MIXERS)}",
            next_step="use the model as it is",
        )
    like = next(iter(found.values())).A_log
    engines = [MIXERS[kind_of(mixer)][0] for mixer in found.values()]
    operations: dict[Op, None] = dict.fromkeys(op for item in engines for op in item.ops)
    if require is not None:
        for op in {item.scan for item in engines}:
            require_backend(op, require, like)
    for mixer in found.values():
        if type(mixer) is stock_of(type(mixer)):
            mixer.__class__ = _subclass(stock_of(type(mixer)), "forward", _mix)
    for part in model.modules():
        if hasattr(part, "generate") and type(part) is stock_of(type(part)):
            part.__class__ = _subclass(stock_of(type(part)), "generate", _generate)
        if type(part).__name__ in _HYBRIDS and type(part) is stock_of(type(part)):
            part.__class__ = _subclass(stock_of(type(part)), "forward", _place)
    return EngineReport(
        layers=tuple(found), left=tuple(left), paths=tuple(choose(op, like) for op in operations)
    )


def restore_(model: nn.Module) -> tuple[str, ...]:
    """Give every module the engine swapped its own class back.

    A model that `accelerate_` was not called on is left as it is; returned are the names of the
    modules. One that carries adapters, offsets or projected states is refused: stock code would
    silently ignore them.
    """
    restored = []
    for name, part in model.named_modules():
        if needs_engine(part):
            what = "adapters" if SLOT in part._modules else min(ENGINE_ONLY & set(part._buffers))
            raise UnsupportedError(
                f"{name} carries {what}, which transformers' own code would silently ignore",
                next_step="detach or merge adapters first; what is in the model itself needs the "
                "engine",
            )
    for name, part in model.named_modules():
        if stock_of(type(part)) is not type(part):
            part.__class__ = stock_of(type(part))
            part.__dict__.pop(_BLOCKS, None)
            restored.append(name)
    return tuple(restored)


@contextmanager
def engine(model: nn.Module, *, require: Backend | None = None) -> Iterator[EngineReport]:
    """Run a model's selective layers on our scans inside the block (see `accelerate_`).

    Blocks may nest, and overlap in several threads: the last one to end restores the model. On a
    model that was accelerated for good, a block changes nothing.
    """
    with _LOCK:
        running = [part for part in model.modules() if runs_on_engine(part)]
        lasting = {id(part) for part in running if _BLOCKS not in part.__dict__}
        report = _swap(model, require)
        held = [
            part for part in model.modules() if runs_on_engine(part) and id(part) not in lasting
        ]
        for part in held:
            part.__dict__[_BLOCKS] = part.__dict__.get(_BLOCKS, 0) + 1
    try:
        yield report
    finally:
        with _LOCK:
            for part in held:
                _leave(part)


def _leave(part: nn.Module) -> None:
    """Count one block less, and restore the module after the last one."""
    if _BLOCKS not in part.__dict__:
        return
    part.__dict__[_BLOCKS] -= 1
    if part.__dict__[_BLOCKS]:
        return
    del part.__dict__[_BLOCKS]
    # What an adapter was attached to inside the block needs the engine from then on.
    if not needs_engine(part):
        part.__class__ = stock_of(type(part))


def needs_engine(part: nn.Module) -> bool:
    """Return whether a module carries what stock code would silently ignore."""
    return SLOT in part._modules or not ENGINE_ONLY.isdisjoint(part._buffers)


def runs_on_engine(mixer: nn.Module) -> bool:
    """Return whether the engine runs a module now."""
    return STOCK in type(mixer).__dict__


@cache
def _subclass(stock: Any, name: str, method: Callable[..., Any]) -> Any:
    """Return a subclass with one method replaced and the names a saved model records unchanged."""
    body = {
        name: method, STOCK: stock, "__module__": stock.__module__, "__doc__": stock.__doc__,
        "__qualname__": stock.__qualname__, "__reduce_ex__": _reduce_as_stock,
    }  # fmt: skip
    return type(stock.__name__, (stock,), body)


def _reduce_as_stock(self: Any, protocol: Any) -> Any:
    """Copy and pickle as the stock class: a copy starts without the engine.

    A mixer that carries what stock code would ignore stays on it.
    """
    made: Any = object.__reduce_ex__(self, protocol)
    stock = stock_of(type(self))
    needed = needs_engine(self)
    state = {name: value for name, value in made[2].items() if name != _BLOCKS}
    return (_renewed, (stock, needed), state, *made[3:])


def _renewed(stock: Any, on_engine: bool) -> Any:
    """Return an empty module, to be filled by copying or unpickling."""
    kind = _subclass(stock, "forward", _mix) if on_engine else stock
    return kind.__new__(kind)


def _mix(
    self: Any,
    hidden_states: Tensor,
    cache_params: Any = None,
    attention_mask: Tensor | None = None,
    **kwargs: Any,
) -> Tensor:
    """Run a mixer on our scans; of what else its model hands down, refuse what it would need."""
    packed = [name for name in _PACKED if kwargs.get(name) is not None]
    if packed:
        raise UnsupportedError(
            f"{packed[0]} says that a row holds several sequences, which the engine does not keep "
            "apart",
            allowed="one sequence a row, padded on either side, with an attention_mask",
            next_step="collate with padding instead of packing",
        )
    return MIXERS[kind_of(self)][0].forward(self, hidden_states, cache_params, attention_mask)


def _place(self: Any, *args: Any, **kwargs: Any) -> Any:
    """Run a hybrid as stock does, with each token at its place in its own sequence.

    Differs: without ``position_ids`` Bamba counts every call from 0, and padding on the right
        pushes what follows away from what it follows.
    """
    forward = stock_of(type(self)).forward
    given = dict(_signature(forward).bind_partial(self, *args, **kwargs).arguments)
    cache, mask = given.get("past_key_values"), given.get("attention_mask")
    check_padding_is_named(cache, mask)
    tokens = given.get("input_ids")
    tokens = given.get("inputs_embeds") if tokens is None else tokens
    if given.get("position_ids") is None and tokens is not None:
        past = 0 if cache is None else cache.get_seq_length()
        given["position_ids"] = places_of(mask, tokens.shape[1], past, tokens.device)
    # Decorators of transformers look settings up by name.
    out = forward(given.pop("self"), **given.pop("kwargs", {}), **given)
    remember_padding(getattr(out, "past_key_values", None), mask)
    return out


_signature = cache(inspect.signature)


def _generate(self: Any, *args: Any, **kwargs: Any) -> Any:
    """Generate as stock does, but refuse padding on the right: no token ends such a prompt."""
    mask = kwargs.get("attention_mask")
    if isinstance(mask, Tensor) and mask.ndim == 2 and not bool((mask[:, -1] != 0).all()):
        raise UnsupportedError(
            "a prompt is padded on the right, so its last step is no token to continue from",
            allowed="prompts padded on the left",
            next_step="set tokenizer.padding_side = 'left'",
        )
    return stock_of(type(self)).generate(self, *args, **kwargs)
