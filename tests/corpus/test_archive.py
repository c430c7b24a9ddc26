import hashlib
import http.server
import io
import os
import stat
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.corpus import tables
from pipeline.corpus.archive import Archive, Unpacking, fetch, opened, unpack
from pipeline.corpus.paths import AUDIO_SUFFIXES
from pipeline.errors import PipelineError

CONTENT = os.urandom(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
UNPACKING = Unpacking(exclude=["_excluded_"], max_bytes=1_000_000)


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT."""

    faults: list[str]  # for the next requests, instead of CONTENT: a status, or `cut`
    requests: int  # how many there were

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/clips.zip"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests += 1
        fault = self.server.faults.pop(0) if self.server.faults else ""
        if fault.isdecimal():
            self.send_error(int(fault))
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: 1000 if fault == "cut" else None])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.faults, server.requests = [], 0
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)


def _fetch(url: str | None, path: Path, sha256: str | None = SHA256) -> str:
    return fetch(Archive(url=url, sha256=sha256), path, name="own")


@pytest.mark.parametrize("sha256", [SHA256, None], ids=["checked", "unchecked"])
def test_a_download_is_complete_and_its_sha256_is_returned(
    server: Server, tmp_path: Path, sha256: str | None
) -> None:
    """The file has the served bytes, no other file is left, and the sha256 is returned, known or not."""
    path = tmp_path / "archive" / "own"
    assert _fetch(server.url, path, sha256) == SHA256
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("fault", ["cut", "503", "429"])
def test_a_temporary_error_is_tried_again(server: Server, tmp_path: Path, fault: str) -> None:
    """After a broken connection or a busy server, the next try succeeds."""
    server.faults = [fault, fault]
    assert _fetch(server.url, tmp_path / "own") == SHA256
    assert server.requests == 3


def test_a_missing_file_is_not_tried_again(server: Server, tmp_path: Path) -> None:
    """The status 404 is an error at once, with the URL and the parameter to check."""
    server.faults = ["404"] * 9
    with pytest.raises(PipelineError, match=r"404 .*clips\.zip: check params\.yaml: datasets\.own\.url"):
        _fetch(server.url, tmp_path / "own")
    assert server.requests == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fault", ["cut", "500"])
def test_a_permanent_error_says_what_to_do_offline(server: Server, tmp_path: Path, fault: str) -> None:
    """After four tries, the message gives two ways to go on, and no partial file is left."""
    server.faults = [fault] * 9
    with pytest.raises(PipelineError, match=r"after 4 tries(.|\n)*dvc repro --pull"):
        _fetch(server.url, tmp_path / "own")
    assert server.requests == 4
    assert list(tmp_path.iterdir()) == []


def test_an_invalid_url_is_an_error(tmp_path: Path) -> None:
    """A URL without a host is an error that names the parameter."""
    with pytest.raises(PipelineError, match=r"http:// is not a URL: .*datasets\.own\.url"):
        _fetch("http://", tmp_path / "own")


def test_a_refused_connection_is_an_error(server: Server, tmp_path: Path) -> None:
    """A refused connection is a PipelineError."""
    server.server_close()
    with pytest.raises(PipelineError, match="cannot be fetched"):
        _fetch("http://127.0.0.1:9/clips.zip", tmp_path / "own")


def test_a_wrong_checksum_is_not_tried_again(server: Server, tmp_path: Path) -> None:
    """The message gives both checksums; one request was made, and the old archive is unchanged."""
    path = tmp_path / "own"
    path.write_bytes(b"old")
    with pytest.raises(PipelineError, match=f"sha256 is {SHA256}, expected {'0' * 64}"):
        _fetch(server.url, path, "0" * 64)
    assert server.requests == 1
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_path_is_copied(tmp_path: Path, form: str) -> None:
    """The file at a path or a file URL, with a space in it, is copied."""
    source = tmp_path / "my clips.zip"
    source.write_bytes(CONTENT)
    assert (
        _fetch(form.format(source).replace(" ", "%20" if "//" in form else " "), tmp_path / "own") == SHA256
    )
    assert (tmp_path / "own").read_bytes() == CONTENT


def test_a_relative_path_means_the_same_in_a_queued_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In DVC's copy of the project, in .dvc/tmp, a path is still relative to the project."""
    (tmp_path / "clips.zip").write_bytes(CONTENT)
    copy = tmp_path / "project" / ".dvc" / "tmp" / "exps" / "tmp1"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    assert _fetch("../clips.zip", copy / "own") == SHA256


@pytest.mark.parametrize("url", [None, "nowhere.zip", "/", "~nobody/clips.zip", "a:b.zip"])
def test_a_path_without_a_file_is_an_error(tmp_path: Path, url: str | None) -> None:
    """No URL, a missing file and a folder are errors that name the parameter."""
    with pytest.raises(PipelineError, match=r"params\.yaml: datasets\.own\.url must be a URL or"):
        _fetch(url, tmp_path / "own")


# --------------------------------------------------------------------------------------------- unpack

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


def _unpack(path: Path, folder: Path, unpacking: Unpacking) -> int:
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
    """The same clips and tables are unpacked with a top folder and without one. Other files are skipped."""
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
    assert _unpack(pack(tmp_path / "own", entries), folder, UNPACKING) == 4
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
    assert _unpack(_zip(tmp_path / "own", {"yes\\a.wav": b"1"}), tmp_path / "raw", UNPACKING) == 1
    assert _files(tmp_path / "raw") == {"yes/a.wav": b"1"}


@both
@pytest.mark.parametrize(
    "name", ["../yes/a.wav", "/yes/a.wav", "yes/../../a.wav", "..\\yes\\a.wav", "C:\\yes\\a.wav", "../x.txt"]
)
def test_an_entry_outside_the_target_folder_is_refused(tmp_path: Path, pack: Pack, name: str) -> None:
    """An archive with an absolute path, a drive or `..` is refused, and no file is written."""
    path = pack(tmp_path / "own", {"no/b.wav": b"1", name: b"2"})
    with pytest.raises(PipelineError, match="would be written outside the target folder"):
        _unpack(path, tmp_path / "inner" / "raw", UNPACKING)
    assert _files(tmp_path) == {"own": path.read_bytes()}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    """A tar with a symbolic link, a hard link, a pipe or a device is refused."""
    with tarfile.open(tmp_path / "own", "w:gz") as file:
        info = tarfile.TarInfo("yes/a.wav")
        info.type, info.linkname = kind, "/etc/passwd"
        file.addfile(info)
    with pytest.raises(PipelineError, match=r"'yes/a\.wav' is a (link|device)"):
        _unpack(tmp_path / "own", tmp_path / "raw", UNPACKING)
    assert not (tmp_path / "raw").exists()


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    """A zip with a symbolic link is refused."""
    info = zipfile.ZipInfo("yes/a.wav")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "own", "w") as file:
        file.writestr(info, "/etc/passwd")
    with pytest.raises(PipelineError, match="is a link"):
        _unpack(tmp_path / "own", tmp_path / "raw", UNPACKING)


