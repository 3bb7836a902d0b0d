"""Attaching adapters to a model, in place, and taking them off without a trace."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Generator, Tensor, nn

from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.findings import Finding
from ssmith.core.seeds import generator
from ssmith.families.hf import accelerate_, restore_
from ssmith.families.hf.engine import needs_engine, runs_on_engine
from ssmith.families.parts.hooks import SLOT
from ssmith.tune.adapters.method import Method
from ssmith.tune.adapters.part import Alias, Placement
from ssmith.tune.adapters.prompt import PromptPart, drop, prepend
from ssmith.tune.adapters.proof import prove as prove_adapter
from ssmith.tune.adapters.registry import (
    Registry,
    adapters_of,
    check_name,
    registry_of,
    set_registry,
    trainable,
)
from ssmith.tune.adapters.report import AttachReport
from ssmith.tune.adapters.slot import Slot, give_slot, slots
from ssmith.tune.adapters.state import state
from ssmith.tune.adapters.survey import Coverage, Survey
from ssmith.tune.adapters.swapped import heed_, unheed_
from ssmith.tune.adapters.switch import active, use_


def attach_(
    model: nn.Module,
    methods: Method | Sequence[Method],
    *,
    name: str = "default",
    allow_partial: bool = False,
    prove: bool = True,
    batch: Mapping[str, Tensor] | None = None,
    seed: int = 0,
) -> AttachReport:
    """Attach an adapter to a model, make it the active one, and prove that it acts and learns.

    The model stays the same object with the same names; the base is frozen; transformers models
    run on the engine from then on. If anything fails the model is as before.
    """
    chosen = (methods,) if isinstance(methods, Method) else tuple(methods)
    _check(model, chosen, name)
    survey = Survey.of(model)
    sites = _sites(survey, chosen, generator(seed, "adapter", name))
    coverage = _coverage(survey, chosen, sites, allow_partial=allow_partial)
    before = active(model)
    _register(model, survey, name, chosen)
    try:
        _install(survey, sites, name)
        use_(model, (name,))
        proof = prove_adapter(model, name, batch, seed=seed) if prove else {}
    except BaseException:
        detach_(model, name)
        use_(model, before)
        raise
    report = AttachReport(
        name=name,
        methods=tuple(method.label() for method in chosen),
        parameters=0,
        stored=0,
        base_parameters=sum(tensor.numel() for tensor in survey.parameters().values()),
        coverage=coverage,
        tensors={},
        proof=proof,
        findings=(*_findings(survey, sites), *_idle(proof)),
    )
    return recounted(model, report)


def recounted(model: nn.Module, report: AttachReport) -> AttachReport:
    """Return the report of an adapter with what it trains now, e.g. after its warm-up."""
    tensors = trainable(model, report.name)
    return replace(
        report,
        parameters=sum(tensor.numel() for tensor in tensors.values()),
        stored=sum(tensor.numel() for tensor in state(model, report.name).values()),
        tensors={key: tuple(tensor.shape) for key, tensor in tensors.items()},
    )


def detach_(model: nn.Module, name: str) -> None:
    """Take an adapter off; after the last one the model is what it was before the first."""
    check_name(model, name)
    use_(model, tuple(other for other in active(model) if other != name))
    for _, _, slot in list(slots(model)):
        slot.take(name)
    registry = registry_of(model)
    if registry is not None:
        del registry.methods[name]
    last = registry is None or not registry.methods
    for _, module, slot in list(slots(model)):
        if not slot.adapters() and (last or not runs_on_engine(module)):
            _clear(module)
    if registry is not None and not registry.methods:
        for key, parameter in model.named_parameters():
            parameter.requires_grad_(key in registry.trained_before)
        set_registry(model, None)
        if registry.accelerated and not any(map(needs_engine, model.modules())):
            restore_(model)


def check_complete(model: nn.Module) -> None:
    """Raise if something trains that no adapter's file would hold."""
    saved = {id(p) for name in adapters_of(model) for p in trainable(model, name).values()}
    lost = [n for n, p in model.named_parameters() if p.requires_grad and id(p) not in saved]
    if lost:
        raise InputError(
            f"{len(lost)} parameters have requires_grad and belong to no adapter, so they would "
            f"not be saved: {', '.join(lost[:3])}",
            next_step="attach Parameters(targets=[...]) for them, or freeze them",
        )


