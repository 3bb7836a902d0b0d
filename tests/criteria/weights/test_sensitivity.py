"""Sensitivities against their definition."""

import pytest
import torch

from ssmith.core.errors import InputError
from ssmith.criteria.weights.sensitivity import sensitivity


def test_both_measures_by_their_definition():
    x = torch.randn(3, 7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    gram = torch.einsum("nti,ntj->ij", x, x) * 2 / 3
    energies = x.square().sum((0, 1))
    squared = float(gram.diagonal().square().sum() / 4)
    assert sensitivity(energies, 3) == pytest.approx(squared)
    assert sensitivity(energies, 3, "trace") == pytest.approx(float(gram.trace() / 4))


def test_no_data_has_no_sensitivity():
    with pytest.raises(InputError, match="at least one"):
        sensitivity(torch.ones(2, dtype=torch.float64), 0)
