import importlib
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import dask
import joblib
import pytest

from pipeline import parallel
from pipeline.errors import PipelineError

LOCAL = ["threading", "loky"]


@pytest.fixture(autouse=True)
def _two_jobs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two jobs; and workers elsewhere are sent this file's functions as they are sent the project's."""
    monkeypatch.setenv("PIPELINE_JOBS", "2")
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture(params=[*LOCAL, *(pytest.param(name, marks=pytest.mark.cluster) for name in ("dask", "ray"))])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each backend in turn, dask with a scheduler and workers of its own."""
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


def test_all_cores_are_used_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without PIPELINE_JOBS there are as many jobs as cores that this process may use."""
    monkeypatch.delenv("PIPELINE_JOBS", raising=False)
    assert parallel.jobs() == joblib.cpu_count()


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5"])
def test_a_number_of_jobs_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """PIPELINE_JOBS that is no whole number above 0 is an error that quotes it."""
    monkeypatch.setenv("PIPELINE_JOBS", text)
    with pytest.raises(PipelineError, match=f"is '{text}'"):
        parallel.jobs()


def test_a_backend_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """PIPELINE_BACKEND that is no backend is an error that lists them."""
    monkeypatch.setenv("PIPELINE_BACKEND", "spark")
    with pytest.raises(PipelineError, match="one of loky, threading, dask, ray, is 'spark'"):
        parallel.backend()


@pytest.mark.parametrize(
    "scheduler", ["tcp://127.0.0.1:9", "tcp://127.0.0.1:port", "foo", "udp://127.0.0.1:9"]
)
def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch, scheduler: str) -> None:
    """An address at which nothing listens, or that is none, is an error that quotes it."""
    monkeypatch.setenv("PIPELINE_BACKEND", "dask")
    monkeypatch.setenv("PIPELINE_SCHEDULER", scheduler)
    # distributed fills in its settings where it is first imported, and they would be gone with this one.
    importlib.import_module("distributed")
    quick = dask.config.set({"distributed.comm.timeouts.connect": "1s"})
    with (
        quick,
        pytest.raises(PipelineError, match=f"PIPELINE_SCHEDULER is {re.escape(scheduler)}, and no dask"),
    ):
        list(parallel.each(abs, [1]))


def _where(_: int) -> Path:
    return Path.cwd()


@pytest.mark.parametrize("backend", LOCAL)
def test_a_relative_path_means_the_same_in_every_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    """Processes that joblib kept from an earlier call work in the folder of the present one."""
    monkeypatch.setenv("PIPELINE_BACKEND", backend)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert set(parallel.each(_where, range(4))) == {tmp_path / name}


def _fail(task: int) -> int:
    if task == 3:
        raise PipelineError("task 3 is wrong")
    return task


def test_a_mistake_is_reported_from_anywhere(backend: str) -> None:
    """A PipelineError in a worker, on another machine too, arrives as one."""
    del backend
    with pytest.raises(PipelineError, match="task 3 is wrong"):
        list(parallel.each(_fail, range(8), prepare=int))


class Dies:
    """Squares its tasks; the first to come to each of some tasks kills its own process."""

    def __init__(self, marks: Path, *tasks: int) -> None:
        self._marks = marks
        self._tasks = tasks

    def __call__(self, task: int) -> int:
        mark = self._marks / str(task)
        if task in self._tasks and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return task**2


def test_a_worker_that_dies_costs_a_retry_and_no_result(tmp_path: Path, backend: str) -> None:
    """Every result comes once and in order, although a worker was killed on the way."""
    if backend == "threading":
        pytest.skip("a thread cannot be killed alone")
    results = parallel.each(Dies(tmp_path, 5), range(12), prepare=int)
    assert list(results) == [task**2 for task in range(12)]
    assert (tmp_path / "5").exists()


def test_deaths_with_results_between_them_do_not_add_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a long run workers may die more often than a single task may kill them."""
    monkeypatch.setenv("PIPELINE_BACKEND", "loky")
    deaths = range(1, 2 * parallel.ATTEMPTS, 2)
    results = parallel.each(Dies(tmp_path, *deaths), range(12), prepare=int)
    assert list(results) == [task**2 for task in range(12)]
    assert len(list(tmp_path.iterdir())) == parallel.ATTEMPTS


def _die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_workers_that_die_again_and_again_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that kills every worker ends with what to change, not in an endless loop."""
    monkeypatch.setenv("PIPELINE_BACKEND", "loky")
    with pytest.raises(PipelineError, match=r"workers died 4 times.*lower PIPELINE_JOBS"):
        list(parallel.each(_die, range(4)))


def test_a_worker_with_other_libraries_is_refused() -> None:
    """A worker elsewhere whose soxr is another one does not compute, and says which it has."""
    expected = {**parallel._versions(), "soxr": "0.1"}
    result, mistake = parallel._SameLibraries(int, expected)(1)
    assert result is None
    assert re.search(r"has soxr \d.* \(here 0\.1\): install requirements\.lock there", str(mistake))
