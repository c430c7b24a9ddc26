"""How TensorFlow is started, in the stages that use it."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from pipeline.errors import PipelineError

Address = Annotated[str, Field(pattern=r"^[^\s/]+:\d+$")]


class _Cluster(BaseModel, extra="forbid"):
    chief: list[Address] = Field([], max_length=1)
    worker: list[Address] = []


class _Task(BaseModel):
    type: Literal["chief", "worker"]
    index: int = Field(ge=0)


class _Config(BaseModel):
    """TF_CONFIG: every machine of a training, and which of them this one is."""

    cluster: _Cluster
    task: _Task

    @model_validator(mode="after")
    def _task_is_in_cluster(self) -> Self:
        known = len(getattr(self.cluster, self.task.type))
        if self.task.index >= known:
            raise ValueError(f"task is {self.task.type} {self.task.index}, and cluster has {known} of these")
        return self


def start(seed: int, *, deterministic: bool = True, machines: bool = False) -> Any:
    """Import TensorFlow, quietly, with every generator seeded; return the strategy to build models under.

    With several GPUs it is MirroredStrategy, on several machines MultiWorkerMirroredStrategy: batches are
    split among them, so that batch size and learning rate mean what they mean on one device. A GPU's memory
    is taken as it is needed.

    Args:
        seed: of weights, dropout and whatever else is drawn.
        deterministic: use operations alone that give the same bytes each time.
        machines: take part with those that TF_CONFIG in the environment names, once all of them are there;
            otherwise it is not looked at.

    Raises PipelineError where TF_CONFIG does not name this machine among others, or its port is taken.
    """
    several = machines and _several_machines()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quietly():
        import keras
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if several:
        try:
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
        except tf.errors.UnknownError as error:
            raise PipelineError(
                f"TF_CONFIG: this machine does not join the others: {error.message}: expected a free port of"
                " its own at the address that index points to: change the port on every machine, or the index"
            ) from None
    else:
        strategy = tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()
    keras.utils.set_random_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    return strategy


@contextmanager
def quietly() -> Iterator[None]:
    """Keep back what libraries write to standard error as they are loaded, whatever they are told.

    Where the block raises it is written after all.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        except BaseException:
            said.seek(0)
            os.write(stderr, said.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def _several_machines() -> bool:
    text = os.environ.get("TF_CONFIG")
    if not text:
        return False
    try:
        cluster = _Config.model_validate_json(text).cluster
    except ValidationError as error:
        mistake = error.errors()[0]
        path = ".".join(["TF_CONFIG", *map(str, mistake["loc"])])
        raise PipelineError(
            f'{path}: {mistake["msg"]}, found {mistake["input"]!r}: expected {{"cluster": {{"worker":'
            ' ["host:port", …]}, "task": {"type": "worker", "index": 0}} with this machine\'s own place among'
            " the workers as index: set that on each machine, or unset TF_CONFIG to train on one"
        ) from None
    return len(cluster.chief) + len(cluster.worker) > 1


@contextmanager
def outputs(strategy: Any) -> Iterator[Path]:
    """Yield the folder under which a stage writes: this one on the chief machine, else one that is deleted.

    All machines must write, as reading what is to be written may take all of them.

    Raises PipelineError where another machine is no longer there.
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
            "a machine in TF_CONFIG has ended, or cannot be reached any more, while all are needed:"
            f" {' '.join(reason.splitlines()[:2])}: see what that one printed, and start all again"
        ) from None
