"""How TensorFlow is started, in the stages that use it."""

import os
from typing import Any


def start(seed: int, *, deterministic: bool = True) -> Any:
    """Import TensorFlow, quietly, with every generator seeded; return the strategy to build models under.

    With several GPUs it is MirroredStrategy: batches are split among them, so that batch size and learning
    rate mean what they mean on one device. A GPU's memory is taken as it is needed.

    Args:
        seed: of weights, dropout and whatever else is drawn.
        deterministic: use operations alone that give the same bytes each time.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    strategy = tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()
    keras.utils.set_random_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    return strategy
