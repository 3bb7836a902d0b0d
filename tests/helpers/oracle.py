"""What a layer computes, written from its parameters' definitions as plain loops in float64."""

import numpy as np


def _numbers(layer):
    return {name: value.detach().double().numpy() for name, value in layer.named_parameters()}


def _complex(pairs):
    return pairs[..., 0] + 1j * pairs[..., 1]


def _discretised(A, dt, method):
    if method == "zoh":
        a = np.exp(A * dt)
        return a, (a - 1) / A
    return (1 + A * dt / 2) / (1 - A * dt / 2), dt / (1 - A * dt / 2)


def modes(layer):
    """Every state as ``(a, b, c, c_back)``: input row over channels, output columns."""
    p, options = _numbers(layer), layer.options
    found = []
    if layer.family == "s5":
        B = _complex(p["B"])
        for n in range(len(p["Lambda_re"])):
            real = min(p["Lambda_re"][n], -1e-4) if options.clip_eigs else p["Lambda_re"][n]
            dt = options.step_rescale * np.exp(p["log_step"][n, 0])
            a, gain = _discretised(real + 1j * p["Lambda_im"][n], dt, options.discretisation)
            fronts = [_complex(p[name])[:, n] for name in ("C", "C1", "C2") if name in p]
            found.append((a, gain * B[n], fronts[0], fronts[1] if len(fronts) > 1 else None))
        return found
    real, imag = -np.exp(p["log_A_real"]).reshape(-1), p["A_imag"].reshape(-1)
    readouts = _complex(p["C"])
    readouts = readouts.reshape(2, -1) if options.bidirectional else readouts.reshape(1, -1)
    for n, channel in enumerate(layer.channel.tolist()):
        clipped = min(real[n], -1e-4) if options.clip_eigs else real[n]
        dt = options.step_rescale * np.exp(p["log_dt"][channel])
        a, gain = _discretised(clipped + 1j * imag[n], dt, options.discretisation)
        unit = np.zeros(layer.width)
        unit[channel] = 1
        back = readouts[1, n] * unit if options.bidirectional else None
        found.append((a, gain * unit, readouts[0, n] * unit, back))
    return found


def run(layer, u, *, keep=None, state=None):
    """Output and last state of one sequence ``u`` of shape (l, m), state after state."""
    u = u.detach().double().numpy()
    factor = 2.0 if layer.options.conj_sym else 1.0
    y = u * layer.get_parameter("D").detach().double().numpy()
    last = np.zeros(layer.n_states, dtype=complex)
    for n, (a, b, c, c_back) in enumerate(modes(layer)):
        if keep is not None and not bool(keep.reshape(-1)[n]):
            continue
        x = 0j if state is None else complex(state[n])
        for t in range(len(u)):
            x = a * x + b @ u[t]
            y[t] += factor * (c * x).real
        last[n] = x
        if c_back is not None:
            x = 0j
            for t in reversed(range(len(u))):
                x = a * x + b @ u[t]
                y[t] += factor * (c_back * x).real
    return y, last
