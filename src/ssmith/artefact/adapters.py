"""Adapters on disk: `adapter_config.json` and `adapter_model.safetensors`, as the ecosystem has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from ssmith.artefact.adapter_config import BASE, CONFIG, FORMAT_VERSION, AdapterConfig
from ssmith.artefact.layout import seal
from ssmith.artefact.peft_format import from_peft, is_plain_lora, to_peft, without_prefix
from ssmith.artefact.weights import missing_weights, read_tensors
from ssmith.core.directories import new_directory
from ssmith.core.errors import ArtefactError, ModelError
from ssmith.core.files import sha256_file, write_bytes, write_json
from ssmith.core.findings import Finding
from ssmith.core.receipt import versions
from ssmith.families.parts.hooks import SLOT
from ssmith.families.registry import tensors_digest
from ssmith.tune import adapters
from ssmith.tune.adapters import AttachReport, Method

WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_OURS = "SSMITH"


def base_digest(model: nn.Module) -> str:
    """Return the digest of a model without its adapters, the same before and after attaching."""
    tensors = sorted(model.state_dict().items())
    return tensors_digest((name, value) for name, value in tensors if SLOT not in name.split("."))


def save_adapter(
    model: nn.Module,
    path: str | Path,
    *,
    name: str = "default",
    base: str | None = None,
    digest: str | None = None,
    overwrite: bool = False,
    extra: Mapping[str, Any] | None = None,
    extra_files: Mapping[str, str | bytes] | None = None,
) -> Path:
    """Save an adapter as a directory that `load_adapter_` opens, and `peft` if it is plain LoRA.

    Args:
        model: with the adapter attached.
        path: the directory to make.
        name: of the adapter.
        base: name or path of the base model; what transformers knows of it if None.
        digest: of the base model; computed if None.
        overwrite: replace an earlier output, all of whose files are listed in its manifest.
        extra: JSON-ready facts that go with it (data, training).
        extra_files: further files by name (a receipt, curves).

    Returns:
        The directory.

    Raises:
        InputError: if there is no such adapter, something that trains would not be saved, or a
            further file has a name that is taken.
        OutputExistsError: if something is at ``path`` that may not be replaced.
        ArtefactError: if the disk refuses.
    """
    adapters.check_complete(model)
    tensors = {key: value.cpu().contiguous() for key, value in adapters.state(model, name).items()}
    methods = adapters.adapters_of(model)[name]
    content = to_safetensors({_PREFIX + key: value for key, value in tensors.items()})
    with new_directory(Path(path), overwrite=overwrite, sealed=True) as scratch:
        write_bytes(scratch / WEIGHTS, content)
        config = _peft_part(model, methods, tensors) | {
            BASE: base if base is not None else _base_name(model),
            "ssmith": {
                "version": FORMAT_VERSION,
                "methods": [method.as_plain() for method in methods],
                "base_model_digest": digest or base_digest(model),
                "weights_sha256": sha256_file(scratch / WEIGHTS),
                "parameters": sum(value.numel() for value in tensors.values()),
                "versions": versions(),
                "extra": dict(extra or {}),
            },
        }
        write_json(scratch / CONFIG, config)
        seal(scratch, extra_files or {})
    return Path(path)


def load_adapter_(
    model: nn.Module,
    path: str | Path,
    *,
    name: str | None = None,
    digest: str | None = None,
    any_base: bool = False,
    prove: bool = True,
    batch: Mapping[str, Tensor] | None = None,
) -> AttachReport:
    """Attach an adapter from a directory, ours or a LoRA of `peft`, and make it the active one.

    Args:
        model: the base model it was trained on.
        path: the directory.
        name: what to call it; the directory's name if None.
        digest: of the base model; computed if None.
        any_base: accept another base than it was trained on.
        prove: prove that every tensor acts on this model.
        batch: what to run the proof on; random if None.

    Returns:
        What the adapter reaches.

    Raises:
        ArtefactError: if a file is missing, damaged, or belongs to another model.
        ModelError: if the base is another one, or a tensor does not act.
        UnsupportedError: if a setting of `peft` has no counterpart here.
        InputError: if the name is taken or cannot be used.
    """
    directory = Path(path)
    config, tensors = read_adapter(directory)
    own = config.own
    findings: list[Finding] = []
    if own is None:
        methods, tensors = from_peft(config.content, tensors, directory)
        findings.append(_finding("it names no digest of its base, so the base was not checked"))
    else:
        methods = list(own.methods)
        tensors = {without_prefix(key): value for key, value in tensors.items()}
        findings += _check_base(model, own.base_model_digest, digest, any_base, directory)
    label = directory.name if name is None else name
    before = adapters.active(model)
    report = adapters.attach_(model, methods, name=label, allow_partial=True, prove=False)
    try:
        adapters.load_state_(model, label, tensors)
        proof = adapters.prove(model, label, batch) if prove else {}
    except BaseException:
        adapters.detach_(model, label)
        adapters.use_(model, before)
        raise
    return replace(report, proof=proof, findings=(*report.findings, *findings))


def read_adapter(directory: Path) -> tuple[AdapterConfig, dict[str, Tensor]]:
    """Read the two files of an adapter, and check that they belong together."""
    config = AdapterConfig.read(directory)
    weights = directory / WEIGHTS
    if not weights.is_file():
        raise missing_weights(weights)
    if config.own is not None and sha256_file(weights) != config.own.weights_sha256:
        raise ArtefactError(
            f"{weights} is not the file {CONFIG} was written with",
            next_step="restore both from their source",
        )
    return config, read_tensors(weights)


def _check_base(
    model: nn.Module, wanted: str, digest: str | None, any_base: bool, directory: Path
) -> list[Finding]:
    found = digest or base_digest(model)
    if found == wanted:
        return []
    if not any_base:
        raise ModelError(
            f"{directory} was trained on a base model with digest {wanted[:12]}…, this one has "
            f"{found[:12]}…",
            next_step="load the base it names, or pass any_base=True",
        )
    return [_finding("it was trained on another base model")]


def _finding(message: str) -> Finding:
    return Finding(layer="", kind="base", message=message)


def _base_name(model: nn.Module) -> str:
    return str(getattr(getattr(model, "config", None), "_name_or_path", "") or "")


def _peft_part(
    model: nn.Module, methods: tuple[Method, ...], tensors: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Return the part of the configuration that `peft` reads, or what tells it that it cannot."""
    if is_plain_lora(methods):
        return to_peft(model, methods[0], tensors)
    return {"peft_type": _OURS, "task_type": None, "inference_mode": True}
