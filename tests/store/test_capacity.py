"""Whether a store fits on the disk, and its computation into memory."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from pipeline.errors import PipelineError
from pipeline.store.capacity import require
from pipeline.store.writer import Contents

CLIPS = [f"{number}.wav" for number in range(200)]


def _require(path: Path, *, clips: int = 200, clip_bytes: int = 1) -> None:
    require(path, Contents(CLIPS[:clips], (5, 3), "float16", {}), clip_bytes, "decode", "lower it")


def test_the_store_must_fit_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes clips times the bytes of a row."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=200 * 30))
    _require(tmp_path / "a.h5")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=200 * 30 - 1))
    with pytest.raises(PipelineError, match=r"^decode needs 6\.0 kB for .*, but its disk has 6\.0 kB free"):
        _require(tmp_path / "a.h5")


def test_the_clips_of_all_workers_must_fit_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each worker computes eight clips at once, and no more start than there are tasks of 64 clips."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=16_000))
    monkeypatch.setenv("PIPELINE_JOBS", "2")
    _require(tmp_path / "a.h5", clip_bytes=1000)
    with pytest.raises(PipelineError, match=r"^decode needs 32\.0 kB of memory, but 16\.0 kB are free"):
        _require(tmp_path / "a.h5", clip_bytes=2000)
    _require(tmp_path / "a.h5", clips=64, clip_bytes=2000)
    _require(tmp_path / "a.h5", clips=1, clip_bytes=16_000)
    monkeypatch.setenv("PIPELINE_BACKEND", "dask")
    _require(tmp_path / "a.h5", clip_bytes=10**9)
