"""How TensorFlow is started, in the stages that use it."""

import os


def start(seed: int) -> None:
    """Import TensorFlow, quietly, with every generator seeded and deterministic operations alone."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
