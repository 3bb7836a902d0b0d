"""What flows through sites while a network, or a block of it, runs; and which steps count."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn

from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.rows import Valid, where_some
from ssmith.core.trees import tensors_in


@dataclass(kw_only=True)
class Call:
    """A site, called once.

    ``place`` is its number among all calls of a pass, ``mask`` the ``attention_mask`` it was called
    with, ``output`` None where it was not asked for, ``widths`` those of uneven steps.
    """

    place: int
    given: Float[Tensor, "b l m"]
    mask: Tensor | None = None
    output: Float[Tensor, "b l m"] | None = None
    widths: Float[Tensor, "b l"] | None = None


class ReachedError(BaseException):
    """Ends a forward pass whose rest nobody needs; no ``except Exception`` on its way stops it."""


def observe(
    run: Callable[[], Any],
    sites: Mapping[str, nn.Module],
    *,
    outputs: bool = False,
    until: Mapping[str, int] | None = None,
) -> dict[str, list[Call]]:
    """Run something, and return how sites are called meanwhile.

    ``until`` says how often each site is called: the pass ends when all have been; None to run it
    through.
    """
    calls: dict[str, list[Call]] = {name: [] for name in sites}

    def reached(name: str) -> None:
        # Only the site that was called last can have been the last one.
        if until is None or len(calls[name]) < until[name]:
            return
        if all(len(calls[other]) >= until[other] for other in sites):
            raise ReachedError

    with ExitStack() as stack:
        for name, site in sites.items():

            def before(_: nn.Module, args: Any, kwargs: Any, name: str = name) -> None:
                given = next(tensors_in((args, kwargs)))
                mask, widths = kwargs.get("attention_mask"), kwargs.get("widths")
                place = sum(map(len, calls.values()))
                call = Call(place=place, given=given.detach(), mask=mask, widths=widths)
                calls[name].append(call)
                if not outputs:
                    reached(name)

            def after(_: nn.Module, __: Any, out: Any, name: str = name) -> None:
                calls[name][-1].output = next(tensors_in(out)).detach()
                reached(name)

            stack.callback(site.register_forward_pre_hook(before, with_kwargs=True).remove)
            if outputs:
                stack.callback(site.register_forward_hook(after).remove)
        with suppress(ReachedError):
            run()
    return calls


def called_with(module: nn.Module, run: Callable[[], Any]) -> tuple[Any, Any]:
    """Run something until a module is called; return the arguments, by place and by name."""
    given: list[tuple[Any, Any]] = []

    def before(_: nn.Module, args: Any, kwargs: Any) -> None:
        given.append((args, kwargs))
        raise ReachedError

    hook = module.register_forward_pre_hook(before, with_kwargs=True)
    try:
        with suppress(ReachedError):
            run()
    finally:
        hook.remove()
    return given[0]


@contextmanager
def answering(name: str, site: nn.Module, answer: Callable[[], Tensor]) -> Iterator[None]:
    """Let a site give an output that is known, rather than compute it, once."""
    answers = [answer]

    def once() -> Tensor:
        if not answers:
            raise more_calls(name)
        return answers.pop()()

    with running(site, once):
        yield


@contextmanager
def running(module: nn.Module, answer: Callable[[], Any]) -> Iterator[None]:
    """Let a module give an answer, rather than run, whenever it is called inside the block."""

    def forward(*_: Any, **__: Any) -> Any:
        return answer()

    # An attribute of the instance goes before the method of the class.
    module.forward = forward
    try:
        yield
    finally:
        del module.forward


def more_calls(name: str) -> UnsupportedError:
    """Return the error of a site that is not called as often in every batch."""
    return UnsupportedError(
        f"{name} is called more often in one batch than in the first",
        allowed="blocks that call their sites equally often, whatever the batch",
        next_step="give batches of one length",
    )


def valid_of(valid: Valid, name: str, calls: Sequence[Call]) -> list[Bool[Tensor, "b l"] | None]:
    """Return which steps of each call of a site count."""
    if valid is None or not calls:
        return [None] * len(calls)
    cure = f"give masks by site: valid=lambda batch: {{{name!r}: [one mask for each call]}}"
    if isinstance(valid, Tensor):
        if len(calls) > 1:
            raise InputError(
                f"one mask, and {name} is called {len(calls)} times",
                allowed="a mask for each call", next_step=cure,
            )  # fmt: skip
        masks: list[Tensor | None] = [valid]
    else:
        found = _named(valid, name, cure)
        masks = [found] * len(calls) if isinstance(found, Tensor | None) else list(found)
    if len(masks) != len(calls):
        raise InputError(f"{len(masks)} masks for the {len(calls)} calls of {name}", next_step=cure)
    return [_fitting(mask, call, name, cure) for mask, call in zip(masks, calls, strict=True)]


def _named(valid: Mapping[str, Any], name: str, cure: str) -> Any:
    for pattern in [name, *valid]:
        if pattern in valid and fnmatchcase(name, pattern):
            return valid[pattern]
    raise InputError(
        f"there are masks for {', '.join(valid)}, and none for {name}",
        allowed="a mask for every site; None where all steps count", next_step=cure,
    )  # fmt: skip


def _fitting(mask: Tensor | None, call: Call, name: str, cure: str) -> Tensor | None:
    if mask is None:
        return None
    if mask.shape != call.given.shape[:2]:
        raise InputError(
            f"a mask of shape {tuple(mask.shape)}, and {name} is given {tuple(call.given.shape)}",
            allowed=f"{tuple(call.given.shape[:2])}", next_step=cure,
        )  # fmt: skip
    return where_some(mask.to(call.given.device))
