import importlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import cloudpickle
import dask
import joblib
import pytest

from pipeline import parallel
from pipeline.errors import PipelineError
from tests.project import ROOT

LOCAL = ["threading", "loky"]


@pytest.fixture(autouse=True)
def _two_jobs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Use two jobs, and send this file's functions to workers, as the project's own are sent."""
    monkeypatch.setenv("PIPELINE_JOBS", "2")
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture(params=[*LOCAL, pytest.param("dask", marks=pytest.mark.cluster)])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each backend in turn. Dask has its own scheduler and workers."""
    if request.param == "dask":
        monkeypatch.setenv("PIPELINE_SCHEDULER", request.getfixturevalue("dask"))
    monkeypatch.setenv("PIPELINE_BACKEND", request.param)
    return str(request.param)


@pytest.mark.parametrize("jobs", [1, 2, 4])
@pytest.mark.parametrize("backend", LOCAL)
def test_results_come_in_the_order_of_the_tasks(
    monkeypatch: pytest.MonkeyPatch, jobs: int, backend: str
) -> None:
    """Any number of threads or processes gives the same results in the same order."""
    monkeypatch.setenv("PIPELINE_JOBS", str(jobs))
    monkeypatch.setenv("PIPELINE_BACKEND", backend)
    assert list(parallel.each(abs, range(-20, 0))) == list(range(20, 0, -1))


def test_all_cores_are_used_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without PIPELINE_JOBS there is one job for each core that this process may use."""
    monkeypatch.delenv("PIPELINE_JOBS", raising=False)
    assert parallel.jobs() == joblib.cpu_count()


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5"])
def test_a_wrong_number_of_jobs_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A PIPELINE_JOBS that is not a whole number above 0 is an error that quotes it."""
    monkeypatch.setenv("PIPELINE_JOBS", text)
    with pytest.raises(PipelineError, match=f"is '{text}'"):
        parallel.jobs()


def test_an_unknown_backend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown PIPELINE_BACKEND is an error that lists the backends."""
    monkeypatch.setenv("PIPELINE_BACKEND", "spark")
    with pytest.raises(PipelineError, match="one of loky, threading, dask, is 'spark'"):
        parallel.backend()


@pytest.mark.parametrize(
    "scheduler", ["tcp://127.0.0.1:9", "tcp://127.0.0.1:port", "foo", "udp://127.0.0.1:9"]
)
def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch, scheduler: str) -> None:
    """A malformed address, or one at which nothing listens, is an error that quotes it."""
    monkeypatch.setenv("PIPELINE_BACKEND", "dask")
    monkeypatch.setenv("PIPELINE_SCHEDULER", scheduler)
    # distributed adds its settings at its first import. Within the block below they would be lost again.
    importlib.import_module("distributed")
    quick = dask.config.set({"distributed.comm.timeouts.connect": "1s"})
    with (
        quick,
        pytest.raises(PipelineError, match=f"PIPELINE_SCHEDULER is {re.escape(scheduler)}, but no dask"),
    ):
        list(parallel.each(abs, [1]))


def _where(_: int) -> Path:
    return Path.cwd()


@pytest.mark.parametrize("backend", LOCAL)
def test_a_relative_path_means_the_same_in_every_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    """Processes that joblib kept from an earlier call work in the current folder."""
    monkeypatch.setenv("PIPELINE_BACKEND", backend)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert set(parallel.each(_where, range(4))) == {tmp_path / name}


def _process(_: int) -> int:
    return os.getpid()


@pytest.mark.parametrize("backend", [*LOCAL, "dask"])
def test_isolated_work_is_done_by_processes_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    """Whatever the backend, isolated tasks run in other processes, and no dask scheduler is asked."""
    monkeypatch.setenv("PIPELINE_BACKEND", backend)
    monkeypatch.setenv("PIPELINE_SCHEDULER", "127.0.0.1:1")  # nothing answers there
    assert os.getpid() not in set(parallel.each(_process, range(4), isolated=True))


def _fail(task: int) -> int:
    if task == 3:
        raise PipelineError("task 3 is wrong")
    return task


def test_an_error_in_a_worker_is_reported(backend: str) -> None:
    """A PipelineError in a worker, even on another machine, is raised here."""
    del backend
    with pytest.raises(PipelineError, match="task 3 is wrong"):
        list(parallel.each(_fail, range(8), prepare=int))


class Dies:
    """Squares its tasks. The first process that gets one of some tasks kills itself."""

    def __init__(self, marks: Path, *tasks: int) -> None:
        self._marks = marks
        self._tasks = tasks

    def __call__(self, task: int) -> int:
        mark = self._marks / str(task)
        if task in self._tasks and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return task**2


@pytest.mark.parametrize(
    "backend", ["loky", pytest.param("dask", marks=pytest.mark.cluster)], indirect=True
)  # a thread cannot die without its process
def test_no_result_is_lost_if_a_worker_dies(tmp_path: Path, backend: str) -> None:
    """Every result comes once and in order, although a worker is killed."""
    del backend
    results = parallel.each(Dies(tmp_path, 5), range(12), prepare=int)
    assert list(results) == [task**2 for task in range(12)]
    assert (tmp_path / "5").exists()


def test_many_deaths_with_results_between_them_are_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a long run workers may die more often than one task may kill them."""
    monkeypatch.setenv("PIPELINE_BACKEND", "loky")
    deaths = range(1, 2 * parallel.ATTEMPTS, 2)
    results = parallel.each(Dies(tmp_path, *deaths), range(12), prepare=int)
    assert list(results) == [task**2 for task in range(12)]
    assert len(list(tmp_path.iterdir())) == parallel.ATTEMPTS


