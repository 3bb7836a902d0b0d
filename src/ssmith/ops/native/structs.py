"""The structs of ``abi.h``, field by field. Every field is eight bytes wide."""

from __future__ import annotations

import ctypes

from torch import Tensor

ABI = 7


def _rows(name: str) -> list[str]:
    return [name, f"{name}_b", f"{name}_l"]


def _fields(*names: str | list[str]) -> list[tuple[str, type[ctypes.c_int64]]]:
    flat = [part for name in names for part in ([name] if isinstance(name, str) else name)]
    return [(name, ctypes.c_int64) for name in flat]


class ScanArgs(ctypes.Structure):
    """Arguments of the selective scan, both directions."""

    _fields_ = _fields(
        "b", "l", "e", "n", "parts", "softplus",
        _rows("x"), _rows("dt"), _rows("z"), _rows("B"), _rows("C"),
        "A", "D", "dt_bias", "h0", "h_offset", "y_offset", "dt_weight", "r",
        "y", "h_last", "bounds",
        _rows("dy"), "dh_last",
        "dx", "ddt", "dz", "dA", "dB", "dC", "dD", "ddt_bias", "dh0", "dh_offset", "dy_offset",
    )  # fmt: skip


class StatisticsArgs(ctypes.Structure):
    """Arguments of the selective scan with sums of its states."""

    _fields_ = list(ScanArgs._fields_) + _fields(
        "from", "to", "gated", "gram_of", "weights", "counted",
        "h_before", "h", "A_bar_h", "C_h", "C_A_bar_h", "gram", "squares",
        "step_weights", "apart",
    )  # fmt: skip


class VotesArgs(ctypes.Structure):
    """Arguments of the selection of the smallest per row."""

    _fields_ = _fields("rows", "s", "width", "count", "parts", "metric", "scale", "counts")


class ConvArgs(ctypes.Structure):
    """Arguments of the causal convolution, both directions."""

    _fields_ = _fields(
        "b", "l", "e", "k", "parts", "silu",
        _rows("x"), "weight", "bias", "state", "y",
        _rows("dy"), "dx", "dweight", "dbias", "dstate",
    )  # fmt: skip


class StepArgs(ctypes.Structure):
    """Arguments of one step of the selective scan."""

    _fields_ = _fields(
        "b", "e", "n", "parts", "softplus", "log_A",
        _rows("x"), _rows("dt"), _rows("z"), _rows("B"), _rows("C"),
        "A", "D", "dt_bias", "h_offset", "y_offset", "h", "y", "h_new",
    )  # fmt: skip


class MixerArgs(ctypes.Structure):
    """Arguments of one step of a whole Mamba mixer."""

    _fields_ = _fields(
        "b", "m", "e", "n", "r", "k", "parts",
        "hidden", "in_weight", "in_bias", "conv_weight", "conv_bias", "x_weight",
        "dt_weight", "dt_bias", "A_log", "D", "h_offset", "y_offset", "out_weight", "out_bias",
        "conv_state", "h", "y",
    )  # fmt: skip


class SSDArgs(ctypes.Structure):
    """Arguments of Mamba-2's scan, both directions."""

    _fields_ = _fields(
        "b", "l", "h", "p", "g", "n", "parts",
        _rows("x"), _rows("dt"), _rows("B"), _rows("C"),
        "A", "D", "h0", "h_offset",
        "y", "h_last", "bounds",
        _rows("dy"), "dh_last",
        "dx", "ddt", "dA", "dB", "dC", "dD", "dh0", "dh_offset",
    )  # fmt: skip


class DiagonalArgs(ctypes.Structure):
    """Arguments of the diagonal scan and of its adjoint."""

    _fields_ = _fields(
        "b", "l", "s", "parts", "reverse", "A_bar", "Bu", "x0", "x", "states", "start", "dA"
    )


def address(tensor: Tensor | None) -> int:
    """Return where a tensor's data starts; 0 for an option that is not used."""
    return 0 if tensor is None else tensor.data_ptr()


def rows(name: str, tensor: Tensor | None) -> dict[str, int]:
    """Return the three fields of a tensor over time, ``(b, l, …)``, or over batch, ``(b, ·)``."""
    if tensor is None:
        return {}
    over_time = tensor.stride(1) if tensor.ndim >= 3 else 0
    return {name: tensor.data_ptr(), f"{name}_b": tensor.stride(0), f"{name}_l": over_time}