@both
def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, pack: Pack) -> None:
    """A small archive with a megabyte of zeros is refused by the sizes it declares, before it is unpacked."""
    path = pack(tmp_path / "own", {"yes/a.wav": b"1", "yes/b.wav": bytes(1_000_000)})
    with pytest.raises(PipelineError, match=r"over 1,000,000 bytes, at 'yes/b\.wav'.*extract\.max_bytes"):
        _unpack(path, tmp_path / "raw", UNPACKING)
    assert not (tmp_path / "raw").exists()


def test_a_zip_that_declares_a_wrong_size_is_refused(tmp_path: Path) -> None:
    """A zip with an entry longer than the size that it declares counts as damaged."""
    path = _zip(tmp_path / "own", {"yes/a.wav": bytes(5000)})
    path.write_bytes(path.read_bytes().replace((5000).to_bytes(4, "little"), (50).to_bytes(4, "little")))
    with pytest.raises(PipelineError, match="damaged"):
        _unpack(path, tmp_path / "raw", UNPACKING)
    assert not (tmp_path / "raw").exists()


@both
def test_an_archive_without_clips_is_refused(tmp_path: Path, pack: Pack) -> None:
    """An archive with only text files is an error that says what is expected."""
    with pytest.raises(PipelineError, match=r"contains no clips, expected audio files \(\.aif, "):
        _unpack(pack(tmp_path / "own", {"yes/a.txt": b"1"}), tmp_path / "raw", UNPACKING)


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
        _unpack(tmp_path / "own", tmp_path / "raw", UNPACKING)


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
        _unpack(path, folder, UNPACKING)
    assert _files(folder) == {"old": b""}


