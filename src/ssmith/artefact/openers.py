"""Programs that are to open a cut model, and what each of them takes."""

from __future__ import annotations

from typing import Any, Literal, get_args

from torch import nn

from ssmith.artefact.portable import YES, portable
from ssmith.core.errors import UnsupportedError
from ssmith.core.plan import Plan
from ssmith.core.unit import Mode
from ssmith.families import sites
from ssmith.families.mamba2.family import MAMBA2

Opener = Literal["engine", "stock", "llama.cpp", "vllm"]
OPENERS: tuple[Opener, ...] = get_args(Opener)
_ON_CUDA, _HEADS, _CONV = (128, 256), 16, 128
"""State sizes, and divisors of head width and of channels, that llama.cpp's CUDA kernels take."""


def check_opens(
    opener: Opener, model: nn.Module, plan: Plan, mode: Mode | None = None
) -> tuple[str, str]:
    """Return where a model will open that a plan cuts, and what else a user must know of that.

    ``engine`` is ssmith, which opens everything; ``stock`` is transformers; ``llama.cpp`` what its
    converter and loader take of stock models; ``vllm`` reads the configurations of stock models.
    Raises `UnsupportedError` if the program will not open it, and says why; weights are not looked
    at.
    """
    trial, said = portable(model, plan, mode)
    if opener == "engine":
        return said, ""
    reason = "" if said == YES else said
    if opener == "llama.cpp" and not reason:
        reason = _not_converted(trial)
    if reason:
        raise UnsupportedError(
            f"{opener} would not open the result: {reason}",
            allowed="cuts that leave every layer alike, in sizes a configuration can say",
            next_step="choose another unit, method or mode, or leave --target out",
        )
    if opener == "vllm":
        return said, "vLLM reads the configuration of stock transformers; it was not run here"
    return said, _beside_cuda(trial) if opener == "llama.cpp" else ""


def _not_converted(model: Any) -> str:
    """Return why llama.cpp's converter refuses a stock model; empty if it takes it."""
    config = model.config
    if config.model_type == "mamba" and config.intermediate_size != 2 * config.hidden_size:
        return (
            f"it takes inner channels of twice the width, {2 * config.hidden_size}, and these are "
            f"{config.intermediate_size}"
        )
    return ""


def _beside_cuda(model: Any) -> str:
    """Return what keeps a model's scans from llama.cpp's CUDA kernels; empty if nothing does."""
    for site in sites(model).values():
        if site.family is not MAMBA2:
            continue
        mixer: Any = site.module
        states, width = int(mixer.ssm_state_size), int(mixer.head_dim)
        channels = int(mixer.conv1d.weight.shape[0])
        if states not in _ON_CUDA or width % _HEADS or channels % _CONV:
            return (
                f"llama.cpp runs its scans on the CPU: on CUDA they take {_ON_CUDA[0]} or "
                f"{_ON_CUDA[1]} states, heads a multiple of {_HEADS} wide and a multiple of "
                f"{_CONV} channels in the convolution, and these are {states}, {width}, {channels}"
            )
    return ""
