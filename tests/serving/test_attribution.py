"""What steps add to an answer: by hand, against captum, and by what must always hold."""

import pytest
import torch

from helpers.models import Kind, make_input, make_model
from helpers.tiny_mamba import tiny
from ssmith.core.errors import DataError, InputError, UnsupportedError
from ssmith.families.heads import HeadConfig, with_head
from ssmith.serving import AttributionConfig, attribute


def models():
    yield make_model(Kind("s5"))
    yield make_model(Kind("s4d", bidirectional=True), pooling="last", task="regression")
    yield with_head(
        tiny("mamba", dtype=torch.float64), HeadConfig(outputs=3, channels=2), torch.Generator()
    ).eval()


def row(model, length=12):
    return torch.randn(length, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("model", list(models()), ids=["s5", "s4d", "mamba"])
@pytest.mark.parametrize("baseline", ["zero", "mean"])
def test_gradients_add_up_and_are_captum_s(model, baseline):
    captum = pytest.importorskip("captum.attr")
    x = row(model)
    found = attribute(model, x, AttributionConfig(baseline=baseline, points=32), output=1)
    nothing = torch.zeros_like(x) if baseline == "zero" else x.mean(0, keepdim=True).expand_as(x)
    wanted = captum.IntegratedGradients(model).attribute(
        x[None], baselines=nothing[None], target=1, n_steps=32, method="gausslegendre"
    )[0]
    # The norms of transformers round to float32 inside a float64 model.
    assert (found.values - wanted).abs().max() < 1e-7
    # Of a norm close to silence the path is steep: few points miss most of it.
    many = attribute(model, x, AttributionConfig(baseline=baseline, points=512), output=1)
    assert abs(many.gap) < 1e-4 * max(1.0, abs(many.output - many.at_nothing))


@pytest.mark.parametrize("width", [1, 5])
def test_occlusion_by_hand(width):
    model = make_model(Kind("s5"))
    x = row(model)
    found = attribute(model, x, AttributionConfig(method="occlusion", width=width), output=2)
    with torch.no_grad():
        for start in range(0, len(x), width):
            for channel in range(2):
                less = x.clone()
                less[start : start + width, channel] = 0
                fall = model(x[None])[0, 2] - model(less[None])[0, 2]
                part = found.values[start : start + width, channel]
                assert abs(float(part.sum() - fall)) < 1e-12
                assert torch.equal(part, part[:1].expand_as(part))


def test_a_linear_answer_is_taken_apart_exactly():
    """Of y = Σ w·x each step adds w·x, by both methods."""

    class Weighed(type(make_model(Kind("s5")))):
        def forward(self, x, lengths=None):
            return (x * torch.arange(1.0, 25.0, dtype=x.dtype).view(12, 2)).sum((1, 2))[:, None]

    model = make_model(Kind("s5"), outputs=1, task="regression")
    model.__class__ = Weighed
    x = row(model)
    wanted = x * torch.arange(1.0, 25.0, dtype=x.dtype).view(12, 2)
    for method in ("integrated-gradients", "occlusion"):
        found = attribute(model, x, AttributionConfig(method=method))
        assert (found.values - wanted).abs().max() < 1e-12
        assert abs(found.gap) < 1e-12


def test_tokens_are_left_out():
    model = make_model(Kind("s4d"), vocabulary=7)
    ids = make_input(model, batch=1, length=6)[0]
    found = attribute(model, ids, AttributionConfig(method="occlusion"), output=0)
    with torch.no_grad():
        whole = model(ids[None])[0, 0]
        for step in range(6):
            rest = torch.cat([ids[:step], ids[step + 1 :]])
            assert float(found.values[step, 0]) == pytest.approx(
                float(whole - model(rest[None])[0, 0])
            )
    with pytest.raises(UnsupportedError, match="occlusion"):
        attribute(model, ids)


def test_the_likeliest_class_is_taken_apart_unless_another_is_asked_for():
    model = make_model(Kind("s5"))
    x = row(model)
    with torch.no_grad():
        out = model(x[None])[0]
    assert attribute(model, x).place == int(out.argmax())
    assert attribute(model, x, output=0).output == pytest.approx(float(out[0]))
    with pytest.raises(InputError, match="0 to 3"):
        attribute(model, x, output=4)
    with pytest.raises(DataError, match="channels"):
        attribute(model, x[:0])
