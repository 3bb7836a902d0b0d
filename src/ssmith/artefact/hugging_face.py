"""Hugging Face directories: opened by transformers, from safetensors, without remote code."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from ssmith.artefact.layout import CONFIG
from ssmith.artefact.restore import restore_
from ssmith.artefact.sidecar import Sidecar
from ssmith.artefact.weights import check_finite, check_same, check_size, numbers_in
from ssmith.core.errors import ArtefactError
from ssmith.core.files import read_json, write_json
from ssmith.core.optional import require

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "tokenizer.model", "chat_template.jinja", "chat_template.json",
    "generation_config.json",
)  # fmt: skip
"""What is carried over from the directory a model was loaded from."""
_ONE_AT_A_TIME = threading.RLock()


def build(directory: Path, content: dict[str, Any]) -> nn.Module:
    """Build the language model in a Hugging Face directory, in the dtype it was saved in."""
    check_sizes(directory, content)
    with opening(directory, content) as transformers:
        model, report = transformers.AutoModelForCausalLM.from_pretrained(
            directory,
            config=config_of(transformers, directory),
            dtype="auto",
            ignore_mismatched_sizes=True,
            local_files_only=True,
            output_loading_info=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    _check_fits(_without_tied(report, model), directory)
    check_finite(model.state_dict(), directory)
    built: nn.Module = model
    return built


def config_of(transformers: Any, directory: Path) -> Any:
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


def rebuild(directory: Path, content: dict[str, Any], sidecar: Sidecar) -> nn.Module:
    """Build a language model whose configuration does not say all its sizes."""
    check_sizes(directory, content)
    with opening(directory, content) as transformers:
        model: nn.Module = transformers.AutoModelForCausalLM.from_config(
            config_of(transformers, directory)
        )
    restore_(model, sidecar, directory)
    return model


def check_sizes(directory: Path, content: dict[str, Any]) -> None:
    """Refuse a configuration of more than the weights hold, before memory is asked for it."""
    stored = numbers_in(directory)
    for size in ("hidden_size", "num_hidden_layers", "vocab_size"):
        check_size(content.get(size, 0), stored, directory)


def _without_tied(report: dict[str, Any], model: Any) -> dict[str, Any]:
    """Tie a head that is to be its embedding, if that was left out, and return what is missing.

    A load of transformers' own at the same time in another thread can make it forget that.
    """
    own, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head is None or not getattr(model.config, "tie_word_embeddings", False):
        return report
    if head.weight is not own.weight:
        head.weight = own.weight
    tied = {f"{name}.weight" for name, part in model.named_modules() if part is head}
    return {**report, "missing_keys": set(report["missing_keys"]) - tied}


def _check_fits(report: dict[str, Any], directory: Path) -> None:
    """Refuse weights that are not exactly the model's, by transformers' own account."""
    sizes = report["mismatched_keys"]
    given = {name: tuple(found) for name, found, _ in sizes}
    wanted = {name: tuple(shape) for name, _, shape in sizes}
    given |= dict.fromkeys(report["unexpected_keys"], ())
    wanted |= dict.fromkeys(report["missing_keys"], ())
    check_same(given, wanted, directory)


def copy_tokenizer(source: Path | None, scratch: Path) -> None:
    """Copy the tokeniser's files from the directory a model came from, if there is one."""
    for name in TOKENIZER_FILES:
        if source is not None and (source / name).is_file() and not (scratch / name).exists():
            shutil.copyfile(source / name, scratch / name)


def settle_config(scratch: Path) -> None:
    """Write into a saved configuration that weights which are read are not to be changed."""
    config = read_json(scratch / CONFIG)
    if config.get("rescale_prenorm_residual"):
        # transformers applies it to weights it has just read, too, and so shrinks out_proj.
        write_json(scratch / CONFIG, config | {"rescale_prenorm_residual": False})


@contextmanager
def opening(directory: Path, content: dict[str, Any]) -> Iterator[Any]:
    """Hand out transformers, silent, and turn whatever it raises inside into one error."""
    transformers = require(
        "transformers", extra="hf", purpose=f"a model of type {content['model_type']!r}"
    )
    try:
        with quiet(transformers):
            yield transformers
    except Exception as error:
        # transformers raises many kinds for a configuration that is not its own.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ArtefactError(
            f"{directory}: transformers cannot open it: {reason}",
            next_step="restore it from its source",
        ) from error


@contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """Keep transformers from printing inside the block, and other threads of ours from it.

    What it reports is raised instead. It builds and reads models under settings of the whole
    process (defaults of torch, initialisation switched off), which two loads at once would mix up.
    """
    with _ONE_AT_A_TIME, _silenced(transformers):
        yield


@contextmanager
def _silenced(transformers: Any) -> Iterator[None]:
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