def _die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


ENDLESS = """if True:
    import time
    from pipeline import parallel
    for _ in parallel.each(time.sleep, [0, 0, 3600, 3600]):
        print("working", flush=True)
"""


BLOCKED = """
import signal
from pipeline.parallel import each

def blocked(_):
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())

if __name__ == "__main__":
    # More workers for the second call.
    print({*each(blocked, range(2))}, {*each(blocked, range(9))}, blocked(0))
"""


@pytest.mark.parametrize("backend", ["loky", pytest.param("dask", marks=pytest.mark.cluster)])
def test_ctrl_c_reaches_no_worker(tmp_path: Path, backend: str) -> None:
    """Workers block SIGINT from their first moment, or they would print tracebacks. This process does not."""
    (tmp_path / "run.py").write_text(BLOCKED)
    settings = {"PIPELINE_JOBS": "3", "PIPELINE_BACKEND": backend, "PYTHONPATH": f"{ROOT}"}
    result = subprocess.run(
        [sys.executable, "run.py"],
        cwd=tmp_path,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "{True} {True} False\n"


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("backend", ["loky", pytest.param("dask", marks=pytest.mark.cluster)])
def test_workers_end_with_the_process_that_started_them(
    tmp_path: Path, backend: str, end: signal.Signals
) -> None:
    """However a process ends, soon nobody holds its output open, so `dvc repro | tee` ends too."""
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PIPELINE_JOBS": "2", "PIPELINE_BACKEND": backend},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "working\n"
        process.send_signal(end)
        try:
            process.communicate(timeout=60)  # raises TimeoutExpired while any worker lives
        finally:
            with suppress(ProcessLookupError):  # the usual case: all have ended
                os.killpg(process.pid, signal.SIGKILL)


def test_workers_that_keep_dying_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that kills every worker ends with a message that says what to change."""
    monkeypatch.setenv("PIPELINE_BACKEND", "loky")
    with pytest.raises(PipelineError, match=r"workers died 4 times.*lower PIPELINE_JOBS"):
        list(parallel.each(_die, range(4)))


def test_a_worker_with_other_libraries_is_refused() -> None:
    """A worker with another version of soxr does not compute, and names both versions."""
    expected = {**parallel._versions(), "soxr": "0.1"}
    result, problem = parallel._SameLibraries(int, expected)(1)
    assert result is None
    assert re.search(r"has soxr \d.* \(here 0\.1\): install requirements\.lock there", str(problem))
