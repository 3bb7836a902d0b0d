"""Weights written part by part: the very bytes that they have when they are written at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor

from ssmith.artefact.layout import INDEX, WEIGHTS
from ssmith.artefact.weights import check_numbers
from ssmith.core.errors import ArtefactError
from ssmith.core.files import write_text, writing
from ssmith.core.optional import require
from ssmith.families.absent import held, parts_of

Convert = Callable[[dict[str, Tensor]], dict[str, Tensor]]


def write_streamed(
    model: Any, scratch: Path, names: Collection[str], *, stock: bool, limit: str = "50GB"
) -> None:
    """Write tensors of a network without memory, one part of it in memory at a time.

    ``stock``: under the names that transformers would write; more than it puts into one file, by
    ``limit`` bytes, in shards, which may hold other tensors than its own would.
    """
    loading = require("transformers.core_model_loading", extra="hf", purpose="a language model")
    convert: Convert = partial(loading.revert_weight_conversion, model) if stock else dict
    state = model.state_dict()
    shapes = convert({name: state[name] for name in names})
    files = _sharded(model, scratch, shapes, limit) if stock else {WEIGHTS: shapes}
    with ExitStack() as stack:
        places: dict[str, tuple[Any, int, int]] = {}
        for file, tensors in files.items():
            stream = stack.enter_context(writing(scratch / file))
            places |= {name: (stream, *place) for name, place in _begin(stream, tensors).items()}
        for tensors in _pieces(model, names, convert):
            check_numbers(tensors)
            for name, value in tensors.items():
                stream, start, stop = places.pop(name)
                content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
                if len(content) != stop - start:
                    raise ArtefactError(f"{name} has {len(content)} bytes, not {stop - start}")
                stream.seek(start)
                stream.write(content.numpy().tobytes())
        if places:
            raise ArtefactError(f"{next(iter(places))} is in no part of the network")


def _sharded(
    model: Any, scratch: Path, shapes: Mapping[str, Tensor], limit: str
) -> dict[str, dict[str, Tensor]]:
    """Return by file what goes into it; write the index of several."""
    hub = require("huggingface_hub", extra="hf", purpose="saving a language model")
    found = hub.split_torch_state_dict_into_shards(
        shapes, filename_pattern="model{suffix}.safetensors", max_shard_size=limit
    )
    if found.is_sharded:
        about = {"total_parameters": model.num_parameters(), **found.metadata}
        index = {"metadata": about, "weight_map": found.tensor_to_filename}
        write_text(scratch / INDEX, json.dumps(index, indent=2, sort_keys=True) + "\n")
    return {
        file: {name: shapes[name] for name in names}
        for file, names in found.filename_to_tensors.items()
    }


def _pieces(model: Any, names: Collection[str], convert: Convert) -> Iterator[dict[str, Tensor]]:
    for group in parts_of(model):
        for part in group:
            own = [name for name in names if name.startswith(f"{part}.")]
            own = own if part else [name for name in names if "." not in name]
            if own:
                with held(model, part) as module:
                    state = module.state_dict()
                    found = {name: state[name[len(part) :].lstrip(".")] for name in own}
                    yield convert(found)


def _begin(stream: Any, tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
    """Write the head of a file of safetensors; return where each tensor's bytes begin and end."""
    kinds = list(dict.fromkeys(value.dtype for value in tensors.values()))
    said = {kind: f"{place}" for place, kind in enumerate(kinds)}
    # The library says how it calls types, and which it writes first.
    tiny = to_safetensors({said[kind]: torch.zeros(1, dtype=kind) for kind in kinds})
    known = json.loads(tiny[8 : 8 + int.from_bytes(tiny[:8], "little")])
    order = sorted(
        tensors,
        key=lambda name: (known[said[tensors[name].dtype]]["data_offsets"][0], name.encode()),
    )
    head: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name in order:
        value = tensors[name]
        stop = start + value.numel() * value.element_size()
        kind = known[said[value.dtype]]["dtype"]
        head[name] = {"dtype": kind, "shape": list(value.shape), "data_offsets": [start, stop]}
        start = stop
    content = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()
    content += b" " * (-len(content) % 8)
    stream.write(len(content).to_bytes(8, "little") + content)
    begin = 8 + len(content)
    return {
        name: (begin + head[name]["data_offsets"][0], begin + head[name]["data_offsets"][1])
        for name in order
    }
