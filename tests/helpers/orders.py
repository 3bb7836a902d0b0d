"""A layer with its states in another order is the same layer."""

import torch

STATE_AXIS = {"Lambda_re": 0, "Lambda_im": 0, "B": 0, "log_step": 0, "C": 1, "C1": 1, "C2": 1}


def permute_(layer, seed):
    """Put a layer's states in another order, in S4D within their channels; return the order."""
    draw = torch.Generator().manual_seed(seed)
    groups = [torch.arange(layer.n_states)]
    if layer.family == "s4d":
        groups = [(layer.channel == channel).nonzero().flatten() for channel in range(layer.width)]
    order = torch.cat([own[torch.randperm(len(own), generator=draw)] for own in groups])
    with torch.no_grad():
        for name, item in layer.named_parameters():
            if layer.family == "s5" and name in STATE_AXIS:
                item.copy_(item.index_select(STATE_AXIS[name], order))
            elif name in ("log_A_real", "A_imag"):
                item.copy_(item.reshape(-1)[order].reshape(item.shape))
            elif layer.family == "s4d" and name == "C":
                flat = item.reshape(-1, layer.n_states, 2)
                item.copy_(flat[:, order].reshape(item.shape))
    return order
