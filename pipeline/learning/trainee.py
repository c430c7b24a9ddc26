"""The Keras model that is trained in place of a network which has a teacher, or clips with noise."""

from typing import Any

from pipeline.learning.preparation import Preparation


def trainee(
    network: Any, teacher: Any | None, weight: float, *, preparation: Preparation | None = None
) -> Any:
    """Return a Keras model that trains the weights of `network`. For validation it does what `network` does.

    With a teacher, it is trained on two features of each clip, the student's and the teacher's. A clip's
    target is `1 - weight` times its label and `weight` times the probabilities that the teacher gives.

    Args:
        network: the student, features (clips, frames, bins) → logits (clips, labels).
        teacher: the same for the teacher's feature, or None.
        weight: the teacher's share of the targets.
        preparation: computes what the model is trained on from a batch of waveforms, at the beginning of each
            training step. None: batches are already prepared.
    """
    import keras

    class Trainee(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(name=network.name)
            self.student, self.teacher = network, teacher

        def call(self, inputs: Any, training: bool | None = None) -> Any:
            student = inputs[0] if isinstance(inputs, (tuple, list)) else inputs
            # On several devices, Keras also calls the model on a batch that is not prepared.
            if preparation is not None and len(student.shape) == 2:
                student = preparation.front_ends[0](student)
            return self.student(student, training=training)

        def compute_loss(self, x: Any = None, y: Any = None, *args: Any, **options: Any) -> Any:
            if self.teacher is not None and isinstance(x, (tuple, list)):
                probabilities = keras.ops.softmax(self.teacher(x[1], training=False))
                y = (1 - weight) * y + weight * keras.ops.cast(probabilities, y.dtype)
            return super().compute_loss(x, y, *args, **options)

        def train_step(self, data: Any) -> Any:
            return super().train_step(data if preparation is None else preparation.from_waveforms(*data))

    return Trainee()
