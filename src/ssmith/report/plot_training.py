"""The curve of a training run: loss of every step, and of each look at the validation split."""

from __future__ import annotations

from collections.abc import Sequence

from ssmith.core.details import ValidationLook
from ssmith.report.plot import ACCENT, INK, SOFT, Plot, canvas, render, table_csv

_WIDTH, _NARROW, _HEIGHT = 620.0, 380.0, 320.0


def training_plot(
    losses: Sequence[float], looks: Sequence[ValidationLook], best: int, *, narrow: bool = False
) -> Plot:
    """Draw a training run: losses of each step, if known, looks, and the step that was kept.

    ``narrow`` is for a phone. Raises `MissingExtraError` if matplotlib is not installed.
    """
    width = _NARROW if narrow else _WIDTH
    seen = {look.step: look.validation["loss"] for look in looks}
    with canvas(width, _HEIGHT) as figure:
        axes = figure.add_axes((64 / width, 48 / _HEIGHT, 1 - 84 / width, 1 - 78 / _HEIGHT))
        learned = dict(enumerate(losses, start=1)) or {
            look.step: look.train_loss for look in looks if look.train_loss
        }
        axes.plot(
            list(learned), list(learned.values()), color=SOFT, linewidth=1.0, label="training"
        )
        axes.plot(list(seen), list(seen.values()), color=ACCENT, linewidth=1.8, marker="o",
                  markersize=4, label="validation")  # fmt: skip
        if best in seen:
            axes.plot([best], [seen[best]], color=INK, marker="o", markersize=7, linestyle="none",
                      fillstyle="none", label="kept")  # fmt: skip
        axes.set_xlabel("step")
        axes.set_title("loss", loc="left", fontsize=12, color=INK)
        axes.legend(frameon=False, loc="upper right")
        steps = sorted({0, *learned, *seen})
        rows = [(step, learned.get(step), seen.get(step)) for step in steps]
        alt = f"Training and validation loss over {max(steps)} steps; step {best} was kept."
        return render(
            figure,
            name="training-narrow" if narrow else "training",
            alt=alt,
            data=table_csv(("step", "train", "validation"), rows),
        )


def language_curve(
    train: Sequence[tuple[int, float]], validation: Sequence[tuple[int, float]]
) -> Plot:
    """Draw the training of a language model: bits per byte, learned and not, by step.

    Raises `MissingExtraError` if matplotlib is not installed.
    """
    with canvas(_WIDTH, _HEIGHT) as figure:
        axes = figure.add_axes((64 / _WIDTH, 48 / _HEIGHT, 1 - 84 / _WIDTH, 1 - 78 / _HEIGHT))
        axes.plot(*zip(*train, strict=True), color=SOFT, linewidth=1.2, label="training")
        axes.plot(*zip(*validation, strict=True), color=ACCENT, linewidth=1.8, marker="o",
                  markersize=4, label="validation")  # fmt: skip
        axes.set_xlabel("step")
        axes.set_title("bits per byte", loc="left", fontsize=12, color=INK)
        axes.legend(frameon=False, loc="upper right")
        last = f"{validation[-1][1]:.3f} after {validation[-1][0]} steps"
        first, second = dict(train), dict(validation)
        return render(
            figure,
            name="curve",
            alt=f"Bits per byte in training and on validation text, which ends at {last}.",
            data=table_csv(
                ("step", "train", "validation"),
                [(step, first.get(step), second.get(step)) for step in sorted(first | second)],
            ),
        )
