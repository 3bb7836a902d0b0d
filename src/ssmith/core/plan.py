"""Plan: which units stay and every new value, as files that can be read, edited and compared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool
from safetensors.torch import save as to_safetensors
from torch import Tensor

from ssmith.core.errors import PlanError
from ssmith.core.files import read_json, to_json, write_bytes
from ssmith.core.findings import Finding
from ssmith.core.layers import count_kept
from ssmith.core.plan_masks import mask_as_json, packed, read_mask, read_tensors

PLAN = "plan.json"
VERSION = 2
_KEYS = {"version", "model_digest", "cuts", "tensors", "tensors_sha256", "findings", "facts"}
_CUT_KEYS = {"unit", "semantics", "method", "budget", "threshold", "sites"}
_KINDS: dict[str, Any] = {
    "unit": str,
    "semantics": str,
    "method": dict,
    "budget": dict,
    "threshold": float | int | None,
    "sites": dict,
}


@dataclass(frozen=True, kw_only=True)
class Cut:
    """What stays of one kind of unit.

    Args:
        unit: what is cut, e.g. ``"state"``.
        keep: by site, or by site and what is cut in it (``"layers.0.mixer.in_proj.weight"``), a
            bool mask in the grid of the unit as it is after the cuts before; True = keep.
        semantics: what a cut unit does (see `Unit`); ``"remove"``: there is none.
        method: what chose, and its settings, JSON-ready.
        budget: under which budget, JSON-ready.
        threshold: the smallest score kept, where one global threshold was drawn.
    """

    unit: str
    keep: dict[str, Bool[Tensor, "..."]]
    semantics: str = "remove"
    method: dict[str, Any] = field(default_factory=dict)
    budget: dict[str, Any] = field(default_factory=dict)
    threshold: float | None = None

    @property
    def total(self) -> int:
        """Units before the cut."""
        return sum(mask.numel() for mask in self.keep.values())

    @property
    def kept(self) -> int:
        """Units after the cut."""
        return count_kept(self.keep)

    @property
    def sparsity(self) -> float:
        """Fraction of units removed, in [0, 1]."""
        return 1.0 - self.kept / self.total if self.total else 0.0

    def __str__(self) -> str:
        chosen = self.method.get("name")
        head = f"keep {self.kept} of {self.total} {self.unit} ({self.sparsity:.1%} removed)"
        rows = [
            f"  {name}: keep {int(mask.sum())} of {mask.numel()}"
            for name, mask in self.keep.items()
        ]
        return "\n".join([head + (f" by {chosen}" if chosen else ""), *rows])


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What will become of a model, decided but not yet done: complete, so that it can be redone.

    ``prune_(model, plan)`` makes the very model that the plan came from, bit for bit.

    Args:
        cuts: in order, each of the model that the ones before left.
        values: by dotted name, every tensor of the result that is not just the dense one cut:
            refitted weights, skip weights, offsets; in the shape it has after the cuts.
        model_digest: SHA-256 over the weights it was made for.
        findings: everything that was excepted, with its reason.
        facts: what was measured while it was made (stability, errors), JSON-ready.
    """

    cuts: tuple[Cut, ...]
    model_digest: str
    values: Mapping[str, Tensor] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    def cut(self, unit: str) -> Cut:
        """Return the first cut of a unit."""
        for item in self.cuts:
            if item.unit == unit:
                return item
        raise KeyError(unit)

    def files(self, name: str = PLAN) -> dict[str, bytes]:
        """Return the plan as files."""
        tensors = {
            f"values/{key}": value.detach().cpu().contiguous() for key, value in self.values.items()
        }
        cuts = [_cut_as_json(cut, number, tensors) for number, cut in enumerate(self.cuts)]
        beside = to_safetensors(tensors) if tensors else b""
        tensor_file = str(Path(name).with_suffix(".safetensors"))
        content = {
            "version": VERSION,
            "model_digest": self.model_digest,
            "cuts": cuts,
            "tensors": tensor_file if tensors else None,
            "tensors_sha256": hashlib.sha256(beside).hexdigest() if tensors else None,
            "findings": [finding.as_dict() for finding in self.findings],
            "facts": self.facts,
        }
        return {**({tensor_file: beside} if tensors else {}), name: to_json(content).encode()}

    @staticmethod
    def places(path: str | Path) -> tuple[Path, Path]:
        """Return where `save` writes: the JSON, and the tensors beside it if there are any."""
        file = Path(path)
        file = file if file.suffix == ".json" else file / PLAN
        return file, file.with_suffix(".safetensors")

    def save(self, path: str | Path) -> None:
        """Write the plan: ``plan.json`` in a directory, or a file that ends in ``.json``.

        New values and the masks of single weights lie beside it, as safetensors.

        Args:
            path: directory, made if need be, or file.
        """
        file = self.places(path)[0]
        # The JSON last, as it names the tensors' digest.
        for name, content in self.files(file.name).items():
            write_bytes(file.parent / name, content)

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read a plan.

        Args:
            path: its file, or a directory that holds ``plan.json`` (a pruned model does).

        Returns:
            The plan.

        Raises:
            ArtefactError: if a file is missing or no JSON.
            PlanError: if it is malformed, of another version, or not all there.
        """
        path = Path(path)
        file = path / PLAN if path.is_dir() else path
        content = read_json(file, by_hand=True)
        if not isinstance(content, dict) or content.get("version") != VERSION:
            given = content.get("version") if isinstance(content, dict) else type(content).__name__
            raise PlanError(
                f"{file}: plan version is {given!r}", allowed=str(VERSION),
                next_step="make the plan again with this version of ssmith",
            )  # fmt: skip
        if set(content) != _KEYS:
            raise PlanError(
                f"{file} has {sorted(content)}", allowed=f"exactly the keys {sorted(_KEYS)}"
            )
        tensors = read_tensors(file, content["tensors"], content["tensors_sha256"])
        try:
            return cls(
                cuts=tuple(
                    _cut(number, item, tensors) for number, item in enumerate(content["cuts"])
                ),
                model_digest=_text(content["model_digest"]),
                values={
                    name.removeprefix("values/"): value
                    for name, value in tensors.items()
                    if name.startswith("values/")
                },
                findings=tuple(
                    Finding(**{**item, "units": tuple(item["units"])})
                    for item in content["findings"]
                ),
                facts=_facts(content["facts"]),
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, PlanError):
                raise
            raise PlanError(
                f"{file} is malformed near {error}",
                next_step="compare it with the output of `ssmith prune --dry-run --plan-out`",
            ) from error

    def diff(self, other: Plan) -> tuple[str, ...]:
        """Return in lines how another plan differs; nothing if both make the same model.

        Args:
            other: the other plan.

        Returns:
            One line per cut, site or value that differs.
        """
        return tuple(_differences(self, other))

    def __str__(self) -> str:
        rows = [str(cut) for cut in self.cuts]
        if self.values:
            count = sum(value.numel() for value in self.values.values())
            rows.append(f"  new values: {count:,} numbers in {len(self.values)} tensors")
        notes = [f"  note: {finding.message}" for finding in self.findings]
        return "Plan: " + "\n".join([*rows, *notes])


def _differences(one: Plan, other: Plan) -> Iterator[str]:
    if one.model_digest != other.model_digest:
        yield f"made for weights {one.model_digest[:12]}… and {other.model_digest[:12]}…"
    units = [tuple(cut.unit for cut in plan.cuts) for plan in (one, other)]
    if units[0] != units[1]:
        yield f"cuts {', '.join(units[0])} and {', '.join(units[1])}"
        return
    for first, second in zip(one.cuts, other.cuts, strict=True):
        if first.semantics != second.semantics:
            yield f"{first.unit}: cut as {first.semantics} and {second.semantics}"
        for name in sorted({*first.keep, *second.keep}):
            masks = [cut.keep.get(name) for cut in (first, second)]
            if masks[0] is None or masks[1] is None or masks[0].shape != masks[1].shape:
                shapes = [None if mask is None else tuple(mask.shape) for mask in masks]
                yield f"{name}: {first.unit} of grid {shapes[0]} and {shapes[1]}"
            elif bool((masks[0] != masks[1]).any()):
                only = [int((masks[0] & ~masks[1]).sum()), int((masks[1] & ~masks[0]).sum())]
                yield f"{name}: {only[0]} {first.unit} stay here only, {only[1]} there only"
    for name in sorted({*one.values, *other.values}):
        both = [plan.values.get(name) for plan in (one, other)]
        if both[0] is None or both[1] is None:
            yield f"{name}: a new value in {'the first' if both[1] is None else 'the second'} only"
        elif both[0].shape != both[1].shape or not torch.equal(both[0], both[1]):
            yield f"{name}: other new values"


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r}")
    return value


def _facts(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r}")
    return value


def _cut_as_json(cut: Cut, number: int, tensors: dict[str, Tensor]) -> dict[str, Any]:
    sites = {}
    for name, mask in cut.keep.items():
        kept = mask_as_json(mask)
        if kept is None:
            tensors[f"keep/{number}/{name}"] = packed(mask)
        sites[name] = {"grid": list(mask.shape), "keep": kept}
    return {
        "unit": cut.unit,
        "semantics": cut.semantics,
        "method": cut.method,
        "budget": cut.budget,
        "threshold": cut.threshold,
        "sites": sites,
    }


def _cut(number: int, content: Any, tensors: Mapping[str, Tensor]) -> Cut:
    if not isinstance(content, dict) or set(content) != _CUT_KEYS:
        raise PlanError(
            f"cut {number} is {content!r}", allowed=f"exactly the keys {sorted(_CUT_KEYS)}"
        )
    for key, kind in _KINDS.items():
        if not isinstance(content[key], kind) or isinstance(content[key], bool):
            raise PlanError(
                f"cut {number} has {key} {content[key]!r}", allowed="as ssmith wrote it"
            )
    keep = {
        name: read_mask(name, site["grid"], site["keep"], tensors.get(f"keep/{number}/{name}"))
        for name, site in content["sites"].items()
    }
    rest = {key: content[key] for key in _CUT_KEYS - {"sites"}}
    return Cut(keep=keep, **rest)
