"""Spread work over the cores of this machine, or over other machines with dask."""

import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import joblib
import numpy as np
from joblib.externals.loky.process_executor import BrokenProcessPool

import pipeline
from pipeline.errors import PipelineError, uninterrupted

LOCAL = ("loky", "threading")
REMOTE = ("dask",)
ATTEMPTS = 4
SECONDS_BETWEEN_LOOKS = 0.2
# Libraries whose versions must be equal on all machines, or the bytes would differ.
LIBRARIES = ("joblib", "numpy", "scipy", "soundfile", "soxr", "xxhash")

Task = TypeVar("Task")
Result = TypeVar("Result")
# A result, or the message of a PipelineError. An exception from another machine would have another class.
Answer = tuple[Result, None] | tuple[None, str]


def jobs() -> int:
    """Return the number of processes: PIPELINE_JOBS, or one per core that this process may use.

    It comes from the environment and not from params.yaml, because it belongs to the machine and no output
    depends on it. Raises PipelineError if PIPELINE_JOBS is not a whole number above 0.
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
    """Return joblib's backend: PIPELINE_BACKEND, or loky. Raises PipelineError if it is unknown."""
    name = os.environ.get("PIPELINE_BACKEND", "").strip() or LOCAL[0]
    if name not in LOCAL + REMOTE:
        raise PipelineError(
            f"PIPELINE_BACKEND must be one of {', '.join(LOCAL + REMOTE)}, is {name!r}: unset it to use loky"
        )
    return name


def remote() -> bool:
    """Return whether workers may be on machines that do not have the project's folder."""
    return backend() in REMOTE


def each(
    function: Callable[[Any], Result],
    tasks: Sequence[Task],
    prepare: Callable[[Task], Any] | None = None,
    *,
    isolated: bool = False,
) -> Iterator[Result]:
    """Yield `function(task)` for each task, in order, computed by `jobs()` workers.

    `function`, tasks and results are pickled. Only a few tasks are in flight at a time. If a worker dies,
    its tasks are started again.

    Args:
        function: computes one task.
        tasks: the tasks.
        prepare: turns a task into the argument of `function`. It is called in this process, shortly before
            the argument is sent.
        isolated: use processes of this machine, whatever PIPELINE_BACKEND says. This is for a function that
            must not run in threads, or needs something that other machines may lack.

    Raises:
        PipelineError: workers keep dying, or have other versions of the libraries than this process.
    """
    name = LOCAL[0] if isolated else backend()
    run = _elsewhere(function) if name in REMOTE else _Here(function, Path.cwd())
    done = attempts = 0
    with ExitStack() as stack:
        config = _config(name, stack)
        while done < len(tasks):
            try:
                for result, problem in _results(config, run, tasks[done:], prepare):
                    if problem:
                        raise PipelineError(problem)
                    done, attempts = done + 1, 0
                    yield cast("Result", result)
            except _deaths() as error:
                attempts += 1
                if attempts == ATTEMPTS:
                    raise PipelineError(
                        f"workers died {attempts} times ({type(error).__name__}), perhaps because memory ran"
                        " out: lower PIPELINE_JOBS"
                    ) from None
                print(f"a worker died: {len(tasks) - done} tasks are started again", flush=True)


def _results(
    config: dict[str, Any],
    function: Callable[[Any], Answer[Result]],
    tasks: Sequence[Task],
    prepare: Callable[[Task], Any] | None,
) -> Iterator[Answer[Result]]:
    if config["backend"] in LOCAL:  # a process takes half a second to start
        config = {**config, "n_jobs": min(config["n_jobs"], len(tasks))}
    with joblib.parallel_config(**config):
        workers = joblib.Parallel(return_as="generator")
    with ExitStack() as stack:
        ready = (task if prepare is None else prepare(task) for task in tasks)
        with _no_interrupts_for_children():
            stack.enter_context(workers)
            results = workers(joblib.delayed(function)(task) for task in ready)
        yield from results


def _config(name: str, stack: ExitStack) -> dict[str, Any]:
    """Return joblib's configuration for the backend `name`. A client of dask is closed with `stack`."""
    scheduler = os.environ.get("PIPELINE_SCHEDULER", "").strip() or None
    if name == LOCAL[0]:
        return {
            "backend": name,
            "n_jobs": jobs(),
            "initializer": _end_with_parent,
            "initargs": (os.getpid(),),
        }
    if name in LOCAL:
        return {"backend": name, "n_jobs": jobs()}
    try:
        from distributed import Client
        from distributed.comm import get_address_host_port

        if scheduler:  # with a malformed address, the client would wait for it when it closes
            get_address_host_port(scheduler)
        local = {} if scheduler else {"n_workers": jobs(), "threads_per_worker": 1, "dashboard_address": ":0"}
        with _no_interrupts_for_children():
            client = Client(scheduler, set_as_default=False, **local)
    except ModuleNotFoundError as error:
        raise PipelineError(
            f"PIPELINE_BACKEND is {name}, but {error.name} is not installed: pip install '.[{name}]'"
        ) from None
    except (OSError, ValueError, RuntimeError) as error:
        if scheduler is None:
            raise
        raise PipelineError(
            f"PIPELINE_SCHEDULER is {scheduler}, but no {name} scheduler answers there: {error}: start one,"
            " or correct the address"
        ) from None
    return {"backend": name, "n_jobs": -1, "client": stack.enter_context(client)}


@contextmanager
def _no_interrupts_for_children() -> Iterator[None]:
    """Let processes and threads that are started in the block never get SIGINT.

    Ctrl-C sends it to all processes. Only this one should print something, after the block; it ends the
    others. In the block, it would leave a process that is half started.
    """
    with uninterrupted():
        # With the first process, joblib also starts this one. Before Python 3.14, that unblocks the signal.
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent(parent: int) -> None:
    """End this process when the process `parent`, which started it, has ended.

    Otherwise joblib's processes wait for five minutes, and whoever reads their output waits with them.
    Linux can send a signal instead, but it does so when the thread ends that started this process.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


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
    except PipelineError as problem:
        return None, str(problem)


def keep_freed_memory() -> None:
    """Make the C library keep the memory of freed arrays for the next ones.

    glibc returns large blocks to the system, and the system clears each page again. That would take half of
    the time of work whose arrays come and go. glibc keeps blocks as large as the largest that was ever freed,
    at most 32 MiB (mallopt(3), M_MMAP_THRESHOLD). With other C libraries this does nothing.
    """
    np.empty(31 << 20, np.uint8)


def _elsewhere(function: Callable[[Task], Result]) -> Callable[[Task], Answer[Result]]:
    """Return `function` in a form that carries this project's code, which workers elsewhere do not have."""
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
        installed = _versions()
        if installed != self.expected:
            odd = [
                f"{name} {installed[name]} (here {self.expected[name]})"
                for name in installed
                if installed[name] != self.expected[name]
            ]
            return None, (
                f"a worker on {platform.node()} has {', '.join(odd)}: install requirements.lock there,"
                " because other versions give other bytes"
            )
        return _answer(self.function, task)


def _versions() -> dict[str, str]:
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "none"
    return versions


def _deaths() -> tuple[type[BaseException], ...]:
    """Return the exceptions that mean that a worker died."""
    if "distributed" not in sys.modules:
        return (BrokenProcessPool,)
    from distributed import KilledWorker

    return (BrokenProcessPool, KilledWorker)
