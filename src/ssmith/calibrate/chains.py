"""Whether the blocks of a network are a chain: each is given what the one before returns.

What else blocks are given must not depend on other blocks. Blocks that are all given the same show
that at once; otherwise the network runs again with blocks that hand on what they are given.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from ssmith.calibrate.observe import ReachedError, running
from ssmith.core.trees import mapped, tensors_in

_PLAIN = (str, bool, int, float, torch.dtype, torch.device)


def blocks_of(model: nn.Module, sites: Collection[str]) -> list[str]:
    """Return the names of the parts of the container that holds all sites.

    Its parts are of one class, or it is a list of modules. Of several such containers it is a list
    rather than another one, and the one with most parts; none if there is no such container.
    """
    found: list[str] = []
    best = (False, 0)
    for name, module in model.named_modules():
        parts = [f"{name}.{child}".lstrip(".") for child, _ in module.named_children()]
        alike = len({type(child) for child in module.children()}) == 1
        held = all(any(inside(site, part) for part in parts) for site in sites)
        # A wrapper has a single part, too, but is no list of blocks.
        listed = len(parts) > 1 or isinstance(module, nn.ModuleList | nn.Sequential)
        stack = isinstance(module, nn.ModuleList)
        rank = (stack and len(parts) > 1, len(parts))
        if (alike or stack) and held and listed and rank > best:
            found, best = parts, rank
    return found


def inside(site: str, part: str) -> bool:
    """Return whether a site is a part, or inside it."""
    return f"{site}.".startswith(f"{part}.")


def replaced(tree: Any, tensors: Mapping[int, Tensor]) -> Any:
    """Return a batch with some tensors, by their place in it, replaced."""
    place = iter(range(len(list(tensors_in(tree)))))
    return mapped(tree, lambda item: tensors.get(next(place), item))


class Trace:
    """What a network's blocks are given and return, compared while the network runs once.

    ``flows``: place among the tensors that a block is given → place among those that the one before
    returns; None if this is no chain of blocks that are given the same else. ``names``: of the
    blocks, as they were called; ``given``: what they were given, ``returned``: by the last one.
    """

    def __init__(self) -> None:
        self.flows: dict[int, int] | None = {}
        self.names: list[str] = []
        self.given: list[Any] = []
        self.returned: Any = None
        self._handed: list[bool] = []
        self._first: list[Tensor] = []
        self._built: Any = None
        self._versions: list[int] = []
        self._returned: list[Tensor] = []

    @contextmanager
    def watching(self, model: nn.Module, blocks: Collection[str]) -> Iterator[None]:
        """Watch some blocks."""
        with ExitStack() as stack:
            for name in blocks:

                def before(_: nn.Module, args: Any, kwargs: Any, name: str = name) -> None:
                    self._given(name, (args, kwargs))

                block = model.get_submodule(name)
                stack.callback(block.register_forward_pre_hook(before, with_kwargs=True).remove)
                stack.callback(block.register_forward_hook(self._made).remove)
            yield

    def _given(self, name: str, given: Any) -> None:
        tensors, built = list(tensors_in(given)), _build(given)
        self.names.append(name)
        self.given.append(given)
        self._handed.append(bool(tensors) and _find(tensors[0], self._returned[:1]) is not None)
        if len(self.names) == 1:
            self._first, self._built = tensors, built
            self._versions = [_version(item) for item in tensors]
            if built is None:
                self.flows = None
        elif self.flows is not None:
            flows = self._bound(tensors) if built == self._built else None
            known = len(self.names) > 2
            self.flows = flows if not known or flows == self.flows else None

    def _made(self, _: nn.Module, __: Any, out: Any) -> None:
        self._returned, self.returned = list(tensors_in(out)), out
        # What is written in place is no longer there to be given again.
        if self._versions != [_version(item) for item in self._first]:
            self.flows = None
        if len(self.names) == 1 and self.flows is not None:
            # A block alone is a chain if it could be followed by one of its kind.
            both = (self._first[:1], self._returned[:1])
            shapes = {item.shape for tensors in both for item in tensors}
            self.flows = {0: 0} if all(both) and len(shapes) == 1 else None

    def handed_on(self, alone: Sequence[Any]) -> bool:
        """Return whether each block is given the one tensor that the one before returns.

        ``alone`` is what each is given beside it where blocks do nothing.
        """
        if len(self._returned) != 1 or not all(self._handed[1:]) or len(alone) != len(self.given):
            return False
        return all(
            _build(one) is not None
            and _build(one) == _build(other)
            and all(map(_same, list(tensors_in(one))[1:], list(tensors_in(other))[1:]))
            for one, other in zip(self.given, alone, strict=True)
        )

    def _bound(self, tensors: list[Tensor]) -> dict[int, int] | None:
        """Return which of the tensors a block is given come from the one before."""
        flows = {}
        for place, tensor in enumerate(tensors):
            source = _find(tensor, self._returned)
            shared = place < len(self._first) and _same(tensor, self._first[place])
            if source is None and not shared:
                return None
            if source is not None:
                flows[place] = source
        return flows if 0 in flows else None


def given_alone(
    model: nn.Module, blocks: Sequence[str], returned: Any, run: Callable[[], Any]
) -> list[Any]:
    """Run a network whose blocks hand on what they are given; return what each of them is given.

    ``returned`` is what a block returns. The run ends at the last block.
    """
    seen: list[Any] = []

    def before(_: nn.Module, args: Any, kwargs: Any) -> None:
        seen.append((args, kwargs))
        if len(seen) == len(blocks):
            raise ReachedError

    def handed_on() -> Any:
        return replaced(returned, {0: next(tensors_in(seen[-1]))})

    with ExitStack() as stack:
        for name in blocks:
            block = model.get_submodule(name)
            stack.enter_context(running(block, handed_on))
            stack.callback(block.register_forward_pre_hook(before, with_kwargs=True).remove)
        with suppress(ReachedError):
            run()
    return seen


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def _find(tensor: Tensor, among: list[Tensor]) -> int | None:
    known = [place for place, other in enumerate(among) if other is tensor]
    known += [place for place, other in enumerate(among) if _same(tensor, other)]
    return next(iter(known), None)


def _same(one: Tensor, other: Tensor) -> bool:
    if one is other:
        return True
    return one.dtype == other.dtype and one.shape == other.shape and bool(torch.equal(one, other))


def _build(tree: Any) -> Any:
    """Return how a batch is built, to be compared; None if it holds what may change by itself."""
    if isinstance(tree, Tensor):
        return (Tensor,)
    if tree is None or isinstance(tree, _PLAIN):
        return ("plain", tree)
    if isinstance(tree, dict):
        parts = [(key, _build(item)) for key, item in tree.items()]
        return None if any(part is None for _, part in parts) else (dict, parts)
    if isinstance(tree, list | tuple):
        items = [_build(item) for item in tree]
        return None if any(item is None for item in items) else (type(tree), items)
    return None
