"""Refuse a store for which this machine has too little room on the disk, or too little memory."""

import math
from pathlib import Path

import numpy as np

from pipeline import parallel
from pipeline.needs import need_disk, need_memory
from pipeline.store.writer import CLIPS_AT_A_TIME, CLIPS_PER_TASK, Contents


def require(path: Path, contents: Contents, clip_bytes: int, what: str, remedy: str) -> None:
    """Return if a store with `contents` can be written to `path`.

    Args:
        path: where the store will be written.
        contents: what it will contain.
        clip_bytes: the memory that the computation of one row takes, rather too little.
        what: the name of the work, such as `features.stft`.
        remedy: what to do if there is too little room or memory.

    Raises PipelineError as `need_disk` and `need_memory`.
    """
    num_clips = len(contents.clips)
    row_bytes = math.prod(contents.row_shape) * np.dtype(contents.dtype).itemsize
    need_disk(path, num_clips * row_bytes, what, remedy)
    if not parallel.remote():  # or the memory is that of other machines
        workers = min(parallel.jobs(), math.ceil(num_clips / CLIPS_PER_TASK))
        need_memory(min(num_clips, workers * CLIPS_AT_A_TIME) * clip_bytes, what, remedy)
