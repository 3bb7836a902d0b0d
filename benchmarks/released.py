"""SparseSSM's released order for projections, with its fault: for comparison, never for use.

The released code prunes projections in a pass that starts not from the embeddings but from what the
model's last layer put out in the pass before, so that every second moment is that of inputs no
layer ever sees.

Source: SparseSSM (arXiv 2506.09613), released code, ``ffn_sequential``.
Differs: the convolution is cut as the depthwise map it is, not as a dense matrix over channels.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ssmith import spine
from ssmith.core.budget import Budget
from ssmith.core.tokens import TokenWindows
from ssmith.surgery import prune_


class LastOutput(nn.Embedding):
    """Returns what the last block made of a row of token ids, in place of its embeddings."""

    def __init__(self, like: nn.Embedding, outputs: dict[bytes, Tensor]) -> None:
        super().__init__(like.num_embeddings, like.embedding_dim)
        self.weight = like.weight
        self.outputs = outputs

    def forward(self, input: Tensor) -> Tensor:
        return torch.stack([self.outputs[_key(row)] for row in input])


def cut(
    model: nn.Module, budgets: Iterable[Budget], windows: TokenWindows
) -> tuple[nn.Module, dict[str, Any]]:
    """Return a copy of a Mamba that was cut in the released order, and what went.

    Args:
        model: stays as it is.
        budgets: of weights, after one of entries or not.
        windows: calibration text.

    Returns:
        The cut model; unit → counts, as in a receipt.
    """
    *before, weights = budgets
    work, removed = copy.deepcopy(model), {}
    if before:
        removed = prune_(work, spine.plan(work, before, windows)).as_dict()["removed"]
    twin: Any = copy.deepcopy(work)
    embeddings = twin.get_input_embeddings()
    twin.set_input_embeddings(LastOutput(embeddings, _outputs(work, windows)))
    plan = spine.plan(twin, [weights], windows)
    done = prune_(work, plan, check_weights=False)
    return work, {**removed, **done.as_dict()["removed"]}


@torch.no_grad()
def _outputs(model: Any, windows: TokenWindows) -> dict[bytes, Tensor]:
    found: dict[bytes, Tensor] = {}
    for row in windows.ids:
        seen: list[Tensor] = []
        hook = model.backbone.norm_f.register_forward_pre_hook(
            lambda _, given, seen=seen: seen.append(given[0])
        )
        model(row[None])
        hook.remove()
        found[_key(row)] = seen[0][0]
    return found


def _key(row: Tensor) -> bytes:
    return row.cpu().numpy().tobytes()
