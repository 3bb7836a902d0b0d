"""Hugging Face directories: opened by transformers, from safetensors, without remote code."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ssmith.artefact.layout import WEIGHTS
from ssmith.artefact.weights import check_finite, check_size, missing_weights
from ssmith.core.errors import ArtefactError, SsmithError
from ssmith.core.files import read_json
from ssmith.core.optional import require
from ssmith.families.mamba.selective import SelectiveLayer

INDEX = "model.safetensors.index.json"


def build(directory: Path, content: dict[str, Any]) -> nn.Module:
    """Build the language model in a Hugging Face directory, in the dtype it was saved in.

    Args:
        directory: of the model.
        content: its configuration.

    Returns:
        A transformers language model.

    Raises:
        ArtefactError: if a file is missing, truncated, a pickle, or belongs to another model.
        ModelError: if a weight is not finite.
        MissingExtraError: if transformers is not installed.
    """
    transformers = require(
        "transformers", extra="hf", purpose=f"a model of type {content['model_type']!r}"
    )
    held = sum(numbers_in(path) for path in files_of(directory))
    for size in ("hidden_size", "num_hidden_layers", "vocab_size"):
        check_size(content.get(size, 0), held, directory)
    try:
        with quiet(transformers):
            model, report = transformers.AutoModelForCausalLM.from_pretrained(
                directory,
                config=_config(transformers, directory),
                dtype="auto",
                ignore_mismatched_sizes=True,
                local_files_only=True,
                output_loading_info=True,
                trust_remote_code=False,
                use_safetensors=True,
            )
    except Exception as error:
        # transformers raises many kinds for a configuration that is not its own.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ArtefactError(
            f"{directory}: transformers cannot open it: {reason}",
            next_step="restore it from its source",
        ) from error
    _check_fits(report, directory)
    check_finite(model.state_dict(), directory)
    built: nn.Module = model
    return built


def _config(transformers: Any, directory: Path) -> Any:
    """Return a configuration under which no weight that was read is changed.

    transformers' Mamba divides the output projections by the root of the number of layers whenever
    it initialises with ``rescale_prenorm_residual``, also those it has just read from a file.
    """
    config = transformers.AutoConfig.from_pretrained(
        directory, local_files_only=True, trust_remote_code=False
    )
    if getattr(config, "rescale_prenorm_residual", False):
        config.rescale_prenorm_residual = False
    return config


def build_unequal(
    directory: Path, content: dict[str, Any], state_sizes: Mapping[str, int]
) -> nn.Module:
    """Build a language model whose selective layers hold unequal numbers of states.

    Args:
        directory: of the model.
        content: its configuration.
        state_sizes: states per channel, by the mixer's name.

    Returns:
        A transformers language model in the dtype of its weights, in evaluation mode.

    Raises:
        ArtefactError: if a file is missing or truncated, or sizes or weights do not fit.
        ModelError: if a weight is not finite.
        MissingExtraError: if transformers is not installed.
    """
    transformers = require(
        "transformers", extra="hf", purpose=f"a model of type {content['model_type']!r}"
    )
    tensors: dict[str, Tensor] = {}
    for path in files_of(directory):
        numbers_in(path)
        tensors |= load_file(path)
    check_finite(tensors, directory)
    settings = transformers.AutoConfig.from_pretrained(directory, local_files_only=True)
    settings.state_size = max(state_sizes.values())
    with quiet(transformers):
        model: Any = transformers.AutoModelForCausalLM.from_config(settings)
    dtypes = {value.dtype for value in tensors.values() if value.is_floating_point()}
    model = model.to(dtypes.pop()) if len(dtypes) == 1 else model
    try:
        for name, count in state_sizes.items():
            layer = SelectiveLayer(name, model.get_submodule(name))
            layer.shrink_columns_(torch.arange(layer.n) < count)
        report = model.load_state_dict(tensors, strict=False)
    except (SsmithError, AttributeError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ArtefactError(
            f"{directory}: sizes and weights do not belong together: {reason}",
            next_step="restore it from its source",
        ) from error
    model.tie_weights()
    tied = set(getattr(model, "_tied_weights_keys", None) or ())
    missing = [name for name in report.missing_keys if name not in tied]
    _check_fits(
        {
            "missing_keys": missing, "unexpected_keys": report.unexpected_keys,
            "mismatched_keys": [],
        },
        directory,
    )  # fmt: skip
    built: nn.Module = model.eval()
    return built


def _check_fits(report: dict[str, Any], directory: Path) -> None:
    """Refuse weights that are not exactly the model's, by transformers' own account."""
    sizes = [
        f"{name} is {tuple(found)}, not {tuple(wanted)}"
        for name, found, wanted in report["mismatched_keys"]
    ]
    faults = {
        "lack": report["missing_keys"], "hold unknown": report["unexpected_keys"], "differ": sizes,
    }  # fmt: skip
    said = [f"{kind} {sorted(names)[:3]}" for kind, names in faults.items() if names]
    if said:
        raise ArtefactError(
            f"{directory}: the weights {', '.join(said)}",
            next_step="the file belongs to another model; restore it from its source",
        )


def files_of(directory: Path) -> list[Path]:
    """Return the files of the weights: one, or the shards an index names."""
    if (directory / WEIGHTS).is_file() or not (directory / INDEX).is_file():
        return [directory / WEIGHTS]
    content = read_json(directory / INDEX)
    shards: Any = content.get("weight_map") if isinstance(content, dict) else None
    named = set(shards.values()) if isinstance(shards, dict) else set()
    if not named or not all(isinstance(name, str) and Path(name).name == name for name in named):
        raise ArtefactError(
            f"{directory / INDEX} names no files", next_step="restore it from its source"
        )
    return [directory / name for name in sorted(named)]


def numbers_in(path: Path) -> int:
    """Count a file's numbers, and refuse it if header and length do not agree; reads no tensor."""
    if not path.is_file():
        raise missing_weights(path)
    try:
        with safe_open(path, framework="pt") as file:
            shapes = [file.get_slice(name).get_shape() for name in file.offset_keys()]
    except (SafetensorError, OSError) as error:
        raise ArtefactError(
            f"{path} is truncated or not safetensors ({error})",
            next_step="restore it from its source",
        ) from error
    return sum(map(math.prod, shapes))


@contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """Keep transformers from printing inside the block: what it reports is raised instead."""
    settings = transformers.utils.logging
    shown, level = settings.is_progress_bar_enabled(), settings.get_verbosity()
    settings.disable_progress_bar()
    settings.set_verbosity_error()
    try:
        yield
    finally:
        settings.set_verbosity(level)
        if shown:
            settings.enable_progress_bar()
