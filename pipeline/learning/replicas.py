"""Train on several GPUs or machines as one device would.

Only a training with several replicas imports this module. It patches `network` and `strategy`, because
Keras fails with several replicas, or computes something else than one device does.
"""

import zlib
from collections.abc import Callable, Iterator
from typing import Any

from pipeline.errors import PipelineError
from pipeline.learning.batches import Subset
from pipeline.learning.checkpoints import EPOCHS
from pipeline.learning.settings import Train
from pipeline.models import Model


def prepare(network: Any, model: Model, subsets: tuple[Subset, Subset], settings: Train) -> None:
    """Check that all replicas train on the same, and patch `network` and its strategy.

    Raises PipelineError if batches or clips are too few to be split among the replicas, or if the machines
    have different clips or parameters.
    """
    strategy = network.distribute_strategy
    _check(strategy, model, subsets, settings)
    _synchronize_batch_norm(network)
    _patch_reduce(strategy)


def common(strategy: Any, epochs: set[int]) -> set[int]:
    """Return those of the few `epochs`, all above 0, that every machine of `strategy` passes."""
    import tensorflow as tf

    own = sorted(epochs)[-EPOCHS:]
    padded = tf.constant([[0] * (EPOCHS - len(own)) + own], tf.int64)
    gathered = strategy.gather(
        strategy.experimental_distribute_values_from_function(lambda _: padded), axis=0
    )
    return set.intersection(*(set(row) for row in gathered.numpy().tolist())) - {0}


def distribute(network: Any, dataset: Callable[..., Any]) -> Any:
    """Return the batches of `dataset`, split among the replicas of `network`.

    `dataset(replicas=..., num_replicas=...)` returns the parts of some replicas. Keras takes the mean of the
    parts' gradients, so if a part has one clip more than another, its clips count slightly less.
    """
    strategy = network.distribute_strategy

    def here(context: Any) -> Any:
        local = context.num_replicas_in_sync // context.num_input_pipelines
        first = context.input_pipeline_id * local
        return dataset(replicas=range(first, first + local), num_replicas=context.num_replicas_in_sync)

    return strategy.distribute_datasets_from_function(here)


def _check(strategy: Any, model: Model, subsets: tuple[Subset, Subset], settings: Train) -> None:
    import tensorflow as tf

    devices = strategy.num_replicas_in_sync
    if settings.batch_size < 2 * devices:  # a smaller last batch might have no clip for some device
        raise PipelineError(
            f"params.yaml: train.batch_size is {settings.batch_size}, must be at least {2 * devices}, two"
            f" clips for each of {devices} devices: raise it, or train on fewer devices"
        )
    clips = [(subset.clips, subset.store.checksums[subset.rows].tobytes()) for subset in subsets]
    if len(subsets[0].rows) < devices:
        raise PipelineError(
            f"there are {len(subsets[0].rows)} training clips, and {devices} devices need at least one each:"
            " raise params.yaml: train.clips_per_label, or train on fewer devices"
        )
    digest = zlib.crc32(repr((model, settings, clips)).encode())
    digests = strategy.experimental_distribute_values_from_function(lambda _: tf.constant([digest], tf.int64))
    if len(set(strategy.gather(digests, axis=0).numpy())) > 1:
        raise PipelineError(
            "the machines in TF_CONFIG train on different clips or parameters: check out the same commit on"
            " each of them, and run dvc repro there for data/split.csv and the feature"
        )


def _synchronize_batch_norm(network: Any) -> None:
    # Otherwise each replica would normalise by its part of a batch, and the first one's moments be saved.
    import keras

    for layer in _layers(network):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True


def _layers(network: Any) -> Iterator[Any]:
    for layer in network.layers:
        yield layer
        yield from _layers(layer) if hasattr(layer, "layers") else ()


def _patch_reduce(strategy: Any) -> None:
    # To learn the shape of a batch, Keras takes the mean of its parts. That fails if one part is longer than
    # another, or on another machine. On several machines Keras also takes the mean of scalars along their
    # first axis. These scalars are the metrics of one step, and the metrics over all replicas replace them
    # after each epoch. Only Keras passes the operation as text, so TensorFlow's own calls are unchanged.
    import keras

    reduce_all = strategy.reduce

    def reduce(operation: Any, value: Any, axis: int | None = None) -> Any:
        if operation != "MEAN":
            return reduce_all(operation, value, axis)
        return keras.tree.map_structure(lambda part: strategy.experimental_local_results(part)[0], value)

    strategy.reduce = reduce
