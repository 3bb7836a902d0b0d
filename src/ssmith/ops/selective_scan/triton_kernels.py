"""GPU kernels of the selective scan, in Triton. Imported only where triton is installed.

Forward and adjoint carry a tile of states (states × channels) in registers through time. The
gradients are then computed from the states and adjoints kept every `STEPS` steps, all stretches of
time at once: inside a stretch, each state is a short scan along time held in registers.
"""

from __future__ import annotations

import triton
import triton.language as tl

# `channels` is left unspecialised where a tile of states is read: knowing that it divides by 16,
# the compiler would give each thread four neighbouring channels and spread the states of one
# channel over several threads, and every read-out would cost shuffles.
LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _log1p(w):
    # log(1 + w) for w in [0, 1] by the series of atanh; log(1 + w) itself would lose small w.
    s = w / (w + 2.0)
    q = s * s
    p = 2.817830081920473e-1 * q + 2.796061141289313e-1
    p = p * q + 4.0024909576069434e-1
    p = p * q + 6.666631470196376e-1
    p = p * q + 2.000000007919724
    return s * p


@triton.jit
def _step_size(dt, SOFTPLUS: tl.constexpr):
    if SOFTPLUS:
        dt = tl.maximum(dt, 0.0) + _log1p(tl.exp2(tl.abs(dt) * (-LOG2E)))
    return dt


@triton.jit
def _sigmoid(z):
    return 1.0 / (1.0 + tl.exp2(z * (-LOG2E)))


@triton.jit
def _row(pointer, at, inside):
    return tl.load(pointer + at, mask=inside, other=0.0).to(tl.float32)


