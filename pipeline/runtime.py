"""How TensorFlow is started, in the stages that use it."""

import json
import os
from typing import Any


def start(seed: int, *, deterministic: bool = True) -> Any:
    """Import TensorFlow, quietly, with every generator seeded; return the strategy to build models under.

    With several GPUs it is MirroredStrategy, with TF_CONFIG in the environment MultiWorkerMirroredStrategy:
    batches are split among them, so that batch size and learning rate mean what they mean on one device. A
    GPU's memory is taken as it is needed.

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
    strategy = tf.distribute.get_strategy()
    if "TF_CONFIG" in os.environ:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    elif len(gpus) > 1:
        strategy = tf.distribute.MirroredStrategy()
    keras.utils.set_random_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    return strategy


def chief() -> bool:
    """Return whether this process is the one that writes: the first worker, or the only one."""
    task = json.loads(os.environ.get("TF_CONFIG", "{}")).get("task", {})
    return task.get("type", "worker") in ("chief", "worker") and task.get("index", 0) == 0
