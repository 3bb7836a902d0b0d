"""A kernel's gradient is known once: a second derivative is refused by name, on every path."""

import pytest
import torch

from helpers.tiny_mamba import tiny
from ssmith.core.errors import UnsupportedError
from ssmith.families.hf import engine
from ssmith.ops.once import once


class Cube(torch.autograd.Function):
    """x³ with a gradient that is not differentiable."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @once("the cube")
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return (3 * x.square() * grad,)


def test_a_first_derivative_is_what_it_is():
    x = torch.tensor([2.0, -1.0], requires_grad=True)
    (plain,) = torch.autograd.grad(Cube.apply(x).sum(), x)
    (kept,) = torch.autograd.grad(Cube.apply(x).sum(), x, create_graph=True)
    assert torch.equal(plain, torch.tensor([12.0, 3.0]))
    assert torch.equal(kept.detach(), plain)


@pytest.mark.parametrize("ask", ["grad", "backward"])
def test_a_second_one_is_refused_by_name(ask):
    x = torch.tensor([2.0], requires_grad=True)
    (found,) = torch.autograd.grad(Cube.apply(x).sum(), x, create_graph=True)
    with pytest.raises(UnsupportedError, match="a second derivative of the cube"):
        if ask == "grad":
            torch.autograd.grad(found.sum(), x, allow_unused=True)
        else:
            found.sum().backward()


@pytest.mark.parametrize("kind", ["mamba", "mamba2"])
def test_under_the_engine_it_names_the_way_out(kind):
    model = tiny(kind)
    ids = torch.arange(1, 13)[None]
    trained = [item for item in model.parameters() if item.requires_grad]

    def second():
        loss = model(input_ids=ids, labels=ids).loss
        found = torch.autograd.grad(loss, trained, create_graph=True, allow_unused=True)
        size = sum(item.square().sum() for item in found if item is not None)
        return torch.autograd.grad(size, trained, allow_unused=True)

    with engine(model), pytest.raises(UnsupportedError, match="outside `with engine"):
        second()
    # The way out is one.
    assert any(item is not None and bool((item != 0).any()) for item in second())
