"""Tasks of lm-eval as jobs ask for them."""

from __future__ import annotations

from ssmith.core.errors import InputError
from ssmith.evaluation.harness import HarnessConfig


def harness_config(
    lm_eval: tuple[str, ...] | None,
    lm_eval_limit: int | None,
    few_shot: int | None,
    *,
    batch_size: int,
    seed: int,
) -> HarnessConfig | None:
    """Return which tasks are run, or None if none is asked for.

    Args:
        lm_eval: tasks by name or file; None for none.
        lm_eval_limit: documents of each at most.
        few_shot: solved examples before each question.
        batch_size: requests per forward pass.
        seed: of the choice of solved examples, and of resampling.

    Returns:
        The config.

    Raises:
        InputError: if a setting is given without a task, or outside its domain.
    """
    if lm_eval is None:
        for name, value in (("lm-eval-limit", lm_eval_limit), ("few-shot", few_shot)):
            if value is not None:
                raise InputError(f"--{name} without --lm-eval", next_step="name a task")
        return None
    return HarnessConfig(
        tasks=lm_eval, limit=lm_eval_limit, few_shot=few_shot, batch_size=batch_size, seed=seed
    )
