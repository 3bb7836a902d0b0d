"""Move the eigenvalues of the states that stay to where the H2 error is least."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from ssmith.core.errors import NumericalError
from ssmith.core.gramian import controllability
from ssmith.core.layers import Modes
from ssmith.core.layout import Layout

STEPS = 100
RIDGE = 1e-10
"""Added to the correlations of the states that stay, whose diagonal is one."""


def descend(modes: Modes, keep: Bool[Tensor, "s"]) -> tuple[Modes, float, float]:
    """Lower the H2 error of a layer's reduction over eigenvalues and input rows.

    The read-out is solved for at every step (variable projection), so what is descended is
    ``min_C ‖G − G_r(A, B, C)‖²``, in closed form from Gramians. Eigenvalues are
    ``exp(−exp(a) + iθ)``: they stay inside the unit circle, complex states stay complex, and the
    layer stays diagonal. Returned are the layer with new values at the states that stay, and its
    squared error before and after, which never rises, as a share of its squared H2 norm.

    Source: H2-optimal reduction by descent over poles (cf. Gugercin, Antoulas, Beattie 2008, whose
        conditions a minimum meets), with L-BFGS.
    Differs: not by a fixed-point iteration: two-sided projections of trained layers were unstable
        after their first step in nearly all cases tried, however well they were conditioned.
    """
    stays = keep & modes.present
    if bool((modes.is_unstable() & modes.present).any()):
        raise NumericalError(f"layer {modes.layer} has states with |λ̄| ≥ 1: no H2 norm")
    with_any = stays if modes.channel is None else torch.isin(modes.channel, modes.channel[stays])
    whole = modes.only(modes.present & (with_any | (modes.channel is None)))
    small = modes.only(stays)
    if not small.count:
        return replace(modes, present=stays), 1.0, 1.0
    problem = _Problem(whole, small)
    before, after = problem.solve()
    return _placed(modes, stays, problem.result()), before, after


class _Problem:
    """The error as a function of the small layer's free numbers."""

    def __init__(self, whole: Modes, small: Modes) -> None:
        self.whole, self.small = whole, small
        self.layout, self.small_layout = Layout.of(whole), Layout.of(small)
        self.weight = self.layout.weight(whole.C, whole.C_back)
        gram = controllability(self.layout, whole)
        self.energy = max(float((self.weight * (gram @ self.weight)).sum()), 1e-300)
        decay = -small.A_bar.abs().clamp(1e-9, 1 - 1e-12).log()
        self.free = [decay.log(), small.A_bar.angle()]
        if small.channel is None:
            # Of SISO layers only the product of B and C counts.
            self.free.append(torch.view_as_real(small.B_bar.resolve_conj()).clone())
        self.free = [item.detach().requires_grad_() for item in self.free]

    def modes(self) -> Modes:
        """Return the small layer at the free numbers; its read-out is the old one."""
        log_decay, angle, *B = self.free
        A = torch.polar((-log_decay.exp()).exp(), angle)
        rows = torch.view_as_complex(B[0]) if B else self.small.B_bar
        return replace(self.small, A_bar=A, B_bar=rows)

    def fitted(self, modes: Modes) -> tuple[Float64[Tensor, ""], Float64[Tensor, "g f o"]]:
        """Return the relative squared error with the best read-out, and that read-out's weight."""
        own = controllability(self.small_layout, modes)
        right = controllability(self.small_layout, modes, self.whole, self.layout) @ self.weight
        size = own.diagonal(dim1=-2, dim2=-1)
        silent = size <= 1e-300
        scale = torch.where(silent, 1.0, size).sqrt().unsqueeze(-1)
        steady = torch.where(silent, 1.0, torch.full_like(size, RIDGE))
        system = own / (scale * scale.mT) + torch.diag_embed(steady)
        weight = torch.linalg.solve(system, right / scale)
        error = 1.0 - (weight * (right / scale)).sum() / self.energy
        return error, weight / scale

    def solve(self) -> tuple[float, float]:
        """Descend; return the error before and after."""
        optimizer = torch.optim.LBFGS(
            self.free, max_iter=STEPS, line_search_fn="strong_wolfe", history_size=20,
            tolerance_grad=1e-9, tolerance_change=1e-10,
        )  # fmt: skip
        best, errors = [item.detach().clone() for item in self.free], list[float]()

        def closure() -> Tensor:
            nonlocal best
            optimizer.zero_grad()
            error = self.fitted(self.modes())[0]
            error.backward()
            value = error.detach()
            if not errors or float(value) < min(errors):
                best = [item.detach().clone() for item in self.free]
            errors.append(float(value))
            return value

        with torch.enable_grad():
            optimizer.step(closure)
        self.free = best
        if not torch.isfinite(torch.tensor(errors[0])):
            raise NumericalError(f"layer {self.whole.layer}: its H2 error is not finite")
        return errors[0], min(errors)

    def result(self) -> Modes:
        """Return the small layer with the best read-out."""
        with torch.no_grad():
            found = self.modes()
            C, C_back = self.small_layout.readout(self.fitted(found)[1])
        return replace(found, C=C, C_back=C_back)


def _placed(modes: Modes, stays: Bool[Tensor, "s"], small: Modes) -> Modes:
    """Put the values of the states that stay into their places."""

    def put(old: Tensor, new: Tensor) -> Tensor:
        out = old.clone()
        out[stays] = new
        return out

    back = None
    if modes.C_back is not None and small.C_back is not None:
        back = put(modes.C_back, small.C_back)
    return replace(
        modes,
        A_bar=put(modes.A_bar, small.A_bar),
        B_bar=put(modes.B_bar, small.B_bar),
        C=put(modes.C, small.C),
        C_back=back,
        present=stays,
        drift=None,
    )
