"""Work spread over the cores of this machine, or over other machines."""

import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import joblib
import numpy as np
from joblib.externals.loky.process_executor import BrokenProcessPool

import pipeline
from pipeline.errors import PipelineError

LOCAL = ("loky", "threading")
REMOTE = ("dask", "ray")
ATTEMPTS = 4
TASKS_PER_WORKER = 4
# What computes must be the same everywhere, or the bytes are not.
LIBRARIES = ("joblib", "numpy", "scipy", "soundfile", "soxr", "xxhash")

Task = TypeVar("Task")
Result = TypeVar("Result")
# A result, or what is wrong with the input: an exception from another machine is of another class.
Answer = tuple[Result, None] | tuple[None, str]


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


def backend() -> str:
    """Return joblib's backend: PIPELINE_BACKEND, or loky. Raises PipelineError where it is none."""
    name = os.environ.get("PIPELINE_BACKEND", "").strip() or LOCAL[0]
    if name not in LOCAL + REMOTE:
        raise PipelineError(f"PIPELINE_BACKEND must be one of {', '.join(LOCAL + REMOTE)}, is {name!r}")
    return name


def remote() -> bool:
    """Return whether the work may be done on machines that do not have the project's folder."""
    return backend() in REMOTE


def each(
    function: Callable[[Any], Result],
    tasks: Sequence[Task],
    prepare: Callable[[Task], Any] | None = None,
) -> Iterator[Result]:
    """Yield `function(task)` for each of `tasks`, in their order, computed by `jobs()` workers.

    `function`, tasks and results are pickled. Only a few tasks are in flight at a time. Where a worker
    dies, the tasks that it had are started again.

    Args:
        function: what to compute.
        tasks: what of.
        prepare: turns a task into what `function` takes; called here, shortly before it is sent.

    Raises:
        PipelineError: workers died again and again, or compute with other libraries than this process.
    """
    run = _elsewhere(function) if remote() else _Here(function, Path.cwd())
    done = attempts = 0
    with ExitStack() as stack:
        config = _config(stack)
        while done < len(tasks):
            try:
                for result, mistake in _results(config, run, tasks[done:], prepare):
                    if mistake:
                        raise PipelineError(mistake)
                    done, attempts = done + 1, 0
                    yield cast("Result", result)
            except _deaths() as error:
                attempts += 1
                if attempts == ATTEMPTS:
                    raise PipelineError(
                        f"workers died {attempts} times ({type(error).__name__}), perhaps for want of memory:"
                        " lower PIPELINE_JOBS"
                    ) from None
                print(f"a worker died: {len(tasks) - done} tasks are started again", flush=True)


def _results(
    config: dict[str, Any],
    function: Callable[[Any], Answer[Result]],
    tasks: Sequence[Task],
    prepare: Callable[[Task], Any] | None,
) -> Iterator[Answer[Result]]:
    # Ray's backend returns lists alone: there the tasks go out in waves, or memory would hold them all.
    streams = config["backend"] != "ray"
    if config["backend"] in LOCAL:  # a process takes half a second to start
        config = {**config, "n_jobs": min(config["n_jobs"], len(tasks))}
    with joblib.parallel_config(**config):
        workers = joblib.Parallel(return_as="generator" if streams else "list")
    wave = len(tasks) if streams else TASKS_PER_WORKER * workers.n_jobs
    with workers:
        for start in range(0, len(tasks), wave):
            ready = (task if prepare is None else prepare(task) for task in tasks[start : start + wave])
            yield from workers(joblib.delayed(function)(task) for task in ready)


def _config(stack: ExitStack) -> dict[str, Any]:
    """Return joblib's configuration; what has to be closed at the end goes onto `stack`."""
    name, scheduler = backend(), os.environ.get("PIPELINE_SCHEDULER", "").strip() or None
    try:
        match name:
            case "dask":
                from distributed import Client
                from distributed.comm import get_address_host_port

                if scheduler:  # a client of an address that is none would wait for it at the end
                    get_address_host_port(scheduler)
                local = {} if scheduler else {"n_workers": jobs(), "threads_per_worker": 1}
                client = Client(scheduler, set_as_default=False, **local)
                return {"backend": name, "n_jobs": -1, "client": stack.enter_context(client)}
            case "ray":
                import ray
                from ray.util.joblib import register_ray

                local = {} if scheduler else {"num_cpus": jobs(), "include_dashboard": False}
                # Without an address it would join any that runs here.
                ray.init(scheduler or "local", log_to_driver=False, **local)
                stack.callback(ray.shutdown)
                register_ray()
                return {"backend": name, "n_jobs": int(ray.cluster_resources()["CPU"])}
    except ModuleNotFoundError as error:
        raise PipelineError(
            f"PIPELINE_BACKEND is {name}, and {error.name} is missing: pip install '.[{name}]'"
        ) from None
    except (OSError, ValueError, RuntimeError) as error:
        if scheduler is None:
            raise
        raise PipelineError(
            f"PIPELINE_SCHEDULER is {scheduler}, and no {name} answers there: {error}: start it, or correct"
            " the address"
        ) from None
    return {"backend": name, "n_jobs": jobs()}


@dataclass(frozen=True)
class _Here(Generic[Task, Result]):
    function: Callable[[Task], Result]
    folder: Path

    def __call__(self, task: Task) -> Answer[Result]:
        # joblib keeps its processes for the next call, which may come from another folder.
        os.chdir(self.folder)
        return _answer(self.function, task)


def _answer(function: Callable[[Task], Result], task: Task) -> Answer[Result]:
    keep_freed_memory()
    try:
        return function(task), None
    except PipelineError as mistake:
        return None, str(mistake)


def keep_freed_memory() -> None:
    """Have the C library keep what arrays leave behind, for the next ones.

    glibc hands large blocks back to the system, which clears every page anew: half of the time of work
    whose arrays come and go. It keeps blocks up to the largest that was ever freed, 32 MiB at most
    (mallopt(3), M_MMAP_THRESHOLD). Elsewhere this does nothing.
    """
    np.empty(31 << 20, np.uint8)


def _elsewhere(function: Callable[[Task], Result]) -> Callable[[Task], Answer[Result]]:
    """Return `function` in a form that brings this project's code along, as workers elsewhere have none."""
    import cloudpickle

    cloudpickle.register_pickle_by_value(pipeline)
    wrapped: Callable[[Task], Answer[Result]] = joblib.wrap_non_picklable_objects(
        _SameLibraries(function, _versions()), keep_wrapper=False
    )
    return wrapped


@dataclass(frozen=True)
class _SameLibraries(Generic[Task, Result]):
    function: Callable[[Task], Result]
    expected: dict[str, str]

    def __call__(self, task: Task) -> Answer[Result]:
        found = _versions()
        if found != self.expected:
            odd = [name for name in found if found[name] != self.expected[name]]
            return None, (
                f"a worker on {platform.node()} has"
                f" {', '.join(f'{name} {found[name]} (here {self.expected[name]})' for name in odd)}:"
                " install requirements.lock there, or the bytes would differ"
            )
        return _answer(self.function, task)


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def _deaths() -> tuple[type[BaseException], ...]:
    """Return the errors by which the libraries in use say that a worker died."""
    deaths: list[type[BaseException]] = [BrokenProcessPool]
    if "distributed" in sys.modules:
        from distributed import KilledWorker

        deaths.append(KilledWorker)
    if "ray" in sys.modules:
        from ray.exceptions import RayActorError

        deaths.append(RayActorError)
    return tuple(deaths)
