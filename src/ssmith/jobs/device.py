"""The device a user names."""

from __future__ import annotations

import torch

from ssmith.core.errors import InputError


def find_device(text: str) -> str:
    """Return a device that is there."""
    try:
        device = torch.device(text)
    except RuntimeError:
        raise InputError(f"device is {text!r}", allowed="cpu, cuda or cuda:N") from None
    if device.type == "cuda" and (device.index or 0) < torch.cuda.device_count():
        return text
    if device.type == "cpu":
        return text
    raise InputError(
        f"device {text!r} is not there",
        allowed="cpu" + "".join(f", cuda:{index}" for index in range(torch.cuda.device_count())),
    )
