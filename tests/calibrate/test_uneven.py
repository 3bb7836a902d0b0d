"""Layers whose steps are unevenly wide, against their recurrence written out in float64."""

import copy
from dataclasses import replace

import pytest
import torch

import ssmith as sm
from ssmith import calibrate
from ssmith.calibrate.inputs import _adjoint
from ssmith.calibrate.record import Recording, moments_of_record, respond
from ssmith.core.sequences import Sequences
from ssmith.families import SequenceConfig, SequenceModel
from ssmith.families.lti import LTIOptions
from ssmith.watch.removed import Removed, removed_energy

KINDS = ("zoh", "bilinear")
LENGTHS = (9, 6, 9, 4)


def model_of(kind="zoh", states=(4, 4)):
    torch.manual_seed(1)
    # Wide steps turn far: a principal branch would be another eigenvalue.
    options = LTIOptions(discretisation=kind, dt_min=0.3, dt_max=2.0)
    config = SequenceConfig(
        family="s5", width=3, states=states, channels=3, outputs=2, classes=("a", "b"),
        intervals=True, options=options,
    )  # fmt: skip
    return SequenceModel(config, torch.Generator().manual_seed(0)).eval()


def rows_of(count=4, seed=0):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 9, 3, generator=draw)
    x[..., 2] = 0.2 + 3 * torch.rand(count, 9, generator=draw)
    lengths = torch.tensor(LENGTHS).repeat(count)[:count]
    return Sequences(x=x, lengths=lengths, y=torch.arange(count) % 2)


def states(layer, u, widths):
    """States step by step in float64, by the discretisation's own formula."""
    layer, u, widths = copy.deepcopy(layer).double(), u.double(), widths.double()
    real, imaginary = layer.Lambda_re, layer.Lambda_im
    Lambda, dt = torch.complex(real, imaginary), layer.log_step.squeeze(-1).exp()
    B = torch.view_as_complex(layer.B)
    x, found = torch.zeros(len(u), len(Lambda), dtype=torch.complex128), []
    for step in range(u.shape[1]):
        wide = dt * widths[:, step, None]
        if layer.options.discretisation == "zoh":
            A_bar, gain = (Lambda * wide).exp(), ((Lambda * wide).exp() - 1) / Lambda
        else:
            half = Lambda * wide / 2
            A_bar, gain = (1 + half) / (1 - half), wide / (1 - half)
        x = A_bar * x + gain * (u[:, step].to(B) @ B.mT)
        found.append(x)
    return torch.stack(found, dim=1)


def seen(model, rows, place):
    """What a layer is given, and how wide its steps are."""
    given = []
    hook = model.blocks[place].ssm.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    with torch.no_grad():
        model(rows.x, rows.lengths)
    hook.remove()
    return given[0], rows.x[..., 2]


