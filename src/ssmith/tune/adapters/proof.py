"""The proof that an adapter acts and learns, on the very path that will train."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ssmith.core.errors import ModelError, NumericalError
from ssmith.core.seeds import generator, seeded
from ssmith.families.examples import example_batch, main_output
from ssmith.tune.adapters.part import TensorPart
from ssmith.tune.adapters.registry import check_name, trainable
from ssmith.tune.adapters.registry import tensors as tensors_of
from ssmith.tune.adapters.slot import slots
from ssmith.tune.adapters.switch import active, disabled, use_

_SIZE = 0.02


def prove(
    model: nn.Module,
    name: str = "default",
    batch: Mapping[str, Tensor] | None = None,
    *,
    seed: int = 0,
) -> dict[str, float]:
    """Run one forward and backward in training mode, and show that every tensor takes part.

    All tensors of the adapter are disturbed a little, the output is compared with the base
    model's, and each must get a gradient; then everything is as before.

    Args:
        model: with the adapter attached.
        name: of the adapter.
        batch: arguments of the model's forward; random tokens or numbers if None.
        seed: of the disturbance and of the random batch.

    Returns:
        Norm of the gradient of each tensor, by its name in the model. It is 0 only where the base
        model's own parameter gets no gradient either (an expert no token was sent to), or where
        the method says that it cannot learn.

    Raises:
        ModelError: if a tensor does not act or does not learn; it names the first ones.
        NumericalError: if an output is not finite.
    """
    check_name(model, name)
    inputs = dict(example_batch(model, seed) if batch is None else batch)
    was = active(model)
    use_(model, (name,))
    tensors = trainable(model, name)
    exempt = {at for at, _, inner, part in tensors_of(model, name) if inner in part.inert()}
    try:
        with _undisturbed(model, tensors):
            norms = _norms(model, tensors, inputs, seed)
    finally:
        use_(model, was)
    silent = [key for key, norm in norms.items() if norm == 0.0 and key not in exempt]
    if silent and len(silent) < len(norms):
        idle = _idle(model, name, inputs, seed)
        silent = [key for key in silent if key not in idle]
    if silent:
        raise ModelError(
            f"{len(silent)} of {len(norms)} tensors of adapter {name!r} get no gradient on the "
            f"path that trains, first {silent[0]}",
            allowed="tensors that take part in the forward pass",
            next_step="the layer is bypassed by a fused kernel that reads its weight, or never "
            "runs; leave it out of the targets, or run on the engine (accelerate_)",
        )
    return norms


def _norms(
    model: nn.Module, tensors: dict[str, nn.Parameter], inputs: dict[str, Any], seed: int
) -> dict[str, float]:
    with torch.no_grad(), disabled(model), seeded(seed, "proof"):
        base = main_output(model(**inputs))
    draw = generator(seed, "disturbance")
    with torch.no_grad():
        for tensor in tensors.values():
            size = tensor.double().square().mean().sqrt().to(tensor) * _SIZE + _SIZE
            noise = torch.randn(tensor.shape, generator=draw, dtype=torch.float64)
            tensor.add_(noise.to(tensor) * size)
    with torch.enable_grad(), seeded(seed, "proof"):
        output = main_output(model(**inputs))
        _check_changed(base, output)
        weight = torch.randn(output.shape, generator=draw).to(output)
        (output * weight).sum().backward()
    grads = {key: tensor.grad for key, tensor in tensors.items()}
    return {
        key: 0.0 if grad is None else float(torch.linalg.vector_norm(grad.double()))
        for key, grad in grads.items()
    }


def _check_changed(base: Tensor, output: Tensor) -> None:
    if not bool(torch.isfinite(output).all()):
        raise NumericalError(
            "the model's output with the adapter is not finite", next_step="check the base model"
        )
    if torch.equal(base, output) or not output.requires_grad:
        raise ModelError(
            "the model gives exactly the same output with the adapter as without it",
            next_step="its layers are bypassed or never run; run the model on the engine",
        )


def _idle(model: nn.Module, name: str, inputs: dict[str, Any], seed: int) -> set[str]:
    """Return the trained copies of parameters that get no gradient in the base model either."""
    bases: dict[str, nn.Parameter] = {}
    for owner, module, slot in slots(model):
        for key, part in slot.of(name):
            base = module._parameters.get(getattr(part, "parameter", ""))
            if base is not None and isinstance(part, TensorPart):
                place = f"{owner}.ssmith_adapters.{name}.{key}.value".lstrip(".")
                bases[place] = base
    if not bases:
        return set()
    with _undisturbed(model, {}), disabled(model), seeded(seed, "proof"), torch.enable_grad():
        for base in bases.values():
            base.requires_grad_(True)
        try:
            main_output(model(**inputs)).square().sum().backward()
            return {
                place
                for place, base in bases.items()
                if base.grad is None or not bool(base.grad.any())
            }
        finally:
            for base in bases.values():
                base.requires_grad_(False)


@contextmanager
def _undisturbed(model: nn.Module, tensors: dict[str, nn.Parameter]) -> Iterator[None]:
    """Put values, gradients and modes of training back after the block."""
    values = {key: tensor.detach().clone() for key, tensor in tensors.items()}
    parameters = list(model.parameters())
    grads = [parameter.grad for parameter in parameters]
    modes = [(part, part.training) for part in model.modules()]
    for parameter in parameters:
        parameter.grad = None
    model.train()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = grad
        with torch.no_grad():
            for key, tensor in tensors.items():
                tensor.copy_(values[key])
