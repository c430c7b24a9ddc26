import io
import os
import resource
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.corpus import tables
from pipeline.corpus.archive import Contents, Unpacking, opened, unpack
from pipeline.corpus.paths import AUDIO_SUFFIXES
from pipeline.errors import PipelineError

UNPACKING = Unpacking(exclude=["_excluded_"], max_bytes=1_000_000)

Pack = Callable[[Path, dict[str, bytes]], Path]


def _zip(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return path


def _tar(path: Path, entries: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as file:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


both = pytest.mark.parametrize("pack", [_zip, _tar])


def _unpack(path: Path, folder: Path, unpacking: Unpacking = UNPACKING) -> Contents:
    return unpack(path, folder, folder.with_name("tables.zip"), unpacking)


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@both
@pytest.mark.parametrize("top", ["", "./", "mini_speech_commands/", "./top folder/"])
def test_label_folders_may_be_in_one_top_folder(tmp_path: Path, pack: Pack, top: str) -> None:
    """The same clips and tables are unpacked with a top folder and without one. Other files are left out."""
    entries = {
        f"{top}yes/b_nohash_0.wav": b"1",
        f"{top}yes/a.FLAC": b"2",
        f"{top}nö/ü, 'x' #1.mp3": b"3",
        f"{top}README.md": b"text",
        f"{top}.DS_Store": b"junk",
        f"{top}yes/.hidden.wav": b"junk",
        f"{top}meta/clips.csv": b"table",
        f"{top}test_list.txt": b"list",
        f"{top}deep/er/folder/c.ogg": b"4",
        f"{top}_excluded_/rain.wav": b"noise",
        f"{top}_excluded_/rain.csv": b"noise",
        f"__MACOSX/{top.strip('./')}/yes/._a.wav": b"junk",
    }
    folder = tmp_path / "raw"
    contents = _unpack(pack(tmp_path / "own", entries), folder)
    assert contents.clips.keys() == _files(folder).keys()
    assert contents.left_out == ["README.md"]
    assert _files(folder) == {
        "deep/er/folder/c.ogg": b"4",
        "nö/ü, 'x' #1.mp3": b"3",
        "yes/a.FLAC": b"2",
        "yes/b_nohash_0.wav": b"1",
    }
    archive = tmp_path / "tables.zip"
    assert tables.read(archive, "meta/clips.csv") == b"table"
    assert tables.read(archive, "test_list.txt") == b"list"
    assert zipfile.ZipFile(archive).namelist() == ["meta/clips.csv", "test_list.txt"]


@both
def test_a_table_is_read_from_the_archive(tmp_path: Path, pack: Pack) -> None:
    """An archive is listed without unpacking it, and a missing table is an error that lists the others."""
    entries = {"top/yes/a.wav": b"1", "top/no/b.wav": b"2", "top/meta/a.tsv": b"x", "top/README.md": b"text"}
    with opened(pack(tmp_path / "own", entries), UNPACKING) as contents:
        assert list(contents.clips) == ["yes/a.wav", "no/b.wav"]
        assert contents.read_table("meta/a.tsv") == b"x"
        with pytest.raises(PipelineError, match=r"no 'a\.tsv' .* these tables and lists: meta/a\.tsv:"):
            contents.read_table("a.tsv")
    assert not (tmp_path / "raw").exists()


def test_backslashes_are_folders(tmp_path: Path) -> None:
    """Backslashes in the names in a zip count as slashes."""
    assert _unpack(_zip(tmp_path / "own", {"yes\\a.wav": b"1"}), tmp_path / "raw").clips
    assert _files(tmp_path / "raw") == {"yes/a.wav": b"1"}


@both
@pytest.mark.parametrize(
    "name", ["../yes/a.wav", "/yes/a.wav", "yes/../../a.wav", "..\\yes\\a.wav", "C:\\yes\\a.wav", "../x.txt"]
)
def test_an_entry_outside_the_target_folder_is_refused(tmp_path: Path, pack: Pack, name: str) -> None:
    """An archive with an absolute path, a drive or `..` is refused, and no file is written."""
    path = pack(tmp_path / "own", {"no/b.wav": b"1", name: b"2"})
    with pytest.raises(PipelineError, match="would be written outside the target folder"):
        _unpack(path, tmp_path / "inner" / "raw")
    assert _files(tmp_path) == {"own": path.read_bytes()}


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.FIFOTYPE, "neither a file nor a folder"),
        (tarfile.CHRTYPE, "neither a file nor a folder"),
    ],
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes, what: str) -> None:
    """A tar with a symbolic link, a hard link, a pipe or a device is refused."""
    with tarfile.open(tmp_path / "own", "w:gz") as file:
        info = tarfile.TarInfo("yes/a.wav")
        info.type, info.linkname = kind, "/etc/passwd"
        file.addfile(info)
    with pytest.raises(PipelineError, match=rf"'yes/a\.wav' is {what}, expected only files"):
        _unpack(tmp_path / "own", tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    """A zip with a symbolic link is refused."""
    info = zipfile.ZipInfo("yes/a.wav")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "own", "w") as file:
        file.writestr(info, "/etc/passwd")
    with pytest.raises(PipelineError, match="is a link"):
        _unpack(tmp_path / "own", tmp_path / "raw")