@pytest.mark.parametrize("kind", KINDS)
def test_moments_are_those_of_the_recurrence(kind):
    model, rows = model_of(kind), rows_of()
    found = calibrate.measure_moments(model, rows, batch_size=3)
    for place in (0, 1):
        layer = model.blocks[place].ssm
        with torch.no_grad():
            u, widths = seen(model, rows, place)
            x = states(layer, u, widths)
        valid = torch.arange(9) < rows.lengths[:, None]
        z = torch.stack([x.real, x.imag], dim=-1).flatten(-2)[valid]
        own = found[f"blocks.{place}.ssm"]
        assert own.steps == sum(LENGTHS)
        order = torch.cat([torch.arange(0, 8, 2), torch.arange(1, 8, 2)])
        expected, gram = z.mT @ z / len(z), own.gram[0]
        interleaved = torch.allclose(gram, expected, atol=1e-10)
        assert interleaved or torch.allclose(gram, expected[order][:, order], atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_with_a_refit_is_the_least_squares_fit(kind):
    """What the refitted layer lacks is what no read-out of the states that stay could give."""
    model, rows = model_of(kind, (5,)), rows_of(40)
    keep = torch.tensor([True, False, True, True, False])
    budget = sm.Budget("state", 0.4, method="state-obs", compensate=("C",))
    plan = sm.plan(model, budget, rows)
    keep = plan.cuts[0].keep["blocks.0.ssm"]
    small = copy.deepcopy(model)
    sm.prune_(small, plan)
    layer, cut = model.blocks[0].ssm, small.blocks[0].ssm
    assert cut.n_states == 3 == int(keep.sum())
    with torch.no_grad():
        u, widths = seen(model, rows, 0)
        valid = torch.arange(9) < rows.lengths[:, None]
        wanted, said = (one(u, widths=widths)[valid] for one in (layer, cut))
        x = states(layer, u, widths)[..., keep][valid]
    z, wanted = torch.stack([x.real, x.imag], dim=-1).flatten(-2), wanted.double()
    direct = (layer.D * u[valid]).double().detach()
    best = z @ torch.linalg.lstsq(z, wanted - direct).solution + direct
    assert (wanted - best).square().sum() > 1e-6
    torch.testing.assert_close(said.double(), best, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_B_are_fitted_by_the_adjoint_of_the_recurrence(kind):
    layer, rows = model_of(kind).blocks[0].ssm, rows_of()
    u, widths = rows.x.double(), rows.x[..., 2].double()
    modes = layer.modes("layer")
    draw = torch.Generator().manual_seed(3)
    shape = modes.B_bar.shape
    B = torch.complex(*torch.randn(2, *shape, generator=draw, dtype=torch.float64))
    valid = torch.ones(4, 9, dtype=torch.bool)
    e = torch.randn(u.shape, generator=draw, dtype=torch.float64)
    item = Recording(u=u, y=e, wanted=e, valid=valid, widths=widths)
    forwards = (respond(replace(modes, B_bar=B), u, widths) * e).sum()
    backwards = (B.conj() * _adjoint(modes, [item], [e])).real.sum()
    torch.testing.assert_close(forwards, backwards)
    plain = (B.conj() * _adjoint(modes, [replace(item, widths=None)], [e])).real.sum()
    assert (plain - forwards).abs() > 1e-3


@pytest.mark.parametrize("method", ["state-obs", "balanced", "singular-perturbation"])
def test_every_method_that_is_fitted_to_data_runs_and_beats_no_refit(method):
    model, rows = model_of(states=(8, 8)), rows_of(60)
    errors = {}
    for compensate in ("none", "auto") if method == "state-obs" else ("auto",):
        small = copy.deepcopy(model)
        budget = sm.Budget("state", 0.5, method=method, compensate=compensate)
        sm.prune_(small, sm.plan(model, budget, rows))
        with torch.no_grad():
            errors[compensate] = (small(rows.x, rows.lengths) - model(rows.x, rows.lengths)).norm()
    with torch.no_grad():
        usual = model(rows.x, rows.lengths)
    assert errors["auto"] < 0.3 * (usual - usual.mean(0)).norm()
    assert errors["auto"] < errors.get("none", 1e9)


def test_what_was_removed_is_watched_with_the_steps_as_they_are():
    layer, rows = model_of().blocks[0].ssm.double(), rows_of()
    u, widths = rows.x.double(), rows.x[..., 2].double()
    keep = torch.tensor([True, False, False, True])
    gone, whole = removed_energy(Removed(site="layer", state=keep), layer, u, None, widths)[""]
    C = torch.view_as_complex(layer.C)
    with torch.no_grad():
        x = states(layer, u, widths)
        for energy, chosen in ((gone, ~keep), (whole, keep | True)):
            y = 2 * (x[..., chosen] @ C[:, chosen].mT).real
            torch.testing.assert_close(energy, y.square().sum((1, 2)), rtol=1e-9, atol=0)


def test_nothing_is_lacking_of_what_a_layer_gives_itself():
    layer, rows = model_of().blocks[0].ssm.double(), rows_of()
    u, widths = rows.x.double(), rows.x[..., 2].double()
    wanted = layer(u, widths=widths).detach()
    valid = torch.ones(4, 9, dtype=torch.bool)
    item = Recording(u=u, y=wanted, wanted=wanted, valid=valid, widths=widths)
    for how, right in ((item, True), (replace(item, widths=None), False)):
        found = moments_of_record(layer.modes("layer"), layer.D.detach().double(), [how])
        assert (float(found.error_energy.max()) < 1e-20) == right
