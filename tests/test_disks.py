"""Stages on a disk that is full, read-only or forbidden: one message, and nothing half-written."""

import ctypes
import hashlib
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.project import fresh_environment

# The stages without TensorFlow, and an output of each.
STAGES = {
    "extract": "data/raw",
    "decode": "data/waveforms.h5",
    "split": "data/split.csv",
    "featurize stft": "data/features/stft.h5",
}
WITH_TENSORFLOW = {"train": "models/model.keras", "evaluate": "results/metrics.json"}
TENSORFLOW = [pytest.param(stage, marks=pytest.mark.tensorflow) for stage in WITH_TENSORFLOW]


class Disk:
    """A clone, which has run, on a disk of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self) -> None:
        """Leave no space."""
        stat = os.statvfs(self.path)
        (self.path / "filling").write_bytes(bytes(stat.f_bavail * stat.f_frsize))

    def make_read_only(self) -> None:
        _mount("-o", "remount,ro", str(self.path))

    def digests(self) -> dict[str, str]:
        """Return the md5 of each file of data, models and results."""
        return {
            file.relative_to(self.path).as_posix(): hashlib.md5(file.read_bytes()).hexdigest()
            for name in ("data", "models", "results")
            for file in sorted((self.path / name).rglob("*"))
            if file.is_file() and os.access(file, os.R_OK)
        }

    def fails(self, stage: str, limit: Callable[[], None] = lambda: None) -> str:
        """Run a stage as DVC does, which must fail without a traceback, and return its message."""
        name, *arguments = stage.split()
        result = subprocess.run(
            [sys.executable, "-m", f"pipeline.stages.{name}", *arguments],
            cwd=self.path,
            env={**fresh_environment(), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=limit,
        )
        assert result.returncode == 1, result.stdout + result.stderr
        assert "Traceback" not in result.stderr, result.stderr
        return result.stderr


def _mount(*arguments: str) -> None:
    result = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip(f"this user cannot mount a disk: {result.stderr}")


@pytest.fixture
def disk(finished: Path, tmp_path: Path) -> Iterator[Disk]:
    """A clone on a disk of 256 MB in memory."""
    path = tmp_path / "disk"
    path.mkdir()
    _mount("-t", "tmpfs", "-o", "size=256m", "tmpfs", str(path))
    try:
        shutil.copytree(
            finished, path, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".git", ".dvc")
        )
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def _without_output(disk: Disk, stage: str) -> dict[str, str]:
    """Delete the output of `stage`, as DVC does, and return the digests of what is left."""
    output = disk.path / {**STAGES, **WITH_TENSORFLOW}[stage]
    shutil.rmtree(output) if output.is_dir() else output.unlink()
    shutil.rmtree(disk.path / "data/kept", ignore_errors=True)
    return disk.digests()


@pytest.mark.parametrize("stage", [*STAGES, *TENSORFLOW])
def test_a_full_disk_is_named(disk: Disk, stage: str) -> None:
    """The message names the output and says to free space. All other files stay as they are."""
    before = _without_output(disk, stage)
    disk.fill()
    message = disk.fails(stage)
    (disk.path / "filling").unlink()
    assert STAGES.get(stage, "results/") in message or "data/" in message
    assert "free some space" in message
    assert disk.digests() == before


@pytest.mark.parametrize("stage", [*STAGES, *TENSORFLOW])
def test_a_read_only_disk_is_named(disk: Disk, stage: str) -> None:
    """The message names the path, and says that the file system is read-only."""
    _without_output(disk, stage)
    disk.make_read_only()
    message = disk.fails(stage)
    assert "Read-only file system: make the file system writable" in message


@pytest.mark.parametrize("stage", ["decode", "featurize stft"])
def test_a_limit_of_file_sizes_is_named(disk: Disk, stage: str) -> None:
    """If the user's limit of file sizes is too low for a store, the message has the store and its bytes."""
    before = _without_output(disk, stage)
    message = disk.fails(stage, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)))
    assert f"{STAGES[stage]}: File too large, it needs" in message
    assert "ulimit -f" in message
    assert disk.digests() == before


def _obey_permissions() -> None:
    """Let root obey permissions as other users do: drop CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH."""
    for capability in (1, 2):
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can take root's right to read everything")
@pytest.mark.parametrize(
    ("stage", "path", "mode"),
    [
        ("extract", "params.yaml", 0),
        ("extract", "data/archive/demo", 0),
        ("extract", "data", 0o555),
        ("decode", "data/left_out.csv", 0),
        ("decode", "data/raw", 0),
        ("decode", "data/raw/go", 0),
        ("decode", "data", 0o555),
        ("split", "data/clips.csv", 0),
        ("featurize stft", "data/waveforms.h5", 0),
        ("featurize stft", "data/features", 0o555),
        pytest.param("train", "data/features/stft.h5", 0, marks=pytest.mark.tensorflow),
        pytest.param("train", "results", 0o555, marks=pytest.mark.tensorflow),
        pytest.param("evaluate", "models/model.keras", 0, marks=pytest.mark.tensorflow),
        pytest.param("evaluate", "results", 0o555, marks=pytest.mark.tensorflow),
        ("report", "results/predictions.csv", 0),
        ("report", "results", 0o555),
    ],
)
def test_what_the_user_may_not_read_or_write_is_named(
    finished: Path, tmp_path: Path, stage: str, path: str, mode: int
) -> None:
    """The message has the path and "Permission denied", whether an input or an output is forbidden."""
    project = tmp_path / "project"
    shutil.copytree(finished, project, symlinks=True, ignore=shutil.ignore_patterns(".git", ".dvc"))
    disk = Disk(project)
    forbidden = project / path
    usual = forbidden.stat().st_mode
    forbidden.chmod(mode)
    try:
        message = disk.fails(stage, _obey_permissions)
    finally:
        forbidden.chmod(usual)
    assert f"{path}" in message
    assert "Permission denied: change its permissions" in message
