"""Causal depthwise convolution with its state."""

from ssmith.ops.causal_conv.dispatch import causal_conv

__all__ = ["causal_conv"]
