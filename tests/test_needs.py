"""Whether disk and memory are large enough."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from pipeline.errors import PipelineError
from pipeline.needs import need_disk, need_memory

NONE_HAS = 10**24


def test_a_disk_that_is_too_small_is_named_with_both_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One message has the need, the path, the free space and the remedy. An exact fit is enough."""
    path = tmp_path / "not/yet/stft.h5"
    with pytest.raises(PipelineError, match=r"needs 1000000\.0 EB for"):
        need_disk(path, NONE_HAS, "features.stft", "lower it")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=20_400_000_000))
    need_disk(path, 20_400_000_000, "features.stft", "lower it")
    with pytest.raises(PipelineError) as caught:
        need_disk(path, 93_100_000_000, "features.stft", "lower it")
    assert str(caught.value) == (
        f"features.stft needs 93.1 GB for {path}, but its disk has 20.4 GB free: lower it, or free some space"
    )


def test_a_memory_that_is_too_small_is_named_with_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory that the work holds already counts as free."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1500))
    need_memory(1500, "decode", "lower it")
    need_memory(1600, "decode", "lower it", held=100)
    with pytest.raises(PipelineError) as caught:
        need_memory(1700, "decode", "lower it", held=100)
    assert str(caught.value) == (
        "decode needs 1.7 kB of memory, but 1.6 kB are free: lower it, or use a machine with more memory"
    )
