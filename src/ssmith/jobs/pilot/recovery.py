"""The part of a pilot that lets a cut model learn to make up for its cut."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ssmith.core.errors import UnsupportedError
from ssmith.core.progress import Progress
from ssmith.core.sections import DataSection
from ssmith.core.seeds import derive
from ssmith.core.sequences import SequenceData
from ssmith.core.text import Text
from ssmith.families import SequenceModel
from ssmith.jobs.pilot.config import PilotConfig
from ssmith.jobs.pilot.directory import STAGES, RunDirectory
from ssmith.jobs.pilot.subject import Subject
from ssmith.jobs.tuning.recovery import (
    Recovered,
    RecoveryConfig,
    check_recovery,
    from_sequences,
    from_windows,
    recover_,
)
from ssmith.jobs.tuning.training_set import TrainingSet


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """How every cut of a pilot is recovered.

    Checkpoints lie beside the stages of the pilot's directory; windows of a text are ``learned``
    and ``validated`` on, as a receipt tells them.
    """

    config: RecoveryConfig
    data: TrainingSet
    directory: RunDirectory
    progress: Progress
    learned: DataSection | None = None
    validated: DataSection | None = None

    def apply_(self, pruned: nn.Module, dense: nn.Module, sparsity: float) -> Recovered:
        """Recover a cut model in place."""
        path = self.directory.out / STAGES / f"recover-{sparsity:g}.safetensors"
        return recover_(
            pruned, dense, self.data, self.config, checkpoint=path, progress=self.progress
        )


def recovery_of(
    subject: Subject, config: PilotConfig, directory: RunDirectory, progress: Progress
) -> Recovery | None:
    """Return how cuts of a model are recovered, or None if they are not.

    It learns from the training split, of a text from as many windows as its steps take, or as there
    are.
    """
    how, data, dense = config.recovery(), subject.source.data, subject.model
    if how is None:
        return None
    check_recovery(dense, how)
    if isinstance(data, SequenceData) and isinstance(dense, SequenceModel):
        learned = from_sequences(dense, data, how)
        return Recovery(config=how, data=learned, directory=directory, progress=progress)
    if not isinstance(data, Text):
        raise UnsupportedError(
            "rows of your own to recover on",
            allowed="sequence models and language models",
            next_step="leave recover out, or train the cut model yourself",
        )
    length = config.length or 2
    places = len(data.split("train")) - length + 1
    wanted = max(1, min(how.steps * how.batch_size, places))
    train = data.sample(wanted, length, seed=derive(config.seed, "recovery") % 2**31)
    validation = config.rows("validation").cut(data)
    return Recovery(
        config=how,
        data=from_windows(dense, (train, validation), how),
        directory=directory,
        progress=progress,
        learned=train.describe(),
        validated=validation.describe(),
    )
