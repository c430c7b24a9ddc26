"""Files are whole or absent, and what a killed process leaves is deleted."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import files
from pipeline.errors import PipelineError
from pipeline.files import atomic_write
from tests.project import ROOT


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """If the block raises, the old file is unchanged, and there is no other file in its folder."""
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write() -> None:
        with atomic_write(path) as part:
            part.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]  # noqa: PTH208


def test_a_folder_replaces_a_folder(tmp_path: Path) -> None:
    """A new folder replaces the old one, and no old file remains."""
    path = tmp_path / "raw"
    path.mkdir()
    (path / "old").touch()
    with atomic_write(path) as part:
        part.mkdir()
        (part / "new").touch()
    assert [file.name for file in path.iterdir()] == ["new"]


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_link_is_replaced_and_its_target_unchanged(tmp_path: Path, link: object) -> None:
    """If the path is a link into a cache, a new file replaces it, and the file in the cache is unchanged."""
    cached, path = tmp_path / "cached", tmp_path / "a.txt"
    cached.write_text("cached")
    assert callable(link)
    link(cached, path)
    with atomic_write(path) as part:
        part.write_text("new")
    assert (cached.read_text(), path.read_text()) == ("cached", "new")


def test_unfinished_outputs_are_in_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project's unfinished outputs are in data/.unfinished, which exists only while something is there."""
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    with atomic_write(Path("data/features/a.h5")) as part, atomic_write(Path("results/b.csv")) as other:
        for path in (part, other):
            assert path.parts[:2] == ("data", ".unfinished")
            path.touch()
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "a.h5",
        "b.csv",
        "data",
        "features",
        "results",
    ]


def test_on_another_file_system_the_unfinished_file_is_beside_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is moved within its file system, so it is complete or absent there too."""
    other = Path("/dev/shm") / tmp_path.name  # noqa: S108
    if not other.parent.is_dir() or other.parent.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system, /dev/shm")
    other.mkdir()
    try:
        monkeypatch.chdir(tmp_path)
        Path("data").mkdir()
        Path("data/features").symlink_to(other)
        with atomic_write(Path("data/features/a.h5")) as part:
            part.touch()
        assert [path.name for path in other.iterdir()] == ["a.h5"]
    finally:
        for path in other.iterdir():
            path.unlink()
        other.rmdir()


WRITER = """if True:
    import sys
    from pathlib import Path
    from pipeline.files import atomic_write
    with atomic_write(Path("data/a")) as part, atomic_write(Path(f"{part}.b")) as nested:
        for path in (part, nested):
            path.write_text("half")
        print("ready", flush=True)
        sys.stdin.read()
        part.write_text("whole")
"""


def test_only_what_no_living_process_writes_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run deletes what a killed process left, also nested files, and lets a living one finish."""
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    killed, living = writers
    for writer in writers:
        assert writer.stdout
        assert writer.stdout.readline() == "ready\n"
    killed.kill()
    killed.communicate()
    unfinished = Path("data/.unfinished")
    assert len(list(unfinished.iterdir())) == 4
    with atomic_write(Path("data/other")) as part:
        part.touch()
        assert len(list(unfinished.iterdir())) == 3
    living.communicate("")
    assert living.returncode == 0
    assert Path("data/a").read_text() == "whole"
    assert not unfinished.exists()


def test_a_process_may_be_killed_while_it_deletes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a process is killed when it has deleted half of its files, the next run deletes the others."""

    def die(path: Path) -> None:
        raise KeyboardInterrupt(path)

    with monkeypatch.context() as patch:
        patch.setattr(files, "_delete", die)
        with pytest.raises(KeyboardInterrupt):
            _write_two_files(tmp_path / "a")
    assert len(list((tmp_path / ".unfinished").glob("*/*"))) == 2
    with atomic_write(tmp_path / "c") as part:
        part.touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c"]


def _write_two_files(path: Path) -> None:
    with atomic_write(path) as part:
        part.touch()
        part.with_name("b").touch()


REPEATED = """if True:
    import sys
    from pathlib import Path
    from pipeline.files import atomic_write
    for number in range(200):
        with atomic_write(Path("data/raw")) as part:
            part.mkdir()
            for name in ("a", "b", "c"):
                (part / name).write_text(sys.argv[1])
"""


def test_two_processes_may_replace_the_same_folder(tmp_path: Path) -> None:
    """If a stage runs twice at once, neither fails, and the folder is that of one of them."""
    (tmp_path / "data").mkdir()
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", REPEATED, name], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        for name in ("one", "two")
    ]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert {path.read_text() for path in (tmp_path / "data/raw").iterdir()} in ({"one"}, {"two"})
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["raw"]


@pytest.mark.parametrize(
    "make",
    [Path.touch, os.mkfifo, lambda path: path.symlink_to("nowhere")],
    ids=["file", "FIFO", "dangling link"],
)
def test_something_else_in_place_of_the_folder_is_named(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """If .unfinished is no folder, that is one message, and not an endless wait."""
    make(tmp_path / ".unfinished")
    with pytest.raises(PipelineError, match=r"\.unfinished must be a folder"), atomic_write(tmp_path / "a"):
        pass


def test_an_empty_folder_of_a_killed_process_is_deleted(tmp_path: Path) -> None:
    """A process may die between creating its folder and locking it."""
    (tmp_path / ".unfinished/0123").mkdir(parents=True)
    with atomic_write(tmp_path / "a") as part:
        part.touch()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
