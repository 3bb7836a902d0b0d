"""Memory: peak of a forward pass, states and parameters, all measured in bytes."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ssmith.core.errors import UnsupportedError
from ssmith.core.rows import Rows
from ssmith.core.running import evaluating
from ssmith.core.sections import MemorySection, Missing, Pair
from ssmith.core.trees import place_of
from ssmith.evaluation.runs import runs_of

_HOW_CPU = (
    "bytes of all tensors alive at once during one forward pass, beyond parameters and inputs; "
    "every operation was watched, scratch space inside an operation is not seen"
)
_HOW_CUDA = "torch.cuda.max_memory_allocated during one forward pass, beyond parameters and inputs"


class _LiveBytes(TorchDispatchMode):
    """Follow the storages that operations return, from their birth to their death."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.current = 0
        self.peak = 0
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run one operation; what it returns and did not get is new memory."""
        for tensor in _tensors([args, kwargs or {}]):
            self._add(tensor, new=False)
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            self._add(tensor, new=True)
        self.peak = max(self.peak, self.current)
        return result

    def _add(self, tensor: Tensor, *, new: bool) -> None:
        storage = tensor.untyped_storage()
        key = id(storage)
        if key in self._known:
            return
        size = storage.nbytes() if new else 0
        self.current += size

        def release(_: weakref.ref[torch.UntypedStorage]) -> None:
            del self._known[key]
            self.current -= size

        self._known[key] = weakref.ref(storage, release)


def _tensors(thing: Any, seen: set[int] | None = None) -> list[Tensor]:
    """Return all tensors an object holds, at any depth, each once."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return []
    seen.add(id(thing))
    if isinstance(thing, Tensor):
        return [thing]
    inner: Any = ()
    if isinstance(thing, Mapping):
        inner = thing.values()
    elif isinstance(thing, list | tuple):
        inner = thing
    elif hasattr(thing, "__dict__") and not isinstance(thing, type | nn.Module):
        inner = vars(thing).values()
    return [tensor for item in inner for tensor in _tensors(item, seen)]


def peak_bytes(run: Callable[[], object], device: torch.device | str = "cpu") -> int:
    """Return the most bytes that ``run`` held at once, beyond what was there before.

    On CUDA the allocator is asked. On the CPU every operation is watched and the storages alive
    are summed, so the number is the same on every run; scratch space inside one operation is
    not seen. The result of ``run`` counts, its inputs and the parameters do not.
    """
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        base = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device) - base)
    watch = _LiveBytes()
    with watch:
        run()
    return watch.peak


def forward_peak_bytes(model: nn.Module, rows: Rows) -> int:
    """Return the peak bytes of one forward pass (see `peak_bytes`)."""
    runs = runs_of(model, rows)
    with runs.around(), evaluating(model):
        return peak_bytes(runs.batch, place_of(model))


def state_bytes(model: nn.Module, rows: Rows) -> int:
    """Return the bytes one more row costs between two steps.

    What all rows share (discretised parameters) is not counted: the state of two is compared with
    the state of one, after a few steps.
    """
    runs = runs_of(model, rows)
    with runs.around(), evaluating(model):
        one, two = (
            sum(item.numel() * item.element_size() for item in _tensors(runs.state(count)))
            for count in (1, 2)
        )
    return two - one


def parameter_bytes(model: nn.Module) -> int:
    """Return the bytes of all parameters and buffers, shared ones counted once."""
    tensors = {id(item): item for item in [*model.parameters(), *model.buffers()]}
    return sum(item.numel() * item.element_size() for item in tensors.values())


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Memory of two models, in bytes, each pair (before, after).

    ``state`` is of one sequence between two steps, None if a model cannot step, with the reason;
    ``parameters`` count buffers as well.
    """

    how: str
    batch_size: int
    length: int
    peak_forward: tuple[int, int]
    state: tuple[int, int] | None
    why_null: str
    parameters: tuple[int, int]

    def section(self) -> MemorySection:
        """Return the memory section of a receipt."""
        state = None if self.state is None else Pair.of(self.state)
        return MemorySection(
            how=self.how,
            batch_size=self.batch_size,
            length=self.length,
            peak_forward_bytes=Pair.of(self.peak_forward),
            state_bytes_per_sequence=state or Missing(why=self.why_null),
            parameter_bytes=Pair.of(self.parameters),
        )


def measure_memory(before: nn.Module, after: nn.Module, rows: Rows) -> Memory:
    """Measure two networks on the same batch.

    A network that cannot step has no state, with the reason.
    """
    state, why = None, ""
    try:
        state = state_bytes(before, rows), state_bytes(after, rows)
    except UnsupportedError as error:
        why = error.what
    runs = runs_of(before, rows)
    return Memory(
        how=_HOW_CUDA if place_of(before).type == "cuda" else _HOW_CPU,
        batch_size=runs.rows,
        length=runs.length,
        peak_forward=(forward_peak_bytes(before, rows), forward_peak_bytes(after, rows)),
        state=state,
        why_null=why,
        parameters=(parameter_bytes(before), parameter_bytes(after)),
    )
