"""transformers' Trainer on the engine: the same training as stock, in every mode."""

import pytest
import torch

from helpers.tiny_mamba import NAMES, tiny, tokens
from ssmith.families.hf import accelerate_, restore_

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
STEPS = 3


def train(model, place, **settings):
    """Train a few steps; return the loss of each."""
    ids = tokens(4 * STEPS, 16)
    arguments = transformers.TrainingArguments(
        output_dir=str(place), max_steps=STEPS, per_device_train_batch_size=4, logging_steps=1,
        learning_rate=1e-2, lr_scheduler_type="constant", save_strategy="no", report_to=[],
        use_cpu=True, disable_tqdm=True, seed=0, **settings,
    )  # fmt: skip
    data = [{"input_ids": row, "labels": row} for row in ids]
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=data)
    trainer.train()
    return torch.tensor([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def test_the_loss_curve_is_stocks(name, tmp_path):
    stock, ours = tiny(name), tiny(name)
    wanted = train(stock, tmp_path)
    accelerate_(ours)
    kind = type(ours.backbone.layers[0].mixer)
    found = train(ours, tmp_path)
    assert len(found) == STEPS
    assert wanted[0] - wanted[-1] > 0.01
    assert torch.allclose(found, wanted, rtol=0, atol=2e-4)
    assert type(ours.backbone.layers[0].mixer) is kind
    restore_(ours)
    for key, value in stock.state_dict().items():
        assert (ours.state_dict()[key] - value).abs().max() < 5e-3, key


@pytest.mark.parametrize(
    "settings", [{"activation_checkpointing": True}, {"bf16": True},
                 {"activation_checkpointing": True, "bf16": True}], ids=str,
)  # fmt: skip
def test_checkpointing_and_autocast_train_alike(name, settings, tmp_path):
    plain, model = tiny(name), tiny(name)
    accelerate_(plain)
    accelerate_(model)
    wanted = train(plain, tmp_path)
    found = train(model, tmp_path, **settings)
    tolerance = 0.05 if "bf16" in settings else 1e-4
    assert torch.allclose(found, wanted, rtol=0, atol=tolerance)
