"""Every way to run a sequence model of ours, compared in float64 and float32."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ssmith.core.errors import InputError
from ssmith.core.running import evaluating
from ssmith.core.seeds import generator
from ssmith.evaluation.path_checks import (
    PathCheck,
    PathParityConfig,
    PathSpeed,
    compare_outputs,
    tolerance_for,
)
from ssmith.evaluation.path_speed import timed
from ssmith.evaluation.running import copy_in
from ssmith.families import SequenceModel
from ssmith.families.paths import on_path, scan_backends

CHUNKS = (1, 3, 13)
FLOAT64 = 1e-10
MORE_PADDING = 7


def sequence_checks(model: SequenceModel, config: PathParityConfig) -> Iterator[PathCheck]:
    """Compare the outputs of a sequence model on random input, run every way there is.

    Whole against step by step and against chunks with a carried state (unidirectional models),
    padded in a batch against alone, with more padding, and on every path the scan has; in float64
    and float32 copies of the model.

    Args:
        model: left as it was.
        config: what is run.

    Yields:
        One comparison after the other.

    Raises:
        InputError: if stock code is asked for, which such a model does not have.
    """
    if config.stock:
        raise InputError(
            "stock code of a model that is ours", allowed="Hugging Face models, for stock"
        )
    single = tolerance_for(torch.float32, len(model.blocks))
    tolerances = {torch.float64: FLOAT64, torch.float32: single}
    for dtype, tolerance in tolerances.items():
        twin = copy_in(model, dtype)
        x = _input(twin, config, dtype)
        with evaluating(twin):
            named = [*_in_time(twin, x, config), *_padded(twin, x), *_backends(twin, x)]
        for name, got, wanted in named:
            yield compare_outputs(f"{name} ({str(dtype)[6:]})", got, wanted, tolerance)


def sequence_speeds(model: SequenceModel, config: PathParityConfig) -> Iterator[PathSpeed]:
    """Time a sequence model on each path of its scan, in its own dtype.

    Args:
        model: left as it was.
        config: sizes of the random input.

    Yields:
        One speed after the other; its tokens are time steps.
    """
    x = _input(model, config, next(model.parameters()).dtype)
    with evaluating(model):
        for backend in scan_backends(model):
            with on_path(backend):
                seconds = timed(lambda: model(x), x)
            steps = x.shape[0] * x.shape[1]
            yield PathSpeed(work="reading", backend=backend, tokens=steps, seconds=seconds)


_Pair = tuple[str, Tensor, Tensor]


def _input(model: SequenceModel, config: PathParityConfig, dtype: torch.dtype) -> Tensor:
    draw = generator(config.seed, "path parity")
    shape = (config.batch, config.length_for(config.chunks or CHUNKS))
    device = next(model.parameters()).device
    if model.config.vocabulary is not None:
        return torch.randint(model.config.vocabulary, shape, generator=draw).to(device)
    channels = model.config.channels or 1
    return torch.randn(*shape, channels, generator=draw, dtype=torch.float64).to(device, dtype)


def _in_time(model: SequenceModel, x: Tensor, config: PathParityConfig) -> Iterator[_Pair]:
    if model.config.options.bidirectional:
        return
    whole = model(x)
    state = model.initial_state(len(x))
    for step in x.unbind(1):
        out, state = model.step(step, state)
    yield "whole against step by step", out, whole
    for chunk in config.chunks or CHUNKS:
        state = model.initial_state(len(x))
        for part in x.split(chunk, dim=1):
            out, state = model.scan(part, state)
        yield f"whole against chunks of {chunk}", out, whole


def _padded(model: SequenceModel, x: Tensor) -> Iterator[_Pair]:
    """Compare rows of unequal lengths in one batch with the same rows alone, and padded more."""
    batch, length = x.shape[:2]
    lengths = torch.tensor([max(2, length * (row + 1) // batch) for row in range(batch)])
    lengths = lengths.to(x.device)
    together = model(x, lengths)
    alone = [model(row[None, :steps]) for row, steps in zip(x, lengths, strict=True)]
    yield "padded in a batch against alone", together, torch.cat(alone)
    # What stands in the padding must not matter, so it is made as harmful as the type allows.
    filler = torch.nan if x.is_floating_point() else 0
    more = x.new_full((batch, MORE_PADDING, *x.shape[2:]), filler)
    yield "padded more against less", model(torch.cat([x, more], dim=1), lengths), together


def _backends(model: SequenceModel, x: Tensor) -> Iterator[_Pair]:
    with on_path("reference"):
        judge = model(x)
    for backend in scan_backends(model)[1:]:
        with on_path(backend):
            yield f"{backend} against reference", model(x), judge
