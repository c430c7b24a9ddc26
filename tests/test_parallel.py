from pathlib import Path

import joblib
import pytest

from pipeline import parallel
from pipeline.errors import PipelineError


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_results_come_in_the_order_of_the_tasks(monkeypatch: pytest.MonkeyPatch, jobs: int) -> None:
    """Any number of processes gives the same results in the same order."""
    monkeypatch.setenv("PIPELINE_JOBS", str(jobs))
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


def _where(_: int) -> Path:
    return Path.cwd()


def test_a_relative_path_means_the_same_in_every_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes that joblib kept from an earlier call work in the folder of the present one."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert set(parallel.each(_where, range(4))) == {tmp_path / name}
