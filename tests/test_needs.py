"""Whether disk and memory are large enough."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from pipeline import needs
from pipeline.errors import PipelineError
from pipeline.needs import need_disk, need_memory
from tests.project import ROOT

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
        f"features.stft needs 93.1 GB for {path}, but its disk has 20.4 GB free: free some space, of which"
        " data/kept may have some, or lower it"
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


MEGABYTE = 1 << 20
GROUP = Path("/sys/fs/cgroup/memory", f"pipeline-test-{os.getpid()}")
IN_GROUP = """
import os, pathlib, sys
pathlib.Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))
from pipeline.needs import free_memory
print(free_memory())
"""


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of version 1 that may take 300 MB of memory."""
    try:
        GROUP.mkdir()
        (GROUP / "memory.limit_in_bytes").write_text(str(300 * MEGABYTE))
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    yield GROUP
    GROUP.rmdir()


def test_a_process_with_a_limit_has_no_more_memory_than_that(group: Path) -> None:
    """In a real control group, what is left of its limit is free, although the machine has much more."""
    result = subprocess.run(
        [sys.executable, "-c", IN_GROUP, str(group)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert 200 * MEGABYTE < int(result.stdout) < 300 * MEGABYTE < needs.free_memory()


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"job": "900", "job/step": "500"}, [500 - 300 + 75, 900 - 300 + 75]),
        ({"job": "max", "job/step": "200"}, [0]),
        ({"": "1000"}, [1000 - 300 + 75]),  # a container, whose own group is the top one
    ],
    ids=["two", "full", "container"],
)
def test_the_limits_of_all_groups_count(tmp_path: Path, limits: dict[str, str], expected: list[int]) -> None:
    """Files in the form of control groups of version 2: memory that caches files counts as free."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("3:cpu,cpuacct:/other\n0::/job/step\n")
    for name, limit in limits.items():
        folder = tmp_path / "sys/fs/cgroup" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text("300\n")
        (folder / "memory.stat").write_text("anon 200\ninactive_file 50\nactive_file 25\n")
    assert list(needs._free_in_groups(tmp_path)) == expected
    for path in tmp_path.rglob("memory.stat"):
        path.unlink()
    assert list(needs._free_in_groups(tmp_path)) == [max(0, free - 75) for free in expected]
    assert list(needs._free_in_groups(tmp_path / "no")) == []
