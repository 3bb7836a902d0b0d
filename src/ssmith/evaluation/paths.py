"""Parity of paths: a model gives the same numbers whichever way it is run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from ssmith.core.errors import InputError
from ssmith.core.progress import Progress, silent
from ssmith.core.running import evaluating
from ssmith.core.seeds import generator
from ssmith.core.settings import to_mapping
from ssmith.core.tokens import TokenWindows
from ssmith.evaluation.parity import ParityCheck, compared
from ssmith.evaluation.path_rows import DOUBLE, TOLERANCES, PathParity, PathParityConfig
from ssmith.evaluation.perplexity import check_vocabulary
from ssmith.evaluation.running import copy_in
from ssmith.evaluation.token_paths import TokenPaths
from ssmith.families import SequenceModel
from ssmith.families.hf import engine
from ssmith.families.paths import require_scan, scan_backends, scan_path, use_backend

CHUNKS = (1, 3, 13)
MORE_PADDING = 7


def check_paths(
    model: nn.Module,
    config: PathParityConfig | None = None,
    text: TokenWindows | None = None,
    *,
    progress: Progress = silent,
) -> PathParity:
    """Run a model every way there is on random input, and compare what comes out.

    Whole against step by step and against chunks with a carried state, padded in a batch against
    alone, and on every path the scan has. A language model also with a state rounded to bfloat16,
    with a given first state, by the tokens it generates, and by its perplexity on a text; in its
    own dtype and in float64, as a sequence model is in float32 and float64.

    Args:
        model: a `SequenceModel`, or a transformers language model with selective layers; it is
            left as it was.
        config: what is run.
        text: what perplexity is compared on, for language models; it is not compared if None.
        progress: is told how far it is, with language models.

    Returns:
        Every comparison with its tolerance, and the paths that ran.

    Raises:
        InputError: if a setting does not apply to the model.
        DataError: if a token of the text is outside the model's vocabulary.
        UnsupportedError: if no layer is known, or the scan does not take the required path.
    """
    config = PathParityConfig() if config is None else config
    if isinstance(model, SequenceModel):
        return _sequence(model, config, text)
    with engine(model) as report:
        if config.backend is not None:
            require_scan(model, config.backend)
    if text is not None:
        check_vocabulary(model, text)
    rows: list[ParityCheck] = []
    table = TokenPaths.of(model, config, text)
    for item in table.rows():
        rows.append(item)
        if item.worst is not None:
            made = sum(other.worst is not None for other in rows)
            progress("compare", made, max(made, table.count()), item.name)
    return PathParity(
        model=type(model).__name__,
        stock=config.stock,
        paths=() if config.stock else tuple(map(_as_dict, report.paths)),
        rows=tuple(rows),
        text=None if text is None else to_mapping(text.describe()),
        rounding=table.rounding,
    )


def _sequence(
    model: SequenceModel, config: PathParityConfig, text: TokenWindows | None
) -> PathParity:
    if text is not None:
        raise InputError(
            f"text {text.name!r} for a model of sequences", allowed="a text for language models"
        )
    if config.stock:
        raise InputError(
            "stock code of a model that is ours", allowed="Hugging Face models, for stock"
        )
    if config.backend is not None:
        require_scan(model, config.backend)
    rows = list(_sequence_rows(model, config))
    if model.config.options.bidirectional:
        why = "a bidirectional model needs the future"
        rows.append(ParityCheck(name="step by step, and chunks", worst=None, why_null=why))
    return PathParity(
        model=type(model).__name__,
        paths=(_as_dict(scan_path(model)),),
        rows=tuple(rows),
    )


def _sequence_rows(model: SequenceModel, config: PathParityConfig) -> Iterator[ParityCheck]:
    single = TOLERANCES[torch.float32] * len(model.blocks)
    for dtype, tolerance in ((torch.float64, DOUBLE), (torch.float32, single)):
        twin = copy_in(model, dtype)
        x = _input(twin, config, dtype)
        with evaluating(twin):
            for name, got, wanted in _ways(twin, x, config):
                yield compared(f"{name} ({str(dtype)[6:]})", got, wanted, tolerance)


def _input(model: SequenceModel, config: PathParityConfig, dtype: torch.dtype) -> Tensor:
    draw = generator(config.seed, "path parity")
    shape = (config.batch, config.length_for(config.chunks or CHUNKS))
    device = next(model.parameters()).device
    if model.config.vocabulary is not None:
        return torch.randint(model.config.vocabulary, shape, generator=draw).to(device)
    channels = model.config.channels or 1
    return torch.randn(*shape, channels, generator=draw, dtype=torch.float64).to(device, dtype)


def _ways(
    model: SequenceModel, x: Tensor, config: PathParityConfig
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield the outputs of two ways each: in time, padded, and on every path of the scan."""
    if not model.config.options.bidirectional:
        whole, state = model(x), model.initial_state(len(x))
        for step in x.unbind(1):
            out, state = model.step(step, state)
        yield "whole against step by step", out, whole
        for chunk in config.chunks or CHUNKS:
            state = model.initial_state(len(x))
            for part in x.split(chunk, dim=1):
                out, state = model.scan(part, state)
            yield f"whole against chunks of {chunk}", out, whole
    lengths = torch.tensor(config.prompts(x.shape[1]), device=x.device)
    together = model(x, lengths)
    alone = [model(series[None, :steps]) for series, steps in zip(x, lengths, strict=True)]
    yield "padded in a batch against alone", together, torch.cat(alone)
    # What stands in the padding must not matter, so it is made as harmful as the type allows.
    filler = torch.nan if x.is_floating_point() else 0
    more = x.new_full((len(x), MORE_PADDING, *x.shape[2:]), filler)
    yield "padded more against less", model(torch.cat([x, more], dim=1), lengths), together
    with use_backend("reference"):
        judge = model(x)
    for backend in scan_backends(model)[1:]:
        with use_backend(backend):
            yield f"{backend} against reference", model(x), judge


def _as_dict(choice: Any) -> dict[str, str]:
    return {key: str(value) for key, value in asdict(choice).items()}
