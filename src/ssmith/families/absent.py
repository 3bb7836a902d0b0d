"""Networks whose weights stay on disk: shapes without memory, and parts read as they are needed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from torch import Tensor, nn

_SOURCE = "ssmith_source"
Change = Callable[[str, nn.Module], None]
"""What became of the network, done to one of its parts, by its name."""


@dataclass
class WeightSource:
    """Where the weights of a network without memory are.

    ``dense`` is the network as it is stored, without memory, and is never changed; ``read`` returns
    tensors by their names in it, and ``check`` raises unless all of them are there; ``changes`` are
    what was done to it since. ``digest`` is that of the network as it is now, empty until somebody
    asked.
    """

    dense: nn.Module
    read: Callable[[Collection[str]], Mapping[str, Tensor]]
    check: Callable[[], None]
    changes: tuple[Change, ...] = ()
    digest: str = ""

    def __deepcopy__(self, memo: dict[int, Any]) -> WeightSource:
        return replace(self)

    def changed_by(self, change: Change) -> None:
        """Note what every part is to go through when it is read."""
        self.changes, self.digest = (*self.changes, change), ""

    def part(self, name: str) -> nn.Module:
        """Read a part as it is now."""
        found = copy.deepcopy(self.dense.get_submodule(name))
        places: dict[int, str] = {}
        for inner, value in found.state_dict(keep_vars=True).items():
            places.setdefault(id(value), f"{name}.{inner}".lstrip("."))
        values = self.read(list(places.values()))
        fresh: dict[int, Tensor] = {}
        for owner in found.modules():
            every: list[dict[str, Any]] = [owner._parameters, owner._buffers]
            for kind in every:
                for key, value in kind.items():
                    if value is not None and id(value) in places:
                        made = values[places[id(value)]]
                        if isinstance(value, nn.Parameter):
                            made = nn.Parameter(made, requires_grad=value.requires_grad)
                        kind[key] = fresh.setdefault(id(value), made)
        for change in self.changes:
            change(name, found)
        return found


def source_of(model: nn.Module) -> WeightSource | None:
    """Return where the weights of a network without memory are; None where it holds them itself."""
    found: WeightSource | None = model.__dict__.get(_SOURCE)
    return found


def give_source_(
    model: nn.Module,
    read: Callable[[Collection[str]], Mapping[str, Tensor]],
    check: Callable[[], None],
) -> None:
    """Say where the weights of a network without memory are."""
    setattr(model, _SOURCE, WeightSource(dense=copy.deepcopy(model), read=read, check=check))


@contextmanager
def held(model: nn.Module, name: str, *, own: bool = False) -> Iterator[nn.Module]:
    """Hold a part of a network with its weights inside the block; ``own``: a copy to be changed."""
    source = source_of(model)
    if source is not None:
        yield source.part(name)
    else:
        part = model.get_submodule(name)
        yield copy.deepcopy(part) if own else part


def parts_of(model: nn.Module) -> tuple[list[str], list[str]]:
    """Return what a network is read by: its blocks, and what holds weights beside them."""
    lists = {name: part for name, part in model.named_modules() if isinstance(part, nn.ModuleList)}
    if not lists:
        return [], [name for name, part in model.named_modules() if _own(part)]
    place = max(lists, key=lambda name: sum(item.numel() for item in lists[name].parameters()))
    blocks = [f"{place}.{number}" for number in range(len(lists[place]))]
    beside = [
        name
        for name, part in model.named_modules()
        if _own(part) and not f"{name}.".startswith(f"{place}.")
    ]
    return blocks, beside


def tensors_by_name(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor of a network that is saved, by its name in order, part after part."""
    names = sorted(model.state_dict())
    if source_of(model) is None:
        state = model.state_dict()
        yield from ((name, state[name]) for name in names)
        return
    blocks, beside = parts_of(model)
    known = {*blocks, *beside}

    def part_of(name: str) -> str:
        return next(part for part in _above(name) if part in known)

    for part, own in groupby(names, key=part_of):
        with held(model, part) as module:
            state = module.state_dict()
            yield from ((name, state[name.removeprefix(f"{part}.")]) for name in own)


@contextmanager
def streaming(model: nn.Module, *, blocks: bool = True) -> Iterator[None]:
    """Let parts of a network have their weights while they are called, blocks or what is beside."""
    if source_of(model) is None:
        yield
        return
    with ExitStack() as stack:
        listed, beside = parts_of(model)
        for name in [*listed, *beside] if blocks else beside:
            part = _Filled(model, name)
            module = model.get_submodule(name)
            stack.callback(module.register_forward_pre_hook(part.fill).remove)
            stack.callback(module.register_forward_hook(part.empty).remove)
        yield


@dataclass
class _Filled:
    """A part of a network that is read before it is called, and let go of after."""

    model: nn.Module
    name: str
    full: nn.Module | None = None

    def fill(self, module: nn.Module, _: Any) -> None:
        with held(self.model, self.name) as self.full:
            _swap(module, self.full)

    def empty(self, module: nn.Module, _: Any, __: Any) -> None:
        assert self.full is not None
        _swap(module, self.full)
        self.full = None


def _swap(one: nn.Module, other: nn.Module) -> None:
    """Exchange the tensors of two modules of one build."""
    for mine, theirs in zip(one.modules(), other.modules(), strict=True):
        for kind in ("_parameters", "_buffers"):
            mine.__dict__[kind], theirs.__dict__[kind] = (
                theirs.__dict__[kind], mine.__dict__[kind],
            )  # fmt: skip


def _above(name: str) -> Iterator[str]:
    """Yield the names of everything that a tensor is part of, the innermost first."""
    while name:
        name = name.rpartition(".")[0]
        yield name


def _own(part: nn.Module) -> bool:
    """Return whether a module itself holds tensors that are saved."""
    lasting = [name for name in part._buffers if name not in part._non_persistent_buffers_set]
    return any(
        value is not None
        for value in (*part._parameters.values(), *(part._buffers[name] for name in lasting))
    )
