"""Where tuning begins: at a model with its data and head, or at an adapter that is trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Generator, Tensor, nn

from ssmith import api
from ssmith.artefact import base_digest, locate, read_adapter
from ssmith.artefact.adapter_config import OwnSection
from ssmith.artefact.tuned import base_of, head_of, is_adapter
from ssmith.core.errors import InputError
from ssmith.core.seeds import generator
from ssmith.families import SequenceModel
from ssmith.families.heads import HeadConfig, TaskModel, renew_head_, with_head
from ssmith.jobs.merge import whole
from ssmith.jobs.tuning.config import TuneConfig
from ssmith.jobs.tuning.groups import HEADS
from ssmith.jobs.tuning.training_set import TrainingSet, training_set
from ssmith.tune import adapters
from ssmith.tune.adapters import FullFineTuning, Method, Parameters
from ssmith.tune.adapters.merge import HELD
from ssmith.tune.training import join_processes


@dataclass(frozen=True, kw_only=True)
class Start:
    """The adapter that is trained on: its directory, the digest of its weights, and its tensors."""

    path: str
    sha256: str
    tensors: Mapping[str, Tensor]

    def as_dict(self) -> dict[str, str]:
        """Return what a receipt says of it."""
        return {"path": self.path, "weights_sha256": self.sha256}


@dataclass(frozen=True, kw_only=True)
class Job:
    """A model without adapters that is ready to be tuned, with what it learns.

    Its methods have that of the head among them, which is None if the base has its own; ``start``
    is the adapter that is trained on, if one is; ``digest`` is of the base.
    """

    model: nn.Module
    data: TrainingSet
    methods: tuple[Method, ...]
    base: str
    digest: str
    head: HeadConfig | None
    fresh_head: bool
    start: Start | None = None


def prepared(spec: str | Path, config: TuneConfig) -> Job:
    """Load a model, or an adapter on its base, with the data, and put a head on where needed."""
    join_processes(config.training.device)
    directory = locate(spec)
    if is_adapter(directory):
        return _going_on(spec, directory, config)
    model = api.load(spec)
    return _anew(spec, model, base_digest(model), config)


def methods_in(spec: str | Path) -> list[dict[str, Any]]:
    """Return the methods of an adapter that tuning can go on from; none of a model."""
    directory = locate(spec)
    if not is_adapter(directory):
        return []
    return [method.as_plain() for method in _own(_section(directory).methods)]


def _anew(spec: str | Path, model: nn.Module, digest: str, config: TuneConfig) -> Job:
    data = training_set(model, config)
    head, fresh = data.head, data.head is not None
    draw = generator(config.training.seed, "head")
    if head is not None and _answers(model, head):
        head, fresh = None, False
    elif head is not None:
        model = _headed(model, head, draw)
    model.to(config.training.device)
    methods = _with_head(model, data, config, fresh=fresh)
    return Job(
        model=model, data=data, methods=methods, base=_name(spec), digest=digest, head=head,
        fresh_head=fresh,
    )  # fmt: skip


def _going_on(spec: str | Path, directory: Path, config: TuneConfig) -> Job:
    """Go on from an adapter, or from the model that it makes of its base."""
    own = _section(directory)
    saved = own.methods
    if config.methods not in (saved, _own(saved)):
        return _on_top(spec, config, saved)
    model = api.load(spec)
    [name] = adapters.adapters_of(model)
    tensors = {key: value.clone() for key, value in adapters.state(model, name).items()}
    adapters.detach_(model, name)
    data = training_set(model, config)
    if data.head is not None and not _answers(model, data.head):
        raise InputError(
            f"{config.data} asks for {_said(data.head)}, and {spec} does not answer that",
            allowed="data of the task that the adapter was trained on",
            next_step="tune its base, or name the data that it was tuned on",
        )
    model.to(config.training.device)
    start = Start(path=_name(spec), sha256=own.weights_sha256, tensors=tensors)
    return Job(
        model=model, data=data, methods=saved, base=_name(base_of(directory)),
        digest=own.base_model_digest, head=head_of(directory),
        fresh_head=False, start=start,
    )  # fmt: skip


def _on_top(spec: str | Path, config: TuneConfig, saved: tuple[Method, ...]) -> Job:
    """Train another method on what an adapter made, which must be one model to be saved."""
    labels = ", ".join(method.label() for method in _own(saved))
    if config.merge is None:
        raise InputError(
            f"{spec} is an adapter of {labels}, and an adapter of other methods needs a model to "
            "stand on",
            allowed=f"its own methods, to go on training it ({labels})",
            next_step=f"merge it first: ssmith merge {spec} --out MODEL, and tune that; or add "
            "--merge stock, which leaves one model",
        )
    digest = base_digest(api.load(spec))
    return _anew(spec, whole(spec, hold=config.merge == HELD).model, digest, config)


def _section(directory: Path) -> OwnSection:
    """Return what ssmith wrote of an adapter, whose two files belong together."""
    own = read_adapter(directory)[0].own
    if own is None:
        raise InputError(
            f"{directory} is an adapter of peft, which tuning cannot go on from",
            allowed="adapters that ssmith saved",
            next_step=f"merge it: ssmith merge {directory} --out MODEL, and tune that",
        )
    return own


def _own(saved: tuple[Method, ...]) -> tuple[Method, ...]:
    """Return the methods that were asked for, without the head that came along."""
    heads = ("head", *HEADS)
    last = saved[-1]
    along = isinstance(last, Parameters) and set(last.targets) <= set(heads)
    return saved[:-1] if along and len(saved) > 1 else saved


def _answers(model: nn.Module, head: HeadConfig) -> bool:
    """Return whether a model answers by itself what a head would."""
    if isinstance(model, TaskModel):
        # How it pools is a setting of a new head.
        return bool(replace(head, pooling=model.head_config.pooling) == model.head_config)
    if not isinstance(model, SequenceModel):
        return False
    own = model.config
    return (own.task, own.classes, own.outputs) == (head.task, head.classes, head.outputs)


def _headed(model: nn.Module, head: HeadConfig, draw: Generator) -> nn.Module:
    if isinstance(model, SequenceModel):
        renew_head_(model, head, draw)
        return model
    return with_head(model, head, draw)


def _with_head(
    model: nn.Module, data: TrainingSet, config: TuneConfig, *, fresh: bool
) -> tuple[Method, ...]:
    """Return the methods, with the head among what is trained."""
    everything = any(isinstance(m, FullFineTuning) and m.scope == "all" for m in config.methods)
    wanted = fresh if config.train_head is None else config.train_head
    if everything or not wanted or data.head is None:
        return config.methods
    names = [name for name in HEADS if name in dict(model.named_children())]
    if isinstance(model, SequenceModel):
        names = ["head"]
    return (*config.methods, Parameters(targets=tuple(names)))


def _said(head: HeadConfig) -> str:
    classes = f" of {', '.join(head.classes)}" if head.classes else ""
    return f"{head.task} with {head.outputs} outputs{classes}"


def _name(spec: str | Path) -> str:
    path = Path(spec)
    return str(path.resolve()) if path.is_dir() else str(spec)
