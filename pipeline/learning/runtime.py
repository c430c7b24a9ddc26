"""Start TensorFlow: quietly, seeded, on all GPUs, and on several machines if TF_CONFIG names them."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from pipeline.errors import PipelineError, uninterrupted
from pipeline.progress import quietly

# Rounding depends on the library that computes, on the instructions that it uses, and on the number of
# threads among which an operation is divided. By default TensorFlow chooses them by the processor. It reads
# these variables when it starts. Four threads use the cores of many machines. On two cores, eight threads
# made an epoch of resnet 12 % longer.
SAME_ROUNDING = {
    "TF_ENABLE_ONEDNN_OPTS": "1",
    "TF_SET_ONEDNN_FPMATH_MODE": "",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "TF_NUM_INTRAOP_THREADS": "4",
}

Address = Annotated[str, Field(pattern=r"^[^\s/]+:\d+$")]


class _Cluster(BaseModel, extra="forbid"):
    chief: list[Address] = Field([], max_length=1)
    worker: list[Address] = []


class _Task(BaseModel):
    type: Literal["chief", "worker"]
    index: int = Field(ge=0)


class _Config(BaseModel):
    """TF_CONFIG: the machines of a training, and which of them this one is."""

    cluster: _Cluster
    task: _Task

    @model_validator(mode="after")
    def _task_is_in_cluster(self) -> Self:
        size = len(getattr(self.cluster, self.task.type))
        if self.task.index >= size:
            raise ValueError(f"task is {self.task.type} {self.task.index}, but cluster has only {size}")
        return self


def start(
    seed: int, *, deterministic: bool = True, precision: str = "float32", machines: bool = False
) -> Any:
    """Import TensorFlow and seed every generator; return the strategy to build models under.

    With several GPUs the strategy is MirroredStrategy, on several machines MultiWorkerMirroredStrategy. They
    split batches, so batch size and learning rate mean what they mean on one device. GPU memory is allocated
    as it is needed, and float32 is not replaced by TensorFloat-32.

    Args:
        seed: of weights, dropout and everything else that is drawn.
        deterministic: use only operations that give the same bytes each time. With precision float32, also
            use only the instructions of AVX2, and 4 threads, so that every processor gives the same bytes.
        precision: of the layers. The mixed ones need later instructions than AVX2, so the bytes depend on
            the processor and its number of cores.
        machines: join the machines that TF_CONFIG in the environment names, and wait for all of them. If
            False, TF_CONFIG is ignored.

    Raises:
        PipelineError: TF_CONFIG does not name this machine among others, or its port is taken.
    """
    several = machines and _several_machines()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if deterministic and precision == "float32":
        os.environ.update(SAME_ROUNDING)
    with uninterrupted(), quietly():
        import keras
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    # A GPU would round the factors of a product to 10 bits, which changes a log-mel feature by 1.5 dB.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    if several:
        try:
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
        except tf.errors.UnknownError as error:
            raise PipelineError(
                f"TF_CONFIG: this machine cannot join the others: {error.message}: expected a free port at"
                " the address that index points to: change the port on each machine, or the index on this one"
            ) from None
    else:
        strategy = tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()
    keras.utils.set_random_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    if deterministic and not gpus:
        # The meta optimizer puts reciprocal square roots into graphs: see _normalize.
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
        keras.src.backend.nn.batch_normalization = _normalize
    return strategy


def _normalize(  # noqa: PLR0917 - Keras's arguments
    x: Any, mean: Any, variance: Any, axis: int, offset: Any = None, scale: Any = None, epsilon: float = 1e-3
) -> Any:
    """Do what `keras.ops.batch_normalization` does, without a reciprocal square root.

    Processors have an instruction that approximates it, and those of different makers differ.
    """
    import tensorflow as tf

    factor = 1 / tf.sqrt(variance + epsilon)
    if scale is not None:
        factor *= scale
    shift = -mean * factor if offset is None else offset - mean * factor
    shape = [1] * len(x.shape)
    shape[axis] = -1
    return x * tf.cast(tf.reshape(factor, shape), x.dtype) + tf.cast(tf.reshape(shift, shape), x.dtype)


def _several_machines() -> bool:
    text = os.environ.get("TF_CONFIG")
    if not text:
        return False
    try:
        cluster = _Config.model_validate_json(text).cluster
    except ValidationError as error:
        problem = error.errors()[0]
        path = ".".join(["TF_CONFIG", *map(str, problem["loc"])])
        raise PipelineError(
            f'{path}: {problem["msg"]}, found {problem["input"]!r}: expected {{"cluster": {{"worker":'
            ' ["host:port", …]}, "task": {"type": "worker", "index": 0}} where index is this machine\'s place'
            " among the workers: set it on each machine, or unset TF_CONFIG to train on one"
        ) from None
    return len(cluster.chief) + len(cluster.worker) > 1


@contextmanager
def outputs(strategy: Any) -> Iterator[Path]:
    """Yield the folder to write outputs to: the current one on the chief machine, elsewhere a temporary one.

    Every machine must run the code that writes, because reading the weights may need all machines.

    Raises PipelineError if another machine has stopped.
    """
    import tensorflow as tf

    try:
        if strategy.extended.should_checkpoint:
            yield Path()
        else:
            with tempfile.TemporaryDirectory() as folder:
                yield Path(folder)
    except tf.errors.UnavailableError as error:
        reason = error.message.partition("aborted by: ")[2] or error.message
        raise PipelineError(
            "a machine in TF_CONFIG has stopped or cannot be reached, and training needs all of them:"
            f" {' '.join(reason.splitlines()[:2])}: see what that machine printed, and start all again"
        ) from None
