"""What the tests share: the project's folder, real clips, and small recordings of any format."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import soundfile
from filelock import FileLock

from tests.project import ROOT, Project

DATA = ROOT.parent / "shared" / "data"

Record = Callable[..., Path]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone whose pipeline has run once, its lock file committed: one for all workers, to be copied."""
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
    """The eight words of the Speech Commands test set, as they were recorded."""
    path = DATA / "speech_commands_8words.zip"
    if not path.exists():
        pytest.skip(f"no real clips: {path.name} does not lie in shared/data beside the project")
    return path


@pytest.fixture(scope="session")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a dask scheduler with two workers, in folders of their own and without this project."""
    folder = tmp_path_factory.mktemp("dask")
    dask = str(Path(sys.executable).with_name("dask"))
    where, log = folder / "scheduler.json", (folder / "log").open("w")
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
                [dask, name, "--scheduler-file", str(where), *args], cwd=cwd, env=env, stdout=log, stderr=log
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
        for _ in range(300):
            if where.exists() and (text := where.read_text()):
                break
            time.sleep(0.1)
        yield str(json.loads(text)["address"])


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """A function that writes a recording of noise and returns its path."""

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
