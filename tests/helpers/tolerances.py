"""The one table of tolerances: (check, dtype) → largest absolute and relative difference.

A check with no entry has no tolerance: it must be bit-equal, and uses `torch.equal`.
"""

import torch

TOLERANCES = {
    # Other order of the same sums.
    ("twin", torch.float64): (1e-12, 1e-12),
    ("twin", torch.float32): (2e-5, 2e-5),
    ("twin gradient", torch.float64): (1e-10, 1e-10),
    # Against a recurrence written from the definition.
    ("oracle", torch.float64): (1e-11, 1e-11),
    ("oracle", torch.float32): (2e-5, 2e-5),
    # Scan, chunks and steps of one layer or model; convolution by FFT against recurrence.
    ("paths", torch.float64): (1e-11, 1e-11),
    ("paths", torch.float32): (5e-5, 5e-5),
    # A masked model and its shrunk twin, or its states in another order.
    ("surgery", torch.float64): (1e-12, 1e-12),
    ("surgery", torch.float32): (2e-5, 2e-5),
    # Padding changes the length of an FFT, no more.
    ("padding", torch.float64): (1e-12, 1e-12),
    ("padding", torch.float32): (2e-5, 2e-5),
    # Sums over channels do not care which state they belong to.
    ("scores", torch.float64): (1e-12, 1e-10),
    # Closed forms against series and matrix exponentials.
    ("discretisation", torch.float64): (1e-14, 1e-12),
    ("eigenvalues", torch.float64): (1e-10, 1e-10),
}

_REAL = {torch.complex64: torch.float32, torch.complex128: torch.float64}


def assert_close(check, got, expected, *, message=None):
    """Compare two tensors under the table's tolerance for ``check`` and their dtype."""
    assert got.dtype == expected.dtype, f"{got.dtype} is not {expected.dtype}"
    atol, rtol = TOLERANCES[check, _REAL.get(got.dtype, got.dtype)]
    torch.testing.assert_close(got, expected, atol=atol, rtol=rtol, msg=message)
