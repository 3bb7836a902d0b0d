"""Memory: peak of a forward pass, states and parameters, all measured in bytes."""

from __future__ import annotations

import dataclasses
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ssmith.core.errors import UnsupportedError
from ssmith.core.sequences import Sequences
from ssmith.evaluation.running import device_of, evaluating, inputs_for, run_forward, stepping

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


def _tensors(tree: Any) -> list[Tensor]:
    """Return all tensors in nested tuples, lists, dicts and dataclasses."""
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, Mapping):
        return [tensor for item in tree.values() for tensor in _tensors(item)]
    if isinstance(tree, list | tuple):
        return [tensor for item in tree for tensor in _tensors(item)]
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return [tensor for item in vars(tree).values() for tensor in _tensors(item)]
    return []


def peak_bytes(run: Callable[[], object], device: torch.device | str = "cpu") -> int:
    """Return the most bytes that ``run`` held at once, beyond what was there before.

    On CUDA the allocator is asked. On the CPU every operation is watched and the storages alive
    are summed, so the number is the same on every run; scratch space inside one operation is
    not seen. The result of ``run`` counts, its inputs and the parameters do not.

    Args:
        run: what to measure; called once.
        device: where it runs.

    Returns:
        Bytes ≥ 0.
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


def forward_peak_bytes(model: nn.Module, batch: Sequences) -> int:
    """Return the peak bytes of one forward pass (see `peak_bytes`)."""
    x, lengths = inputs_for(model, batch)
    with evaluating(model):
        return peak_bytes(lambda: run_forward(model, x, lengths), x.device)


def state_bytes(model: nn.Module, batch: Sequences) -> int:
    """Return the bytes one more sequence costs between two steps.

    What all sequences share (discretised parameters) is not counted: the state of two sequences
    is compared with the state of one, after a step.

    Args:
        model: a sequence model.
        batch: its first step is taken.

    Returns:
        Bytes ≥ 0.

    Raises:
        UnsupportedError: if the model cannot run step by step.
    """
    x, _ = inputs_for(model, batch)
    stepper, sizes = stepping(model), []
    with evaluating(model):
        for count in (1, 2):
            first = x[:1, 0].expand(count, *x.shape[2:])
            _, state = stepper.step(first, stepper.initial_state(count))
            sizes.append(sum(item.numel() * item.element_size() for item in _tensors(state)))
    return sizes[1] - sizes[0]


def parameter_bytes(model: nn.Module) -> int:
    """Return the bytes of all parameters and buffers, shared ones counted once."""
    tensors = {id(item): item for item in [*model.parameters(), *model.buffers()]}
    return sum(item.numel() * item.element_size() for item in tensors.values())


def peak_rss() -> int:
    """Return the largest resident memory of this process so far.

    Returns:
        Bytes.

    Raises:
        UnsupportedError: if the operating system does not tell (Windows).
    """
    try:
        import resource  # noqa: PLC0415 - absent on Windows
    except ModuleNotFoundError as error:
        raise UnsupportedError(
            "this operating system does not report peak memory", allowed="Linux or macOS"
        ) from error
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts kibibytes, macOS bytes.
    return peak if sys.platform == "darwin" else peak * 1024


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Memory of two models, in bytes, each pair (before, after).

    Args:
        how: how the peak was measured.
        batch_size: sequences in the forward pass.
        length: steps in the forward pass.
        peak_forward: peak of the forward pass.
        state: state of one sequence between two steps, None if a model cannot step.
        why_null: why ``state`` is None.
        parameters: parameters and buffers.
    """

    how: str
    batch_size: int
    length: int
    peak_forward: tuple[int, int]
    state: tuple[int, int] | None
    why_null: str
    parameters: tuple[int, int]

    def as_dict(self) -> dict[str, Any]:
        """Return the memory section of a receipt."""
        state: dict[str, Any] = {"before": None, "after": None, "why": self.why_null}
        if self.state is not None:
            state = {"before": self.state[0], "after": self.state[1]}
        return {
            "how": self.how,
            "batch_size": self.batch_size,
            "length": self.length,
            "peak_forward_bytes": {"before": self.peak_forward[0], "after": self.peak_forward[1]},
            "state_bytes_per_sequence": state,
            "parameter_bytes": {"before": self.parameters[0], "after": self.parameters[1]},
        }


def measure_memory(before: nn.Module, after: nn.Module, batch: Sequences) -> Memory:
    """Measure two models on the same batch.

    Args:
        before: the first model.
        after: the second model.
        batch: at least one sequence.

    Returns:
        The measurement; a model that cannot step has no state, with the reason.
    """
    state, why = None, ""
    try:
        state = state_bytes(before, batch), state_bytes(after, batch)
    except UnsupportedError as error:
        why = error.what
    return Memory(
        how=_HOW_CUDA if device_of(before).type == "cuda" else _HOW_CPU,
        batch_size=len(batch),
        length=batch.x.shape[1],
        peak_forward=(forward_peak_bytes(before, batch), forward_peak_bytes(after, batch)),
        state=state,
        why_null=why,
        parameters=(parameter_bytes(before), parameter_bytes(after)),
    )
