"""The best values of kept weights: least squares on their support, for all rows at once."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def refit_kept(
    weight: Float[Tensor, "o i"],
    target: Float[Tensor, "o i"],
    keep: Bool[Tensor, "o i"],
    gram: Float[Tensor, "i i"],
    *,
    steps: int,
) -> Float[Tensor, "o i"]:
    """Lower ``tr((W − T) G (W − T)ᵀ)`` over the kept weights by conjugate gradients.

    Every row is a regression of its own on its own support; one step serves all rows with one
    matrix product. The objective falls with every step of exact arithmetic.
    """
    scale = 1.0 / gram.diagonal()
    residual = ((target - weight) @ gram) * keep
    direction = residual * scale
    slope = (residual * direction).sum(1, keepdim=True)
    floor = slope * torch.finfo(weight.dtype).eps ** 2
    for _ in range(steps):
        product = (direction @ gram) * keep
        curvature = (direction * product).sum(1, keepdim=True)
        # A row that has converged stands still; dividing by its curvature would make noise.
        moving = (slope > floor) & (curvature > 0)
        length = torch.where(moving, slope / torch.where(moving, curvature, 1.0), 0.0)
        weight = weight + length * direction
        residual = residual - length * product
        scaled = residual * scale
        following = (residual * scaled).sum(1, keepdim=True)
        turn = torch.where(moving, following / torch.where(moving, slope, 1.0), 0.0)
        direction, slope = scaled + turn * direction, following
    return weight