@both
def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, pack: Pack) -> None:
    """A small archive with a megabyte of zeros is refused by the sizes it declares, before it is unpacked."""
    path = pack(tmp_path / "own", {"yes/a.wav": b"1", "yes/b.wav": bytes(1_000_000)})
    with pytest.raises(PipelineError, match=r"over 1,000,000 bytes, at 'yes/b\.wav'.*extract\.max_bytes"):
        _unpack(path, tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_a_zip_that_declares_a_wrong_size_is_refused(tmp_path: Path) -> None:
    """A zip with an entry longer than the size that it declares counts as damaged."""
    path = _zip(tmp_path / "own", {"yes/a.wav": bytes(5000)})
    path.write_bytes(path.read_bytes().replace((5000).to_bytes(4, "little"), (50).to_bytes(4, "little")))
    with pytest.raises(PipelineError, match="damaged"):
        _unpack(path, tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


@both
def test_an_archive_without_clips_is_refused(tmp_path: Path, pack: Pack) -> None:
    """An archive with only other files is an error that says what there is, and what is expected."""
    message = r"contains no clips, only 1 file \.m4a, expected audio files \(\.aif, "
    with pytest.raises(PipelineError, match=message):
        _unpack(pack(tmp_path / "own", {"yes/a.txt": b"1", "yes/a.m4a": b"1"}), tmp_path / "raw")


@both
def test_a_table_beside_the_top_folder_may_have_the_name_of_one_in_it(tmp_path: Path, pack: Pack) -> None:
    """The one in the top folder is used, and a table that is only beside it is there too."""
    entries = {"a.txt": b"1", "b.txt": b"2", "top/a.txt": b"3", "top/yes/a.wav": b"4"}
    with opened(pack(tmp_path / "own", entries), UNPACKING) as contents:
        assert [contents.read_table(name) for name in ("a.txt", "b.txt")] == [b"3", b"2"]
        assert set(contents.tables) == {"a.txt", "b.txt"}


def test_the_same_clip_twice_is_refused(tmp_path: Path) -> None:
    """Two entries with the same name are an error."""
    with zipfile.ZipFile(tmp_path / "own", "w") as file:
        file.writestr("yes/a.wav", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("yes/a.wav", b"2")
    with pytest.raises(PipelineError, match=r"contains 'yes/a\.wav' twice"):
        _unpack(tmp_path / "own", tmp_path / "raw")


@both
@pytest.mark.parametrize("keep", [0.4, 0.97])
def test_a_truncated_archive_is_an_error(tmp_path: Path, pack: Pack, keep: float) -> None:
    """A truncated archive is an error, and the folder is unchanged."""
    path = pack(tmp_path / "own", {f"yes/{n}.wav": os.urandom(1000) for n in range(20)})
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "old").touch()
    with pytest.raises(PipelineError, match="damaged"):
        _unpack(path, folder)
    assert _files(folder) == {"old": b""}


@both
def test_a_wrong_byte_is_found(tmp_path: Path, pack: Pack) -> None:
    """An archive with one wrong bit in a clip is an error, found by the archive's own checksums."""
    path = pack(tmp_path / "own", {"yes/a.wav": os.urandom(100_000)})
    content = bytearray(path.read_bytes())
    content[50_000] ^= 1
    path.write_bytes(content)
    with pytest.raises(PipelineError, match="own is damaged"):
        _unpack(path, tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_a_wrong_byte_in_a_tar_xz_is_found(tmp_path: Path) -> None:
    """A .tar.xz can be unpacked, and one with a wrong bit is an error."""
    with tarfile.open(tmp_path / "own", "w:xz") as file:
        info = tarfile.TarInfo("yes/a.wav")
        info.size = 100_000
        file.addfile(info, io.BytesIO(os.urandom(info.size)))
    assert _unpack(tmp_path / "own", tmp_path / "raw").clips
    content = bytearray((tmp_path / "own").read_bytes())
    content[50_000] ^= 1
    (tmp_path / "own").write_bytes(content)
    with pytest.raises(PipelineError, match=r"own is (damaged|neither)"):
        _unpack(tmp_path / "own", tmp_path / "raw")


def test_a_name_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    """A Latin-1 name in a tar is an error that shows the name in ASCII."""
    with tarfile.open(tmp_path / "own", "w:gz", format=tarfile.GNU_FORMAT, encoding="latin-1") as file:
        info = tarfile.TarInfo("yes/caf\xe9.wav")
        file.addfile(info)
    with pytest.raises(PipelineError, match=r"caf\\udce9\.wav' is not UTF-8"):
        _unpack(tmp_path / "own", tmp_path / "raw")


@both
@pytest.mark.parametrize(
    "names",
    [
        (f"yes/{'a' * 300}.wav",),
        (f"{'a' * 300}/a.wav",),
        ("yes.wav", "yes.wav/a.wav"),
        ("yes.wav/a.wav", "yes.wav"),
    ],
)
def test_a_name_that_the_file_system_refuses_is_an_error(
    tmp_path: Path, pack: Pack, names: tuple[str, ...]
) -> None:
    """A name of 300 letters, and one that another file has taken: the message says to rename it."""
    path = pack(tmp_path / "own", dict.fromkeys(names, b"1"))
    with pytest.raises(PipelineError, match=r"'.*\.wav' cannot be written: .*: rename it in the archive"):
        _unpack(path, tmp_path / "raw")
    assert _files(tmp_path) == {"own": path.read_bytes()}


@contextmanager
def _largest_file(size: int) -> Iterator[None]:
    """Let the system refuse files of more than `size` bytes, as a full disk does."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@both
@pytest.mark.parametrize(("name", "full"), [("yes/b.wav", "raw/yes/b.wav"), ("b.csv", "tables.zip")])
def test_a_full_disk_is_not_blamed_on_the_archive(tmp_path: Path, pack: Pack, name: str, full: str) -> None:
    """The error of the system has the path of the file that cannot be written."""
    path = pack(tmp_path / "own", {"yes/a.wav": b"1", name: os.urandom(50_000)})
    with _largest_file(20_000), pytest.raises(OSError, match="File too large") as caught:
        _unpack(path, tmp_path / "raw")
    assert caught.value.filename == str(tmp_path / full)
    assert _files(tmp_path) == {"own": path.read_bytes()}


@both
def test_more_clips_than_the_disk_can_hold_are_refused(
    tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message has the bytes that are needed and those that are free, before anything is written."""
    path = pack(tmp_path / "own", {"yes/a.wav": bytes(3000), "yes/b.wav": bytes(4000)})
    usage = shutil.disk_usage(tmp_path)._replace(free=6900)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(
        PipelineError, match=r"extract needs 7\.0 kB for .*raw, but its disk has 6\.9 kB free"
    ):
        _unpack(path, tmp_path / "raw")
    assert list(tmp_path.iterdir()) == [path]


def test_other_errors_of_the_system_pass_through(tmp_path: Path) -> None:
    """An output folder that cannot be made is not a bad archive."""
    (tmp_path / "file").touch()
    path = _zip(tmp_path / "own", {"yes/a.wav": b"1"})
    with pytest.raises(OSError, match="file") as caught:
        _unpack(path, tmp_path / "file" / "raw")
    assert caught.value.filename


def test_a_name_with_a_zero_byte_is_refused(tmp_path: Path) -> None:
    """No file system can have it, but a tar can."""
    path = _tar(tmp_path / "own", {"yes/a.wav": b"1", "yes/b.wav\0ü.wav": b"2"})
    with pytest.raises(PipelineError, match="would be written outside"):
        _unpack(path, tmp_path / "raw")


# ----------------------------------------------------------------------------------------- what is left out


@both
def test_files_and_empty_folders_that_are_left_out_are_listed(tmp_path: Path, pack: Pack) -> None:
    """Hidden, excluded and used files are not in the list. A folder of hidden files counts as empty."""
    entries = {
        "top/yes/a.wav": b"1",
        "top/no/a.m4a": b"2",
        "top/no/b.M4A": b"3",
        "top/LICENSE": b"4",
        "top/yes/notes.md": b"5",
        "top/meta/t.csv": b"6",
        "top/_excluded_/x.py": b"7",
        "top/up/.keep": b"8",
        "README.md": b"9",
    }
    path = pack(tmp_path / "own", entries)
    for name in ("top/", "top/yes/", "top/down/", "top/up/", "top/.git/", "top/_excluded_/deep/"):
        _add_folder(path, name)
    contents = _unpack(path, tmp_path / "raw")
    files = ["LICENSE", "README.md", "down/", "no/a.m4a", "no/b.M4A", "up/", "yes/notes.md"]
    assert contents.left_out == files
    assert contents.left_out_text() == (
        "left out: 2 files .m4a, 2 files .md, 2 empty folders, 1 file without suffix; folders without clips:"
        " down/ (1 empty folder), meta/ (1 file .csv), no/ (2 files .m4a), up/ (1 empty folder)"
    )


@both
def test_a_folder_of_lists_alone_is_named(tmp_path: Path, pack: Pack) -> None:
    """It may be a label whose clips are missing. A list in a folder of clips, or above it, is not named."""
    names = ("readme.txt", "a/yes/list.txt", "a/yes/1.wav", "a/no/1.txt", "a/no/2.TXT", "a/no/deep/3.csv")
    contents = _unpack(pack(tmp_path / "own", dict.fromkeys(names, b"1")), tmp_path / "raw")
    assert contents.left_out == []
    assert contents.left_out_text() == "folders without clips: no/ (2 files .txt, 1 file .csv)"


@both
def test_a_nested_folder_without_clips_has_its_whole_path(tmp_path: Path, pack: Pack) -> None:
    """If all that is missing is in one folder of the outermost, that one is named, as `decode` names it."""
    path = pack(tmp_path / "own", {"yes/a.wav": b"1", "docs/a/x.html": b"2", "docs/b/y.html": b"3"})
    _add_folder(path, "outer/inner/")
    contents = _unpack(path, tmp_path / "raw")
    assert contents.left_out == ["docs/a/x.html", "docs/b/y.html", "outer/inner/"]
    text = str(contents.left_out_text())
    assert text.endswith("folders without clips: docs/ (2 files .html), outer/inner/ (1 empty folder)")


@both
def test_hidden_audio_files_are_counted(tmp_path: Path, pack: Pack) -> None:
    """They are no clips, but may be meant as such. Excluded files, and those that macOS adds, are not."""
    hidden = dict.fromkeys(("top/.quiet/h0.wav", "top/.quiet/h1.wav", "top/yes/.x.FLAC"), b"1")
    others = dict.fromkeys(("__MACOSX/top/yes/._a.wav", "top/yes/._a.wav", "top/_excluded_/.x.wav"), b"2")
    contents = _unpack(pack(tmp_path / "own", {"top/yes/a.wav": b"1", **others, **hidden}), tmp_path / "raw")
    assert list(contents.clips) == ["yes/a.wav"]
    assert contents.left_out == []
    assert contents.left_out_text() == "hidden: 2 files .wav, 1 file .flac, such as .quiet/h0.wav"
    with pytest.raises(
        PipelineError, match=r"no clips.*; hidden: 2 files .* such as top/\.quiet/h0\.wav, exp"
    ):
        _unpack(pack(tmp_path / "only", hidden), tmp_path / "raw")


def _add_folder(path: Path, name: str) -> None:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(name, b"")
        return
    with tarfile.open(path) as old:
        members = [(info, old.extractfile(info)) for info in old]
        with tarfile.open(path.with_name("new"), "w:gz") as new:
            for info, file in members:
                new.addfile(info, file)
            folder = tarfile.TarInfo(name)
            folder.type = tarfile.DIRTYPE
            new.addfile(folder)
    path.with_name("new").replace(path)


@both
def test_many_kinds_of_files_that_are_left_out_are_summed_up(tmp_path: Path, pack: Pack) -> None:
    """Five kinds and five folders are named; if nothing is left out, there is no text."""
    entries = {f"{n}/{k}.x{n}": b"1" for n in range(9) for k in range(10 - n)}
    text = _unpack(pack(tmp_path / "own", {"yes/a.wav": b"1", **entries}), tmp_path / "raw").left_out_text()
    assert text == (
        "left out: 10 files .x0, 9 files .x1, 8 files .x2, 7 files .x3, 6 files .x4, 14 of other kinds;"
        " folders without clips: 0/ (10 files .x0), 1/ (9 files .x1), 2/ (8 files .x2), 3/ (7 files .x3),"
        " 4/ (6 files .x4), … (9 in all)"
    )
    assert _unpack(pack(tmp_path / "own", {"yes/a.wav": b"1"}), tmp_path / "raw").left_out_text() is None


def test_a_file_that_is_not_an_archive_is_an_error(tmp_path: Path) -> None:
    """A web page that an older download has kept is an error that says how to fetch another file."""
    (tmp_path / "own").write_text("<html>moved</html>")
    message = r"neither a \.zip nor a \.tar\.gz: check its url in params\.yaml: datasets, .* -f download"
    with pytest.raises(PipelineError, match=message):
        _unpack(tmp_path / "own", tmp_path / "raw")


def test_libsndfile_reads_every_audio_suffix() -> None:
    """Each suffix is a format that soundfile lists, or another common suffix of one."""
    import soundfile

    formats = {f".{name.lower()}" for name in soundfile.available_formats()}
    aliases = {".aif", ".aifc", ".oga", ".opus", ".snd", ".wave"}
    assert set(AUDIO_SUFFIXES) <= formats | aliases
