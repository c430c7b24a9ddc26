"""Work spread over the cores of this machine."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import joblib

from pipeline.errors import PipelineError

Task = TypeVar("Task")
Result = TypeVar("Result")


def jobs() -> int:
    """Return how many processes to use: PIPELINE_JOBS, or as many as this process may use cores.

    The number comes from the environment, never from params.yaml: it belongs to the machine, and no
    output depends on it. Raises PipelineError where PIPELINE_JOBS is no whole number above 0.
    """
    text = os.environ.get("PIPELINE_JOBS", "").strip()
    if not text:
        return int(joblib.cpu_count())
    if not text.isdecimal() or int(text) < 1:
        raise PipelineError(
            f"PIPELINE_JOBS must be a whole number above 0, is {text!r}: unset it to use every core"
        )
    return int(text)


def each(function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
    """Yield `function(task)` for each of `tasks`, in their order, computed by `jobs()` processes.

    `function`, tasks and results are pickled. Only a few tasks are in flight at a time.
    """
    here = Path.cwd()
    results: Iterator[Result] = joblib.Parallel(n_jobs=jobs(), return_as="generator")(
        joblib.delayed(_call)(here, function, task) for task in tasks
    )
    return results


def _call(folder: Path, function: Callable[[Task], Result], task: Task) -> Result:
    # joblib keeps its processes for the next call, which may come from another folder.
    os.chdir(folder)
    return function(task)
