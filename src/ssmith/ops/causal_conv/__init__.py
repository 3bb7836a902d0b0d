"""Causal depthwise convolution with its state."""
