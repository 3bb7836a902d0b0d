"""New language models: Mamba, Mamba-2, and a hybrid of Mamba-2, attention and feed-forward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ssmith.core.checks import check_integer
from ssmith.core.errors import InputError
from ssmith.core.optional import require
from ssmith.core.seeds import derive, seeded

_RANGE = 0.02
_SLOWEST, _FASTEST = 0.001, 0.1
_MOST_DECAY = 16.0


@dataclass(frozen=True, kw_only=True)
class MambaSize:
    """Size of a Mamba language model.

    Args:
        width: model width, ≥ 1.
        layers: number of blocks, ≥ 1.
        states: states of each channel (N), ≥ 1.
        expand: inner channels over width, ≥ 1.
        conv: taps of the causal convolution, ≥ 1.
        vocabulary: number of token ids, ≥ 2; embedding and head share their weights.
    """

    width: int
    layers: int
    states: int = 16
    expand: int = 2
    conv: int = 4
    vocabulary: int = 256

    def __post_init__(self) -> None:
        _check(self, "width", "layers", "states", "expand", "conv")
        check_integer("vocabulary", self.vocabulary, at_least=2)

    @property
    def said(self) -> str:
        """The size in words."""
        return f"Mamba, width {self.width}, {self.layers} layers, {self.states} states per channel"


@dataclass(frozen=True, kw_only=True)
class MixerSize:
    """Size of the Mamba-2 mixers of a language model, and what all of its layers share.

    Args:
        width: model width, ≥ 1.
        layers: number of layers, ≥ 1.
        states: states of each channel (N), ≥ 1.
        head_width: channels of a head, which divides ``expand`` · ``width``.
        groups: groups of heads with B and C in common, which divides the heads.
        expand: inner channels over width, ≥ 1.
        conv: taps of the causal convolution, ≥ 1.
        vocabulary: number of token ids, ≥ 2; embedding and head share their weights.

    Raises:
        InputError: if one does not divide the other.
    """

    width: int
    layers: int
    states: int = 128
    head_width: int = 64
    groups: int = 1
    expand: int = 2
    conv: int = 4
    vocabulary: int = 256

    def __post_init__(self) -> None:
        _check(self, "width", "layers", "states", "head_width", "groups", "expand", "conv")
        check_integer("vocabulary", self.vocabulary, at_least=2)
        _check_heads(self.width * self.expand, self.head_width, self.groups)

    @property
    def heads(self) -> int:
        """Heads of each mixer."""
        return self.width * self.expand // self.head_width


@dataclass(frozen=True, kw_only=True)
class Mamba2Size(MixerSize):
    """Size of a Mamba-2 language model: mixers alone."""

    @property
    def said(self) -> str:
        """The size in words."""
        return (
            f"Mamba-2, width {self.width}, {self.layers} layers of {self.heads} heads × "
            f"{self.head_width}, {self.states} states"
        )


@dataclass(frozen=True, kw_only=True)
class HybridSize(MixerSize):
    """Size of a hybrid language model, a Bamba: each layer a mixer or attention, then a SwiGLU.

    Args:
        attention: layers, from 0, that hold attention in place of a Mamba-2 mixer.
        neurons: inner width of each feed-forward, ≥ 1.
        query_heads: heads of attention, which divides the width.
        kv_heads: heads of its keys and values, which divides ``query_heads``.

    Raises:
        InputError: if one does not divide the other, or a layer of attention is not there.
    """

    attention: tuple[int, ...]
    neurons: int
    query_heads: int = 4
    kv_heads: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self, "neurons", "query_heads", "kv_heads")
        _check_heads(self.width, self.width // self.query_heads, self.kv_heads)
        absent = [layer for layer in self.attention if not 0 <= layer < self.layers]
        if absent:
            raise InputError(
                f"attention in layers {absent}", allowed=f"layers 0 … {self.layers - 1}"
            )

    @property
    def said(self) -> str:
        """The size in words."""
        return (
            f"Bamba, a hybrid: width {self.width}, {self.layers} layers, "
            f"{len(self.attention)} of attention ({self.query_heads} heads, {self.kv_heads} of "
            f"keys), the others Mamba-2 ({self.heads} heads × {self.head_width}, {self.states} "
            f"states), {self.neurons} neurons each"
        )


LanguageSize = MambaSize | Mamba2Size | HybridSize
SIZES: dict[str, type[LanguageSize]] = {
    "mamba": MambaSize,
    "mamba2": Mamba2Size,
    "hybrid": HybridSize,
}
"""Sizes of the language models that can be made, by family."""


def new_language_model(size: LanguageSize, *, seed: int) -> nn.Module:
    """Build a language model with random weights.

    The weights are drawn as transformers draws them, but the embedding and the projections it
    leaves to ``initializer_range`` with a deviation of 0.02, and in a model of mixers alone the
    output projections smaller with depth, as the mamba_ssm package does. The step sizes and decays
    of a hybrid are drawn as that package draws those of Mamba-2: log-uniform in 0.001 … 0.1, and
    uniform in 1 … 16 (transformers starts a Bamba with steps of 1.3, which remember little).
    """
    if isinstance(size, MambaSize):
        return new_mamba(size, seed=seed)
    model = _new_mamba2(size, seed) if isinstance(size, Mamba2Size) else _new_hybrid(size, seed)
    draw = torch.Generator().manual_seed(derive(seed, "steps and decays"))
    for part in model.modules():
        if isinstance(getattr(part, "dt_bias", None), nn.Parameter):
            _remember_(part, draw)
    return model


def new_mamba(size: MambaSize, *, seed: int) -> nn.Module:
    """Build a Mamba language model with random weights (see `new_language_model`)."""
    settings = {
        **_common(size),
        "state_size": size.states,
        "expand": size.expand,
        "conv_kernel": size.conv,
        "rescale_prenorm_residual": True,
    }
    return _made("Mamba", settings, seed)


def _new_mamba2(size: Mamba2Size, seed: int) -> nn.Module:
    settings = {
        **_common(size),
        **_ENDS,
        "state_size": size.states,
        "expand": size.expand,
        "head_dim": size.head_width,
        "num_heads": size.heads,
        "n_groups": size.groups,
        "conv_kernel": size.conv,
        "rescale_prenorm_residual": True,
    }
    return _made("Mamba2", settings, seed)


def _new_hybrid(size: HybridSize, seed: int) -> nn.Module:
    settings = {
        **_common(size),
        **_ENDS,
        "attn_layer_indices": list(size.attention),
        "intermediate_size": size.neurons,
        "num_attention_heads": size.query_heads,
        "num_key_value_heads": size.kv_heads,
        "mamba_d_state": size.states,
        "mamba_expand": size.expand,
        "mamba_d_head": size.head_width,
        "mamba_n_heads": size.heads,
        "mamba_n_groups": size.groups,
        "mamba_d_conv": size.conv,
    }
    return _made("Bamba", settings, seed)


_ENDS = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
"""The byte 0 stands between documents."""


def _common(size: LanguageSize) -> dict[str, Any]:
    return {
        "vocab_size": size.vocabulary,
        "hidden_size": size.width,
        "num_hidden_layers": size.layers,
        "initializer_range": _RANGE,
        "tie_word_embeddings": True,
    }


def _made(name: str, settings: dict[str, Any], seed: int) -> nn.Module:
    transformers = require("transformers", extra="hf", purpose=f"a {name} language model")
    config = getattr(transformers, f"{name}Config")(**settings)
    with seeded(seed, "initial values"):
        model: nn.Module = getattr(transformers, f"{name}ForCausalLM")(config)
    if settings.get("rescale_prenorm_residual"):
        # Left on, transformers would divide the output projections again whenever it loads them.
        config.rescale_prenorm_residual = False
    return model


@torch.no_grad()
def _remember_(mixer: nn.Module, draw: torch.Generator) -> None:
    """Draw a mixer's step sizes and decays anew."""
    bias, decay = mixer.get_parameter("dt_bias"), mixer.get_parameter("A_log")
    low, high = torch.tensor([_SLOWEST, _FASTEST]).log()
    steps: Tensor = (low + (high - low) * torch.rand(bias.shape, generator=draw)).exp()
    # The inverse of softplus.
    bias.copy_(steps + (-torch.expm1(-steps)).log())
    decay.copy_((1 + (_MOST_DECAY - 1) * torch.rand(decay.shape, generator=draw)).log())


def _check(size: MambaSize | MixerSize, *names: str) -> None:
    for name in names:
        check_integer(name, getattr(size, name), at_least=1)


def _check_heads(channels: int, width: int, groups: int) -> None:
    heads = channels // max(width, 1)
    if not heads or heads * width != channels or heads % groups:
        raise InputError(
            f"{channels} channels in heads of {width}, which are in {groups} groups",
            allowed="heads that divide the channels, and groups that divide the heads",
        )
