"""Knowledge distillation: a small network learns from the outputs of a trained one, its teacher.

Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, https://arxiv.org/abs/1503.02531. The
temperature is 1.
"""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import kerasfile
from pipeline.errors import PipelineError
from pipeline.learning import saving
from pipeline.learning.batches import Subset
from pipeline.learning.settings import Train
from pipeline.params import project
from pipeline.store.current import open_current
from pipeline.store.reader import verify

KEY = "params.yaml: train.teacher"
REMEDY = f"it is {KEY}: set it to a copy of the models/model.keras of a training of this project"


class Teacher(NamedTuple):
    """A trained network, and the training clips in the feature that it takes."""

    network: Any  # a Keras model: (clips, frames, bins) as stored → logits (clips, labels)
    train: Subset


def find(settings: Train) -> Path | None:
    """Return the path of the teacher's file, or None if `settings` name none. TensorFlow is not needed.

    Raises:
        PipelineError: the file is missing, or is no .keras file, or not the one with the md5 in `settings`.
    """
    if settings.teacher is None:
        return None
    path = project() / settings.teacher
    if not path.is_file():
        raise PipelineError(
            f"{KEY} is {settings.teacher!r}, but there is no such file: set it to the path of a trained"
            " .keras model, or to null to train without a teacher. It must be a copy, because DVC deletes"
            " models/model.keras before a training"
        )
    kerasfile.description(path, remedy=REMEDY)
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    if md5 != settings.teacher_md5:
        raise PipelineError(
            f"{KEY}_md5 is {settings.teacher_md5 or 'null'}, but {settings.teacher} has the md5 {md5}: add"
            f" -S train.teacher_md5={md5} to train with this file"
        )
    return path


def load(settings: Train, train: Subset) -> Teacher | None:
    """Return the teacher that `settings` name, or None if they name none.

    Args:
        settings: the section `train` of params.yaml.
        train: the training clips in the feature that the student takes.

    Raises:
        PipelineError: as `find`; or the file cannot be loaded; or the teacher has another number of labels,
            takes features of another shape, or computes in another precision; or a row of its feature has
            changed since it was written.
    """
    path = find(settings)
    if path is None:
        return None
    precision = kerasfile.precision(path, remedy=REMEDY)
    described = kerasfile.description(path, remedy=REMEDY)
    network = kerasfile.load(path, remedy=REMEDY)
    if precision != settings.precision:
        raise PipelineError(
            f"{KEY}: {settings.teacher} computes in {precision}, but train.precision is {settings.precision}:"
            f" set train.precision to {precision}, or train another teacher"
        )
    network.trainable = False
    store = train.store
    if settings.teacher_feature is not None:
        path = store.path.with_name(f"{settings.teacher_feature}.h5")
        store = open_current(path, settings.teacher_feature, same_clips_as=store)
        verify(store, train.rows.tolist())
    # A model that an older version of this project saved does not describe itself.
    described = {"labels": train.labels, "feature": store.params["feature"], **described}
    problem = saving.misfit(network, described, store, train.labels)
    if problem:
        raise PipelineError(
            f"{KEY}: {settings.teacher} {problem}: correct train.teacher_feature, or train another teacher"
        )
    return Teacher(network, dataclasses.replace(train, store=store))
