"""How fast exported models are on this machine: one clip at a time, and in batches."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.serving import formats

# One clip is classified so often, or for as long, whichever ends first.
CALLS, SECONDS = 500, 1.0
BATCH_SIZE = 64
# One thread of the processor.
ALONE = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "CUDA_VISIBLE_DEVICES": "-1"}
# Trainings restrict the instructions of the processor, to give the same bytes everywhere.
RESTRICTION = "ONEDNN_MAX_CPU_ISA"


class Speed(NamedTuple):
    """The speed of a model, with one thread, after a first call."""

    median_ms: float  # for one clip
    p95_ms: float  # the 95th percentile
    clips_per_second: float  # in batches of 64


def measure(paths: dict[str, Path]) -> dict[str, Speed]:
    """Return the speed of each model. They run in another process, where TensorFlow has only one thread."""
    command = [sys.executable, "-m", __name__, json.dumps({name: str(path) for name, path in paths.items()})]
    environment = {name: value for name, value in os.environ.items() if name != RESTRICTION} | ALONE
    result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return {name: Speed(*speed) for name, speed in json.loads(result.stdout).items()}


def _measure(path: Path) -> Speed:
    model = formats.load(path, threads=1)
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, (BATCH_SIZE, model.description.audio.samples))
    clips = noise.astype(np.float32)
    median, p95 = np.quantile(_times(model.run, clips[:1]), [0.5, 0.95])
    return Speed(1000 * median, 1000 * p95, BATCH_SIZE / np.median(_times(model.run, clips)))


def _times(run: formats.Run, clips: NDArray[np.float32]) -> list[float]:
    """Return how many seconds each of many calls took."""
    run(clips)
    times: list[float] = []
    while len(times) < CALLS and sum(times) < SECONDS:
        start = time.perf_counter()
        run(clips)
        times.append(time.perf_counter() - start)
    return times


if __name__ == "__main__":
    print(json.dumps({name: _measure(Path(path)) for name, path in json.loads(sys.argv[1]).items()}))
