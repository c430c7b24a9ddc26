"""Fixtures that many tests share: a finished run, real clips, a dask cluster, and small recordings."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import soundfile
from filelock import FileLock

from tests.project import DATA, Project, Record

# These files take the longest. A file is run by one worker, so they start first, and no worker waits for
# another at the end.
LONGEST = (
    "test_reruns.py",
    "test_fit.py",
    "test_cache.py",
    "test_replicas.py",
    "test_dvc.py",
    "test_compare.py",
)


def pytest_configure() -> None:
    """Let the programs that tests start be interrupted, also if a shell started pytest in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the longest files first."""
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone whose pipeline has run once, with a committed dvc.lock. All workers share it, and copy it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    path = shared / "finished" / "project"
    with FileLock(shared / "finished.lock"):
        if not (shared / "finished.txt").exists():
            project = Project(path)
            assert project.repro() == set(project.run("dvc", "stage", "list", "--name-only").split())
            project.commit()
            (shared / "finished.txt").touch()
    return path


@pytest.fixture(scope="session")
def real_archive() -> Path:
    """Real recordings of eight words, from the Speech Commands test set."""
    path = DATA / "speech_commands_8words.zip"
    if not path.exists():
        pytest.skip(f"there are no real clips: {path.name} is not in shared/data beside the project")
    return path


@pytest.fixture(scope="session")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a dask scheduler with two workers, which have neither this project nor its folder."""
    folder = tmp_path_factory.mktemp("dask")
    dask = str(Path(sys.executable).with_name("dask"))
    address_file, log = folder / "scheduler.json", (folder / "log").open("w")
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with ExitStack() as stack:
        for name, *args in (
            ("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"),
            ("worker", "--nthreads", "1", "--no-dashboard", "--name", "a"),
            ("worker", "--nthreads", "1", "--no-dashboard", "--name", "b"),
        ):
            cwd = folder / "-".join([name, args[-1].strip("-")])
            cwd.mkdir()
            process = subprocess.Popen(
                [dask, name, "--scheduler-file", str(address_file), *args],
                cwd=cwd,
                env=env,
                stdout=log,
                stderr=log,
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
        for _ in range(300):
            if address_file.exists() and (text := address_file.read_text()):
                break
            time.sleep(0.1)
        yield str(json.loads(text)["address"])


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """A function that writes a recording of noise, and returns its path."""

    def write(
        name: str,
        *,
        rate: int = 16000,
        samples: int = 16000,
        channels: int = 1,
        seed: int = 0,
        subtype: str | None = None,
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(seed).uniform(-0.5, 0.5, (samples, channels))
        soundfile.write(path, noise, rate, subtype=subtype)
        return path

    return write
