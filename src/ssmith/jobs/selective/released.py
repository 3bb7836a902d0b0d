"""SparseSSM's released order for projections, with its fault: for comparison, never for use.

The released code prunes projections in a pass that starts not from the embeddings but from what the
model's last layer put out in the pass before, so that every second moment is that of inputs no
layer ever sees.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ssmith.core.tokens import TokenWindows
from ssmith.families.hf.blocks import Blocks
from ssmith.families.hf.engine import engine


@dataclass(frozen=True)
class FromLastOutput:
    """Blocks whose first one is given the last one's output.

    Args:
        blocks: the real ones.
        outputs: by row of token ids, what the last block put out.
    """

    blocks: Blocks
    outputs: dict[bytes, Float[Tensor, "l m"]]

    @property
    def layers(self) -> tuple[str, ...]:
        """Dotted names of the mixers, in the order they run."""
        return self.blocks.layers

    @property
    def lasting(self) -> bool:
        """Whether changes to a block outlive the ``with`` it was held in."""
        return self.blocks.lasting

    def embed(self, ids: Int64[Tensor, "b l"]) -> Float[Tensor, "b l m"]:
        """Return the last block's output of these rows, in place of their embeddings."""
        return torch.stack([self.outputs[_key(row)] for row in ids])

    def block(self, index: int) -> AbstractContextManager[nn.Module]:
        """Hold a block with its weights inside the ``with``."""
        return self.blocks.block(index)


@torch.no_grad()
def from_last_output(blocks: Blocks, windows: TokenWindows) -> FromLastOutput:
    """Run windows through all blocks as they are now, and start anew from what comes out.

    Args:
        blocks: in memory.
        windows: every window the walk will see.

    Returns:
        The blocks with the wrong start.

    Source: SparseSSM (arXiv 2506.09613), released code, ``ffn_sequential``.
    Differs: nothing; the fault is the point.
    """
    outputs = {}
    for row in windows.ids:
        hidden = blocks.embed(row[None])
        for index in range(len(blocks.layers)):
            with blocks.block(index) as block, engine(block):
                hidden = block(hidden)
        outputs[_key(row)] = hidden[0]
    return FromLastOutput(blocks, outputs)


def _key(row: Int64[Tensor, "l"]) -> bytes:
    return row.cpu().numpy().tobytes()
