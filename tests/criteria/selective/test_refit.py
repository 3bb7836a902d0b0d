"""Products of read-outs and states, gathered while the scan runs, against states written out."""

import pytest
import torch

from helpers.scan_cases import scan_inputs
from helpers.tolerances import assert_close
from ssmith.calibrate.columns import input_products
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.products import refit_columns, refit_residual
from ssmith.core.selective import LayerWeights
from ssmith.criteria import by_name
from ssmith.criteria.selective.energies import OutputEnergy
from ssmith.criteria.selective.refit import RefitGreedy, column_products
from ssmith.ops.selective_scan.reference import step_sizes

# Two chunks of the scan, the second one shorter.
SIZES = (2, 45, 3, 4)


def states_of(scan, A=None, B=None):
    """Every state, step by step: (b, l, e, n)."""
    A, B = scan.A if A is None else A, scan.B if B is None else B
    dt = step_sizes(scan)
    h = torch.zeros(scan.x.shape[0], *A.shape, dtype=scan.x.dtype)
    h = scan.h0 if scan.h0 is not None else h
    found = []
    for t in range(scan.x.shape[1]):
        A_bar = torch.exp(dt[:, t, :, None] * A)
        h = A_bar * h + (dt[:, t] * scan.x[:, t])[..., None] * B[:, t, None]
        found.append(h)
    return torch.stack(found, 1)


def root_weight(scan, omega):
    """√(ω g²) at every step and channel, 0 at padding: (b, l, e)."""
    root = omega.sqrt() * (scan.z * torch.sigmoid(scan.z)).abs()
    return root if scan.valid is None else root * scan.valid[..., None]


def problem(given=("z", "D", "valid"), seed=0):
    scan = scan_inputs(SIZES, given, seed=seed)
    draw = torch.Generator().manual_seed(seed + 50)
    return scan, torch.rand(SIZES[2], generator=draw, dtype=torch.float64) + 0.1


@pytest.mark.parametrize("given", [("z",), ("z", "valid"), ("z", "D", "valid", "h0")])
def test_the_gram_is_that_of_written_out_products(given):
    scan, omega = problem(given)
    h, root = states_of(scan), root_weight(scan, omega)
    z = (h[..., :, None] * scan.C[:, :, None, None, :]).flatten(-2) * root[..., None]
    z = z.flatten(0, 2)
    assert_close("oracle", column_products(scan, omega)["products"], z.T @ z)


def test_refitted_rows_of_c_are_least_squares_on_the_layers_output():
    scan, omega = problem()
    keep = torch.tensor([True, False, True, False])
    found = refit_columns(column_products(scan, omega)["products"], keep, 1e-12)
    h, root = states_of(scan), root_weight(scan, omega)
    dense = torch.einsum("blen,bln->ble", h, scan.C)
    C = scan.C[..., keep] + scan.C @ found.mixing.T
    ours = torch.einsum("blek,blk->ble", h[..., keep], C)
    error = float(((ours - dense) * root).square().sum())
    assert error == pytest.approx(found.after, rel=1e-6)
    z = (h[..., keep][..., None] * scan.C[:, :, None, None, :]).flatten(-2)
    z = (z * root[..., None]).flatten(0, 2)
    wanted = (dense * root).flatten()
    best = torch.linalg.lstsq(z, wanted[:, None]).solution[:, 0]
    assert error == pytest.approx(float((z @ best - wanted).square().sum()), rel=1e-6)
    assert error < found.before


def test_new_rows_of_b_do_to_the_output_what_they_promise():
    scan, omega = problem()
    keep = torch.tensor([True, False, True, False])
    first = refit_columns(column_products(scan, omega)["products"], keep, 1e-9)
    stats = input_products(scan, keep, first.mixing, omega)
    second = refit_residual(
        stats["gram"], stats["right"], float(stats["energy"]), kept=2, ridge=1e-9
    )
    assert second.before == pytest.approx(first.after, rel=1e-9)
    assert second.after < second.before
    root = root_weight(scan, omega)
    dense = torch.einsum("blen,bln->ble", states_of(scan), scan.C)
    C = scan.C[..., keep] + scan.C @ first.mixing.T
    B = scan.B[..., keep] + scan.B @ second.mixing.T
    ours = torch.einsum("blek,blk->ble", states_of(scan, scan.A[:, keep], B), C)
    assert float(((ours - dense) * root).square().sum()) == pytest.approx(second.after, rel=1e-6)


def test_the_criterion_is_found_by_name_and_scores_entries_as_output_energy():
    scan, omega = problem()
    criterion = by_name("refit-greedy", "selective")
    weights = LayerWeights(
        layer="", A_log=(-scan.A).log(), out_weight=omega.sqrt()[None],
        present=torch.ones(SIZES[2:], dtype=torch.bool),
    )  # fmt: skip
    found, other = (
        item.entries.score(item.entries.gather(scan, weights, 3), weights)
        for item in (criterion, OutputEnergy())
    )
    assert torch.equal(found, other)
    columns = criterion.columns
    scores = columns.score(columns.gather(scan, weights, 1), weights)
    assert scores.shape == (4,) and bool(scores.isfinite().all())


def test_too_many_states_and_a_bad_ridge_are_said():
    scan = scan_inputs((1, 2, 1, 65), ())
    with pytest.raises(UnsupportedError, match="up to 64"):
        column_products(scan, torch.ones(1, dtype=torch.float64))
    with pytest.raises(InputError, match="ridge"):
        RefitGreedy(ridge=0.0)
