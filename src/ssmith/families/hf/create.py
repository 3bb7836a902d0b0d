"""A new language model of the Mamba family."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ssmith.core.checks import check_integer
from ssmith.core.optional import require
from ssmith.core.seeds import seeded


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
        for name in ("width", "layers", "states", "expand", "conv"):
            check_integer(name, getattr(self, name), at_least=1)
        check_integer("vocabulary", self.vocabulary, at_least=2)


def new_mamba(size: MambaSize, *, seed: int) -> nn.Module:
    """Build a Mamba language model with random weights.

    The weights are drawn as transformers draws them, but the embedding and the projections it
    leaves to ``initializer_range`` with a deviation of 0.02, and the output projections smaller
    with depth, as the mamba_ssm package does.
    """
    transformers = require("transformers", extra="hf", purpose="a Mamba language model")
    config = transformers.MambaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.width,
        num_hidden_layers=size.layers,
        state_size=size.states,
        expand=size.expand,
        conv_kernel=size.conv,
        initializer_range=0.02,
        rescale_prenorm_residual=True,
        tie_word_embeddings=True,
    )
    with seeded(seed, "initial values"):
        model: nn.Module = transformers.MambaForCausalLM(config)
    # Left on, transformers would divide the output projections again whenever it loads them.
    config.rescale_prenorm_residual = False
    return model
