"""Statistics inside the scan against a brute-force pass that stores every state."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.scan_cases import EVERYTHING, scan_inputs
from ssmith.core.errors import InputError
from ssmith.ops.selective_scan.reference import selective_scan_reference, step_sizes
from ssmith.ops.selective_scan.statistics import (
    QUANTITIES,
    StatisticsConfig,
    selective_scan_statistics,
)


def every_state(inputs):
    """Ā, the state before and after every step, (b, l, e, n), by the definition alone."""
    A_bar = torch.exp(step_sizes(inputs)[..., None] * inputs.A)
    b, length, e, n = A_bar.shape
    h = torch.zeros(b, e, n, dtype=A_bar.dtype) if inputs.h0 is None else inputs.h0
    before, after = [], []
    for t in range(length):
        before.append(h)
        gained = step_sizes(inputs)[:, t] * inputs.x[:, t]
        h = A_bar[:, t] * h + gained[..., None] * inputs.B[:, t, None]
        after.append(h)
    return A_bar, torch.stack(before, 1), torch.stack(after, 1)


def quantities(inputs):
    A_bar, before, after = every_state(inputs)
    C = inputs.C[:, :, None]
    return {
        "h_before": before, "h": after, "A_bar_h": A_bar * before, "C_h": C * after,
        "C_A_bar_h": C * A_bar * before,
    }  # fmt: skip


@given(
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 70), st.integers(1, 4), st.integers(1, 4)),
    options=st.sets(st.sampled_from(EVERYTHING)), gated=st.booleans(), weighted=st.booleans(),
)  # fmt: skip
def test_sums_equal_brute_force(sizes, options, gated, weighted):
    inputs = scan_inputs(sizes, tuple(options))
    b, length, _, _ = sizes
    over_time = torch.linspace(1, 2, length).double() if weighted else torch.ones(length).double()
    samples = torch.arange(1, b + 1).double() if weighted else torch.ones(b).double()
    weight = samples[:, None] * over_time
    if inputs.valid is not None:
        weight = weight * inputs.valid
    total = weight.sum()
    weight = weight[..., None].expand(-1, -1, sizes[2])
    if gated and inputs.z is not None:
        weight = weight * torch.nn.functional.silu(inputs.z) ** 2
    settings = {"time_weights": over_time, "sample_weights": samples} if weighted else {}
    for gram in QUANTITIES:
        config = StatisticsConfig(energies=QUANTITIES, gram=gram, gated=gated, **settings)
        y, h_last, found = selective_scan_statistics(inputs, config)
        values = quantities(inputs)
        for name, value in values.items():
            wanted = (weight[..., None] * value**2).sum((0, 1))
            assert torch.allclose(found.energies[name], wanted, rtol=1e-10, atol=1e-10)
        products = torch.einsum("ble,blen,blek->enk", weight, values[gram], values[gram])
        assert torch.allclose(found.gram, products, rtol=1e-10, atol=1e-10)
    wanted_y, wanted_h = selective_scan_reference(inputs)
    assert torch.allclose(y, wanted_y, rtol=1e-10, atol=1e-10)
    assert torch.allclose(h_last, wanted_h, rtol=1e-10, atol=1e-10)
    assert found.weight == pytest.approx(float(total))


def test_visits_see_every_step_once_in_order():
    inputs = scan_inputs((3, 70, 4, 2), ("h0",))
    samples = torch.tensor([1.0, 2.0, 3.0]).double()
    starts, squares = [], []

    def visit(start, square):
        starts.append(start)
        squares.append(square)

    config = StatisticsConfig(energies=(), sample_weights=samples, visit=visit)
    selective_scan_statistics(inputs, config)
    _, before, _ = every_state(inputs)
    wanted = torch.einsum("b,blen->len", samples, before**2)
    assert starts == [0, 32, 64]
    assert torch.allclose(torch.cat(squares), wanted, rtol=1e-10, atol=1e-12)


def test_sums_over_sequences_are_taken_apart():
    inputs = scan_inputs((3, 70, 4, 2), ("h0", "z", "D"))
    samples, steps = torch.tensor([1.0, 2.0, 3.0]).double(), torch.linspace(1, 2, 70).double()
    config = StatisticsConfig(energies=(), sample_weights=samples, apart=steps)
    y, h_last, found = selective_scan_statistics(inputs, config)
    A_bar, before, _ = every_state(inputs)
    squares = torch.einsum("b,blen->len", samples, before**2)
    wanted = torch.einsum("l,len->en", steps, A_bar.sum(0) ** 2 * squares)
    assert torch.allclose(found.apart, wanted, rtol=1e-10, atol=1e-12)
    wanted_y, wanted_h = selective_scan_reference(inputs)
    assert torch.allclose(y, wanted_y, rtol=1e-10, atol=1e-10)
    assert torch.allclose(h_last, wanted_h, rtol=1e-10, atol=1e-10)


def test_padding_counts_for_nothing():
    inputs = scan_inputs((1, 20, 3, 2), ())
    nothing = torch.zeros(1, 6, dtype=torch.bool)
    valid = torch.cat([torch.ones(1, 14, dtype=torch.bool), nothing], dim=1)
    _, _, padded = selective_scan_statistics(replace(inputs, valid=valid), StatisticsConfig())
    part = {name: getattr(inputs, name)[:, :14] for name in ("x", "dt", "B", "C")}
    _, _, alone = selective_scan_statistics(replace(inputs, **part), StatisticsConfig())
    assert torch.allclose(padded.energies["A_bar_h"], alone.energies["A_bar_h"], rtol=1e-12)
    assert padded.weight == alone.weight


def test_wrong_settings_are_named():
    with pytest.raises(InputError, match="B_h"):
        StatisticsConfig(energies=("B_h",))
    with pytest.raises(InputError, match="more than one of energies"):
        StatisticsConfig(apart=torch.ones(3))
    with pytest.raises(InputError, match="3 time weights"):
        selective_scan_statistics(
            scan_inputs((1, 4, 2, 2)), StatisticsConfig(time_weights=torch.ones(3))
        )
