"""The exact norms are those of the layers that really run."""

import pytest
import torch

from ssmith.criteria import AIRE, Hinf
from ssmith.criteria.energies import h2_energy
from ssmith.families.lti import LTIOptions
from ssmith.families.s4d.layer import S4DLayer
from ssmith.families.s5.layer import S5Layer

LENGTH = 4001

# Without conjugate symmetry a channel of S4D needs an even number of states, so it is left out.
CASES = [("s5", False, True), ("s5", True, True), ("s5", False, False), ("s5", True, False)]
CASES += [("s4d", False, True), ("s4d", True, True)]


@pytest.fixture(params=CASES, ids=str)
def one_state(request):
    """A layer with a single state and no feed-through, in float64."""
    family, two_way, conj_sym = request.param
    options = LTIOptions(bidirectional=two_way, conj_sym=conj_sym, dt_min=0.05, dt_max=0.3)
    source = torch.Generator().manual_seed(1)
    if family == "s5":
        layer = S5Layer(3, 1, options=options, generator=source)
    else:
        layer = S4DLayer(1, 1, options=options, generator=source)
    layer = layer.double()
    torch.nn.init.zeros_(layer.get_parameter("D"))
    return layer


@pytest.fixture
def responses(one_state):
    """Its output after an impulse in the middle of the sequence, one row per input channel."""
    impulses = torch.zeros(one_state.width, LENGTH, one_state.width, dtype=torch.float64)
    for channel in range(one_state.width):
        impulses[channel, LENGTH // 2, channel] = 1.0
    with torch.no_grad():
        return one_state(impulses)


def test_h2_energy(one_state, responses):
    modes = one_state.modes("layer")
    with torch.no_grad():
        given = h2_energy(modes, "intended", "exact")
    torch.testing.assert_close(given.sum(), responses.square().sum(), rtol=1e-10, atol=0)
    assert AIRE(norm="exact")([modes]).values["layer"].flatten().tolist() == [1.0]


def test_hinf(one_state, responses):
    """The discrete Fourier transform samples the gain; it comes close to the peak from below."""
    given = float(Hinf(norm="exact")([one_state.modes("layer")]).values["layer"].sum()) ** 0.5
    spectrum = torch.fft.fft(responses, dim=1).permute(1, 2, 0)
    sampled = float(torch.linalg.matrix_norm(spectrum, ord=2).max())
    assert sampled <= given * (1 + 1e-9)
    assert given == pytest.approx(sampled, rel=2e-4)