def _check(model: nn.Module, methods: tuple[Method, ...], name: str) -> None:
    if not methods or not all(isinstance(method, Method) for method in methods):
        raise InputError(f"methods is {methods!r}", allowed="at least one, e.g. StateOffset()")
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name) or hasattr(Slot(), name):
        raise InputError(
            f"adapter name {name!r}", allowed="letters, digits, _ and -, no name torch uses"
        )
    foreign = [key for key, part in model.named_modules() if type(part).__module__[:5] == "peft."]
    if foreign:
        raise UnsupportedError(
            f"the model carries adapters of peft ({foreign[0] or 'the model itself'})",
            next_step="merge_and_unload() them, or load their files with load_adapter_",
        )
    if name in adapters_of(model):
        raise InputError(
            f"adapter {name!r} is attached already", next_step="choose another name, or detach it"
        )


def _sites(survey: Survey, methods: tuple[Method, ...], draw: Generator) -> list[Placement]:
    sites = [site for method in methods for site in method.sites(survey, draw)]
    taken = set()
    for site in sites:
        if (site.owner, site.key) in taken:
            raise InputError(
                f"two methods act on {site.owner or 'the model'} as {site.key}",
                next_step="name each method once",
            )
        taken.add((site.owner, site.key))
    return sites


def _coverage(
    survey: Survey, methods: tuple[Method, ...], sites: list[Placement], *, allow_partial: bool
) -> Coverage:
    coverage = survey.coverage([site.owner for site in sites])
    if not any(method.in_layers for method in methods):
        return {"input": (1, 1)}
    matched, total = coverage.get("ssm", (0, 0))
    whole = any(not method.in_layers for method in methods)
    if matched < total and not whole and not allow_partial:
        reach = ", ".join(f"{kind} {got}/{all_}" for kind, (got, all_) in coverage.items())
        raise InputError(
            f"the adapter reaches only some layers: {reach}",
            allowed="methods and targets that reach every state space layer",
            next_step="name targets inside them, or set allow_partial to true",
        )
    return coverage


def _register(model: nn.Module, survey: Survey, name: str, methods: tuple[Method, ...]) -> None:
    registry = registry_of(model)
    if registry is None:
        before = frozenset(key for key, p in model.named_parameters() if p.requires_grad)
        fresh = not all(map(runs_on_engine, survey.mixers.values()))
        if fresh:
            accelerate_(model)
        registry = Registry(trained_before=before, accelerated=fresh)
        set_registry(model, registry)
        model.requires_grad_(False)
    registry.methods[name] = methods


def _install(survey: Survey, sites: list[Placement], name: str) -> None:
    for mixer in survey.mixers.values():
        # A slot, even an empty one, holds a mixer on the engine.
        give_slot(mixer)
    for site in sites:
        module = survey.modules[site.owner]
        give_slot(module).put(name, site.key, site.part)
        if isinstance(site.part, PromptPart):
            _watch(module)
        elif site.owner not in survey.mixers:
            heed_(module)


def _watch(module: nn.Module) -> None:
    """Let prompts into a backbone, once."""
    if prepend not in module._forward_pre_hooks.values():
        module.register_forward_pre_hook(prepend, with_kwargs=True)
        module.register_forward_hook(drop)


def _clear(module: nn.Module) -> None:
    """Give a module without parts its class back, and take its slot and hooks away."""
    delattr(module, SLOT)
    unheed_(module)
    for hooks, mine in ((module._forward_pre_hooks, prepend), (module._forward_hooks, drop)):
        for key in [key for key, hook in hooks.items() if hook is mine]:
            del hooks[key]
    module.__dict__.pop("_ssmith_virtual", None)


def _idle(proof: dict[str, float]) -> list[Finding]:
    silent = [key for key, norm in proof.items() if norm == 0.0]
    if not silent:
        return []
    text = (
        f"{len(silent)} tensors got no gradient in the proof, first {silent[0]}: the base model's "
        "own gets none either"
    )
    return [Finding(layer="", kind="idle", message=text)]


def _findings(survey: Survey, sites: list[Placement]) -> tuple[Finding, ...]:
    found = [
        Finding(layer=name, kind="foreign", message=f"{name} runs transformers' own code: {reason}")
        for name, reason in survey.foreign.items()
    ]
    for site in sites:
        keep = getattr(site.part, "keep", None)
        if isinstance(keep, Tensor) and not isinstance(site.part, Alias):
            gone = int((~keep).sum())
            text = f"{site.owner}: {gone} pruned numbers of {keep.numel()} stay as they are"
            found.append(Finding(layer=site.owner, kind="pruned", message=text))
        found += [
            Finding(
                layer=site.owner,
                kind="inert",
                message=f"{site.owner}: {tensor} gets no gradient by its initialisation",
            )
            for tensor in site.part.inert()
        ]
    return tuple(found)