@triton.jit(do_not_specialize=["channels"])
def forward(
    x, dt, B, C, z, A, D, dt_bias, h0, h_offset, y, h_last, bounds,
    x_b, x_l, dt_b, dt_l, B_b, B_l, C_b, C_l, z_b, z_l,
    length, channels, states, span,
    HAS_D: tl.constexpr, HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_OFFSET: tl.constexpr,
    SOFTPLUS: tl.constexpr, KEEP: tl.constexpr, SUMMARY: tl.constexpr,
    STATE: tl.constexpr, CHANNELS: tl.constexpr, STEPS: tl.constexpr, EVERY: tl.constexpr,
):  # fmt: skip
    """Scan one stretch of time for a block of channels.

    `h0` and `h_last` are (b, stretches, n, e). With SUMMARY only `h_last` and the sum of Δ (into
    `y`, (b, stretches, e)) are written; with KEEP the state before every EVERY steps as well.
    The inputs of STEPS steps are requested together; EVERY is a multiple of STEPS.
    """
    e = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    b = tl.program_id(1).to(tl.int64)
    stretch = tl.program_id(2).to(tl.int64)
    # Added to a step's number to make its address 64 bits wide.
    wide = stretch * 0
    n = tl.arange(0, STATE)
    inside = e < channels
    tile_at = n[:, None] * channels + e[None, :]
    tile_in = (n[:, None] < states) & inside[None, :]
    own = (b * tl.num_programs(2) + stretch) * states * channels
    decay = tl.load(A + tile_at, mask=tile_in, other=0.0) * LOG2E
    h = tl.load(h0 + own + tile_at, mask=tile_in, other=0.0)
    offset = tl.zeros([STATE, CHANNELS], dtype=tl.float32)
    if HAS_OFFSET:
        offset = tl.load(h_offset + tile_at, mask=tile_in, other=0.0)
    bias = tl.zeros([CHANNELS], dtype=tl.float32)
    if HAS_BIAS:
        bias = tl.load(dt_bias + e, mask=inside, other=0.0)
    skip = tl.zeros([CHANNELS], dtype=tl.float32)
    if HAS_D:
        skip = tl.load(D + e, mask=inside, other=0.0)
    total = tl.zeros([CHANNELS], dtype=tl.float32)
    chunks = tl.cdiv(length, EVERY).to(tl.int64)
    first = stretch * span
    last = tl.minimum(first + span, length)
    for t0 in range(first, last, STEPS):
        if KEEP:
            if t0 % EVERY == 0:
                kept = (b * chunks + t0 // EVERY) * states * channels
                tl.store(bounds + kept + tile_at, h, mask=tile_in)
        rows = ()
        for i in tl.static_range(STEPS):
            t = wide + t0 + i
            here = e < tl.where(t < last, channels, 0)
            x_t = _row(x, b * x_b + t * x_l + e, here)
            dt_t = _row(dt, b * dt_b + t * dt_l + e, here)
            z_t = x_t
            if HAS_Z and not SUMMARY:
                z_t = _row(z, b * z_b + t * z_l + e, here)
            rows = rows + ((x_t, dt_t, z_t),)
        for i in tl.static_range(STEPS):
            x_t, dt_t, z_t = rows[i]
            t = wide + t0 + i
            here = e < tl.where(t < last, channels, 0)
            d = tl.where(here, _step_size(dt_t + bias, SOFTPLUS), 0.0)
            B_t = _row(B, b * B_b + t * B_l + n, n < tl.where(t < last, states, 0))
            h = tl.exp2(d[None, :] * decay) * h + (d * x_t)[None, :] * B_t[:, None]
            total += d
            if not SUMMARY:
                C_t = _row(C, b * C_b + t * C_l + n, n < tl.where(t < last, states, 0))
                out = tl.sum((h + offset) * C_t[:, None], axis=0) + skip * x_t
                if HAS_Z:
                    out = out * z_t * _sigmoid(z_t)
                tl.store(y + (b * length + t) * channels + e, out, mask=here)
    tl.store(h_last + own + tile_at, h, mask=tile_in)
    if SUMMARY:
        tl.store(y + (b * tl.num_programs(2) + stretch) * channels + e, total, mask=inside)


@triton.jit(do_not_specialize=["channels"])
def adjoint(
    dt, C, z, dy, A, dt_bias, dh_last, dh_first, bounds, sums,
    dt_b, dt_l, C_b, C_l, z_b, z_l, dy_b, dy_l,
    length, channels, states, span,
    HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr, SOFTPLUS: tl.constexpr, SUMMARY: tl.constexpr,
    STATE: tl.constexpr, CHANNELS: tl.constexpr, STEPS: tl.constexpr, EVERY: tl.constexpr,
):  # fmt: skip
    """Carry the gradient of the state backwards through one stretch of time.

    `bounds` receives the gradient that reaches the last state of every EVERY steps from later
    ones; `dh_first` the gradient of the state before the stretch.
    """
    e = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    b = tl.program_id(1).to(tl.int64)
    stretch = tl.program_id(2).to(tl.int64)
    # Added to a step's number to make its address 64 bits wide.
    wide = stretch * 0
    n = tl.arange(0, STATE)
    inside = e < channels
    tile_at = n[:, None] * channels + e[None, :]
    tile_in = (n[:, None] < states) & inside[None, :]
    own = (b * tl.num_programs(2) + stretch) * states * channels
    decay = tl.load(A + tile_at, mask=tile_in, other=0.0) * LOG2E
    g = tl.load(dh_last + own + tile_at, mask=tile_in, other=0.0)
    bias = tl.zeros([CHANNELS], dtype=tl.float32)
    if HAS_BIAS:
        bias = tl.load(dt_bias + e, mask=inside, other=0.0)
    total = tl.zeros([CHANNELS], dtype=tl.float32)
    chunks = tl.cdiv(length, EVERY).to(tl.int64)
    first = stretch * span
    last = tl.minimum(first + span, length)
    pieces = tl.cdiv(last - first, STEPS)
    for piece in range(pieces):
        t0 = first + (pieces - 1 - piece) * STEPS
        if not SUMMARY:
            if (t0 + STEPS) % EVERY == 0 or piece == 0:
                kept = (b * chunks + t0 // EVERY) * states * channels
                tl.store(bounds + kept + tile_at, g, mask=tile_in)
        rows = ()
        for i in tl.static_range(STEPS):
            t = wide + t0 + i
            here = e < tl.where(t < last, channels, 0)
            dt_t = _row(dt, b * dt_b + t * dt_l + e, here)
            dy_t = _row(dy, b * dy_b + t * dy_l + e, here)
            if HAS_Z:
                z_t = _row(z, b * z_b + t * z_l + e, here)
                dy_t = dy_t * z_t * _sigmoid(z_t)
            rows = rows + ((dt_t, dy_t),)
        for k in tl.static_range(STEPS):
            dt_t, dy_t = rows[STEPS - 1 - k]
            t = wide + t0 + (STEPS - 1 - k)
            here = e < tl.where(t < last, channels, 0)
            d = tl.where(here, _step_size(dt_t + bias, SOFTPLUS), 0.0)
            C_t = _row(C, b * C_b + t * C_l + n, n < tl.where(t < last, states, 0))
            g = tl.exp2(d[None, :] * decay) * (g + dy_t[None, :] * C_t[:, None])
            total += d
    tl.store(dh_first + own + tile_at, g, mask=tile_in)
    if SUMMARY:
        tl.store(sums + (b * tl.num_programs(2) + stretch) * channels + e, total, mask=inside)


@triton.jit
def join(
    local, sums, A, start, joined, stretches, channels, states,
    REVERSE: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Turn what each stretch adds on its own into the state each stretch starts from."""
    e = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    b = tl.program_id(1).to(tl.int64)
    n = tl.program_id(2).to(tl.int64)
    inside = e < channels
    decay = tl.load(A + n * channels + e, mask=inside, other=0.0) * LOG2E
    h = tl.load(start + (b * states + n) * channels + e, mask=inside, other=0.0)
    for k in range(stretches):
        stretch = k
        if REVERSE:
            stretch = stretches - 1 - k
        at = ((b * stretches + stretch) * states + n) * channels + e
        tl.store(joined + at, h, mask=inside)
        total = tl.load(sums + (b * stretches + stretch) * channels + e, mask=inside, other=0.0)
        h = tl.exp2(total * decay) * h + tl.load(local + at, mask=inside, other=0.0)


@triton.jit
def _compose(a_first, b_first, a_second, b_second):
    return a_first * a_second, a_second * b_first + b_second


@triton.jit
def gradients(
    x, dt, B, C, z, dy, A, D, dt_bias, h_offset, bounds, carries,
    dx, ddt, dz, dA, dB, dC, dD, dbias, doffset,
    x_b, x_l, dt_b, dt_l, B_b, B_l, C_b, C_l, z_b, z_l, dy_b, dy_l,
    length, channels, states, span,
    HAS_D: tl.constexpr, HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_OFFSET: tl.constexpr,
    SOFTPLUS: tl.constexpr, CHANNELS: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """Compute all gradients of one stretch of time for a block of channels.

    Sums over time are written per stretch, (b, stretches, ·); dB and dC per block of channels,
    (blocks, b, l, n).
    """
    block = tl.program_id(0).to(tl.int64)
    e = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    b = tl.program_id(1).to(tl.int64)
    stretch = tl.program_id(2).to(tl.int64)
    # Added to a step's number to make its address 64 bits wide.
    wide = stretch * 0
    inside = e < channels
    own = b * tl.num_programs(2) + stretch
    bias = tl.zeros([CHANNELS], dtype=tl.float32)
    if HAS_BIAS:
        bias = tl.load(dt_bias + e, mask=inside, other=0.0)
    skip = tl.zeros([CHANNELS], dtype=tl.float32)
    if HAS_D:
        skip = tl.load(D + e, mask=inside, other=0.0)
    sum_D = tl.zeros([CHANNELS], dtype=tl.float32)
    sum_bias = tl.zeros([CHANNELS], dtype=tl.float32)
    chunks = tl.cdiv(length, STEPS).to(tl.int64)
    first = stretch * span
    last = tl.minimum(first + span, length)
    for t0 in range(first, last, STEPS):
        t = wide + t0 + tl.arange(0, STEPS)
        during = t < last
        here = during[:, None] & inside[None, :]
        x_t = _row(x, b * x_b + t[:, None] * x_l + e[None, :], here)
        logits = _row(dt, b * dt_b + t[:, None] * dt_l + e[None, :], here) + bias[None, :]
        d = tl.where(here, _step_size(logits, SOFTPLUS), 0.0)
        # The step after each, so that the adjoint can be scanned without a shift; the last one's
        # decay is already inside the carry.
        after = during & (t + 1 < tl.minimum(t0 + STEPS, last))
        there = after[:, None] & inside[None, :]
        next_logits = _row(dt, b * dt_b + (t[:, None] + 1) * dt_l + e[None, :], there)
        d_next = tl.where(there, _step_size(next_logits + bias[None, :], SOFTPLUS), 0.0)
        dy_t = _row(dy, b * dy_b + t[:, None] * dy_l + e[None, :], here)
        out = skip[None, :] * x_t
        dy_in = dy_t
        z_t = dy_t
        if HAS_Z:
            z_t = _row(z, b * z_b + t[:, None] * z_l + e[None, :], here)
            dy_t = dy_t * z_t * _sigmoid(z_t)
        du = d * x_t
        into_dt = tl.zeros([STEPS, CHANNELS], dtype=tl.float32)
        into_u = tl.zeros([STEPS, CHANNELS], dtype=tl.float32)
        for n in range(states):
            at = n * channels + e
            decay = tl.load(A + at, mask=inside, other=0.0) * LOG2E
            kept = (b * chunks + t0 // STEPS) * states * channels
            h_first = tl.load(bounds + kept + at, mask=inside, other=0.0)
            carry = tl.load(carries + kept + at, mask=inside, other=0.0)
            B_t = _row(B, b * B_b + t * B_l + n, during)
            C_t = _row(C, b * C_b + t * C_l + n, during)
            gain = du * B_t[:, None]
            kept_part, h = tl.associative_scan((tl.exp2(d * decay[None, :]), gain), 0, _compose)
            h += kept_part * h_first[None, :]
            a_next = tl.exp2(d_next * decay[None, :])
            kept_part, g = tl.associative_scan(
                (a_next, dy_t * C_t[:, None]), 0, _compose, reverse=True
            )
            g += kept_part * carry[None, :]
            seen = h
            if HAS_OFFSET:
                offset = tl.load(h_offset + at, mask=inside, other=0.0)
                seen = h + offset[None, :]
            out += seen * C_t[:, None]
            sums_at = ((block * tl.num_programs(1) + b) * length + t) * states + n
            tl.store(dC + sums_at, tl.sum(tl.where(here, dy_t * seen, 0.0), axis=1), mask=during)
            tl.store(dB + sums_at, tl.sum(g * du, axis=1), mask=during)
            # h − gain is Ā·h before the step.
            into = g * (h - gain)
            into_dt += into * decay[None, :]
            into_u += g * B_t[:, None]
            mine = own * states * channels + at
            sum_A = tl.load(dA + mine, mask=inside, other=0.0) + tl.sum(into * d, axis=0)
            tl.store(dA + mine, sum_A, mask=inside)
            if HAS_OFFSET:
                sum_o = tl.load(doffset + mine, mask=inside, other=0.0)
                sum_o += tl.sum(dy_t * C_t[:, None], axis=0)
                tl.store(doffset + mine, sum_o, mask=inside)
        slope = tl.where(here, 1.0, 0.0)
        if SOFTPLUS:
            slope = tl.where(here, _sigmoid(logits), 0.0)
        ddt_t = (into_dt * LN2 + into_u * x_t) * slope
        to = (b * length + t[:, None]) * channels + e[None, :]
        tl.store(ddt + to, ddt_t, mask=here)
        tl.store(dx + to, into_u * d + skip[None, :] * dy_t, mask=here)
        if HAS_Z:
            s = _sigmoid(z_t)
            tl.store(dz + to, dy_in * out * s * (1.0 + z_t * (1.0 - s)), mask=here)
        sum_D += tl.sum(dy_t * x_t, axis=0)
        sum_bias += tl.sum(ddt_t, axis=0)
    tl.store(dD + own * channels + e, sum_D, mask=inside)
    tl.store(dbias + own * channels + e, sum_bias, mask=inside)