@both
def test_a_wrong_byte_is_found(tmp_path: Path, pack: Pack) -> None:
    """An archive with one wrong bit in a clip is an error, found by the archive's own checksums."""
    path = pack(tmp_path / "own", {"yes/a.wav": os.urandom(100_000)})
    content = bytearray(path.read_bytes())
    content[50_000] ^= 1
    path.write_bytes(content)
    with pytest.raises(PipelineError, match="own is damaged"):
        _unpack(path, tmp_path / "raw", UNPACKING)
    assert not (tmp_path / "raw").exists()


def test_a_wrong_byte_in_a_tar_xz_is_found(tmp_path: Path) -> None:
    """A .tar.xz can be unpacked, and one with a wrong bit is an error."""
    with tarfile.open(tmp_path / "own", "w:xz") as file:
        info = tarfile.TarInfo("yes/a.wav")
        info.size = 100_000
        file.addfile(info, io.BytesIO(os.urandom(info.size)))
    assert _unpack(tmp_path / "own", tmp_path / "raw", UNPACKING) == 1
    content = bytearray((tmp_path / "own").read_bytes())
    content[50_000] ^= 1
    (tmp_path / "own").write_bytes(content)
    with pytest.raises(PipelineError, match=r"own is (damaged|neither)"):
        _unpack(tmp_path / "own", tmp_path / "raw", UNPACKING)


def test_a_name_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    """A Latin-1 name in a tar is an error that shows the name in ASCII."""
    with tarfile.open(tmp_path / "own", "w:gz", format=tarfile.GNU_FORMAT, encoding="latin-1") as file:
        info = tarfile.TarInfo("yes/caf\xe9.wav")
        file.addfile(info)
    with pytest.raises(PipelineError, match=r"caf\\udce9\.wav' is not UTF-8"):
        _unpack(tmp_path / "own", tmp_path / "raw", UNPACKING)


@both
def test_a_name_that_the_file_system_refuses_is_an_error(tmp_path: Path, pack: Pack) -> None:
    """A name of 300 letters is a PipelineError, and no file is left."""
    path = pack(tmp_path / "own", {f"yes/{'a' * 300}.wav": b"1"})
    with pytest.raises(PipelineError, match="cannot be unpacked"):
        _unpack(path, tmp_path / "raw", UNPACKING)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_not_an_archive_is_an_error(tmp_path: Path) -> None:
    """A web page instead of an archive is an error that names the parameter to check."""
    (tmp_path / "own").write_text("<html>moved</html>")
    with pytest.raises(PipelineError, match=r"neither a \.zip nor a \.tar\.gz: .*datasets\.own\.url"):
        _unpack(tmp_path / "own", tmp_path / "raw", UNPACKING)


def test_libsndfile_reads_every_audio_suffix() -> None:
    """Each suffix is a format that soundfile lists, or another common suffix of one."""
    import soundfile

    formats = {f".{name.lower()}" for name in soundfile.available_formats()}
    aliases = {".aif", ".aifc", ".oga", ".opus", ".snd", ".wave"}
    assert set(AUDIO_SUFFIXES) <= formats | aliases
