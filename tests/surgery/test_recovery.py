"""Recovery against least squares on features written out, and its laws on whole layers."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.scan_cases import scan_inputs
from helpers.tiny_mamba import tiny, tokens
from helpers.tolerances import assert_close
from ssmith.calibrate.recovery import removed_contribution
from ssmith.core.errors import InputError
from ssmith.families.hf import engine
from ssmith.families.mamba.family import cut_
from ssmith.families.registry import find_selective
from ssmith.ops.selective_scan import selective_scan
from ssmith.surgery.recovery import recover_, recovery

SIZES = (2, 40, 3, 4)
ALL = ("D", "h", "y")


def cut_scan(given=("z", "D", "dt_bias", "valid"), seed=0):
    """A scan, and the same with some entries memoryless."""
    scan = scan_inputs(SIZES, given, seed=seed)
    draw = torch.Generator().manual_seed(seed + 9)
    gone = torch.rand(SIZES[2:], generator=draw) < 0.5
    return replace(scan, A=torch.where(gone, -(torch.tensor(38.0).double().exp()), scan.A)), scan


def outputs(scan):
    y, _ = selective_scan(replace(scan, z=None))
    return y


def written_out(cut, reference):
    """Per channel: weighted features (1, x, C) and the weighted lack, over valid steps."""
    gate = cut.z * torch.sigmoid(cut.z)
    if cut.valid is not None:
        gate = gate * cut.valid[..., None]
    lacking = outputs(reference) - outputs(cut)
    shared = torch.cat([torch.ones_like(cut.C[..., :1]), cut.C], -1)
    for channel in range(cut.x.shape[-1]):
        x = cut.x[..., channel, None]
        features = torch.cat([shared[..., :1], x, shared[..., 1:]], -1)
        root = gate[..., channel, None]
        yield (features * root).flatten(0, 1), (lacking[..., channel] * root[..., 0]).flatten()


@pytest.mark.parametrize("given", [("z", "D"), ("z", "D", "dt_bias", "valid")])
def test_sums_are_those_of_written_out_features(given):
    cut, reference = cut_scan(given)
    sums = removed_contribution(cut, reference)
    for channel, (z, wanted) in enumerate(written_out(cut, reference)):
        assert_close("oracle", sums["gram"][channel], z.T @ z)
        assert_close("oracle", sums["right"][channel], z.T @ wanted)
        assert_close("oracle", sums["energy"][channel], wanted.square().sum())


def test_what_bfloat16_lacks_is_not_its_rounding():
    cut, reference = cut_scan()
    narrow = [
        replace(
            scan, **{name: getattr(scan, name).bfloat16() for name in ("x", "dt", "B", "C", "z")}
        )
        for scan in (cut, reference)
    ]
    wide = [
        replace(scan, **{name: getattr(scan, name).float() for name in ("x", "dt", "B", "C", "z")})
        for scan in narrow
    ]
    for name, expected in removed_contribution(*wide).items():
        torch.testing.assert_close(removed_contribution(*narrow)[name], expected)


@pytest.mark.parametrize(
    ("terms", "columns"),
    [("D", [1]), ("y", [0]), ("h", [2, 3, 4, 5]), ("Dh", [1, 2, 3, 4, 5]), (ALL, range(6))],
)
def test_terms_are_least_squares(terms, columns):
    cut, reference = cut_scan()
    found = recovery(removed_contribution(cut, reference), terms, ridge=1e-12)
    parts = [
        torch.zeros(3, 1, dtype=torch.float64) if found.y is None else found.y[:, None],
        found.D[:, None],
        torch.zeros(3, 4, dtype=torch.float64) if found.h is None else found.h,
    ]
    ours = torch.cat(parts, 1)
    left = 0.0
    for channel, (z, wanted) in enumerate(written_out(cut, reference)):
        part = z[:, list(columns)]
        solved = torch.linalg.lstsq(part, wanted[:, None]).solution[:, 0]
        torch.testing.assert_close(ours[channel, list(columns)], solved, rtol=1e-6, atol=1e-8)
        left += float((part @ solved - wanted).square().sum())
    assert found.after == pytest.approx(left, rel=1e-8)
    assert found.after < found.before


@settings(deadline=None, max_examples=25)
@given(
    terms=st.sets(st.sampled_from(ALL), min_size=1),
    ridge=st.floats(1e-9, 100.0),
    seed=st.integers(0, 99),
)
def test_it_never_raises_the_error_it_was_fitted_to(terms, ridge, seed):
    found = recovery(removed_contribution(*cut_scan(seed=seed)), sorted(terms), ridge)
    assert found.after <= found.before * (1 + 1e-9)


def test_more_terms_recover_more():
    sums = removed_contribution(*cut_scan())
    after = [recovery(sums, terms).after for terms in ("D", "Dh", ALL)]
    assert after[0] > after[1] > after[2]


def test_nothing_removed_gives_nothing_back():
    _, scan = cut_scan()
    found = recovery(removed_contribution(scan, scan), ALL)
    assert found.before == found.after == 0
    assert not found.D.any() and not found.h.any() and not found.y.any()


@pytest.mark.parametrize("name", ["mamba", "falcon_mamba"])
@pytest.mark.parametrize("terms", ["D", "Dh", "Dhy"])
def test_a_recovered_layer_has_the_error_that_was_promised(name, terms):
    model = tiny(name, dtype=torch.float64)
    layer = next(iter(find_selective(model).values()))
    hidden = model.get_input_embeddings()(tokens(3, 30)).detach()
    with torch.no_grad(), engine(model):
        reference = layer.parts(hidden).scan
        cut_(
            layer,
            "entry",
            torch.arange(layer.e * layer.n).view(layer.e, -1) % 2 == 0,
            semantics="memoryless",
        )
        cut = layer.parts(hidden).scan
        found = recovery(removed_contribution(cut, reference), terms)
        wanted = selective_scan(reference)[0]
        recover_(layer, found)
        after = layer.parts(hidden).scan
        got = selective_scan(after)[0]
        if "y" in terms:
            got = got + found.y * after.z * torch.sigmoid(after.z)
        assert float((got - wanted).square().sum()) == pytest.approx(found.after, rel=1e-6, abs=0)
        assert found.after < found.before


def test_what_does_not_fit_is_said():
    cut, reference = cut_scan()
    sums = removed_contribution(cut, reference)
    with pytest.raises(InputError, match="'x'"):
        recovery(sums, ["x"])
    with pytest.raises(InputError, match="no term"):
        recovery(sums, [])
    with pytest.raises(InputError, match="ridge"):
        recovery(sums, ["D"], 0.0)
    with pytest.raises(InputError, match="one batch"):
        removed_contribution(cut, scan_inputs((2, 7, 3, 4), ("z",)))
