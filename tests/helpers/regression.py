"""Features of a layer's states on real sequences, step by step, and plain least squares."""

import numpy as np

from helpers import oracle


def features(layer, u, length):
    """Real features of one sequence's valid steps, (steps, s, directions·2), from plain loops."""
    u = u[:length].detach().double().numpy()
    columns = []
    for a, b, _, c_back in oracle.modes(layer):
        runs = [_run(a, b, u)]
        if c_back is not None:
            runs.append(_run(a, b, u[::-1])[::-1])
        parts = [part for run in runs for part in (run.real, run.imag)]
        columns.append(np.stack(parts, axis=-1))
    return np.stack(columns, axis=1)


def _run(a, b, u):
    states, x = [], 0j
    for step in u:
        x = a * x + b @ step
        states.append(x)
    return np.array(states)


def weights(layer):
    """Weight of every feature on every channel, (s, directions·2, m)."""
    factor = 2.0 if layer.options.conj_sym else 1.0
    rows = []
    for _, _, c, c_back in oracle.modes(layer):
        both = [c] if c_back is None else [c, c_back]
        rows.append([part for item in both for part in (factor * item.real, -factor * item.imag)])
    return np.array(rows)


def residual(z, y):
    """Squared error that is left of ``y`` after the best linear fit on ``z``."""
    if z.shape[1] == 0:
        return float((y**2).sum())
    solution = np.linalg.lstsq(z, y, rcond=1e-10)[0]
    return float(((y - z @ solution) ** 2).sum())
