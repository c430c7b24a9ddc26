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

from pipeline.corpus import archive
from pipeline.corpus.archive import Archive, Unpacking, fetch, unpack
from pipeline.errors import PipelineError

CONTENT = os.urandom(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
UNPACKING = Unpacking(exclude=["_background_noise_"], max_bytes=1_000_000)


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT; `faults` are what the next requests get instead, `requests` counts all."""

    faults: list[str]
    requests: int

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
def test_a_download_is_whole_and_its_checksum_returned(
    server: Server, tmp_path: Path, sha256: str | None
) -> None:
    """The served bytes are at the path, alone in the folder, and the sha256 is returned, known or not."""
    path = tmp_path / "archive" / "own"
    assert _fetch(server.url, path, sha256) == SHA256
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("fault", ["cut", "503", "429"])
def test_a_passing_fault_is_tried_again(server: Server, tmp_path: Path, fault: str) -> None:
    """A connection cut half way and a busy server cost another try, no more."""
    server.faults = [fault, fault]
    assert _fetch(server.url, tmp_path / "own") == SHA256
    assert server.requests == 3


def test_what_is_not_there_is_not_asked_for_again(server: Server, tmp_path: Path) -> None:
    """404 ends it at once, with the URL and the parameter to check."""
    server.faults = ["404"] * 9
    with pytest.raises(PipelineError, match=r"404 .*clips\.zip: check params\.yaml: datasets\.own\.url"):
        _fetch(server.url, tmp_path / "own")
    assert server.requests == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fault", ["cut", "500"])
def test_a_fault_that_stays_is_an_error_that_says_what_to_do_offline(
    server: Server, tmp_path: Path, fault: str
) -> None:
    """After four tries the message names the URL and both ways out; nothing half-written is left."""
    server.faults = [fault] * 9
    with pytest.raises(PipelineError, match=r"after 4 tries(.|\n)*dvc repro --pull"):
        _fetch(server.url, tmp_path / "own")
    assert server.requests == 4
    assert list(tmp_path.iterdir()) == []


def test_a_url_that_is_none_is_not_tried_again(tmp_path: Path) -> None:
    """A URL without a host names the parameter, at once."""
    with pytest.raises(PipelineError, match=r"http:// is no URL: .*datasets\.own\.url"):
        _fetch("http://", tmp_path / "own")


def test_no_server_is_an_error(server: Server, tmp_path: Path) -> None:
    """A refused connection is reported with the URL, without a traceback's type."""
    server.server_close()
    with pytest.raises(PipelineError, match="cannot be fetched"):
        _fetch("http://127.0.0.1:9/clips.zip", tmp_path / "own")


def test_a_wrong_checksum_is_an_error_at_once(server: Server, tmp_path: Path) -> None:
    """Another checksum names both, is not fetched again, and leaves the old archive as it was."""
    path = tmp_path / "own"
    path.write_bytes(b"old")
    with pytest.raises(PipelineError, match=f"sha256 is {SHA256}, expected {'0' * 64}"):
        _fetch(server.url, path, "0" * 64)
    assert server.requests == 1
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_path_is_copied(tmp_path: Path, form: str) -> None:
    """A path, or a file URL, with a blank in it, is copied to the final name."""
    source = tmp_path / "my clips.zip"
    source.write_bytes(CONTENT)
    assert (
        _fetch(form.format(source).replace(" ", "%20" if "//" in form else " "), tmp_path / "own") == SHA256
    )
    assert (tmp_path / "own").read_bytes() == CONTENT


def test_a_relative_path_means_the_same_in_a_queued_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In DVC's copy of the project below .dvc/tmp, a path is still relative to the project."""
    (tmp_path / "clips.zip").write_bytes(CONTENT)
    copy = tmp_path / "project" / ".dvc" / "tmp" / "exps" / "tmp1"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    assert _fetch("../clips.zip", copy / "own") == SHA256


@pytest.mark.parametrize("url", [None, "nowhere.zip", "/", "~nobody/clips.zip", "a:b.zip"])
def test_no_file_is_an_error_that_names_the_parameter(tmp_path: Path, url: str | None) -> None:
    """No URL, a path without a file, and a folder are errors at datasets.own.url."""
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


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@both
@pytest.mark.parametrize("top", ["", "./", "mini_speech_commands/", "./top folder/"])
def test_label_folders_are_found_under_a_top_folder_or_none(tmp_path: Path, pack: Pack, top: str) -> None:
    """The same clips come out whether or not one folder wraps the labels, and whatever lies beside them."""
    entries = {
        f"{top}yes/b_nohash_0.wav": b"1",
        f"{top}yes/a.FLAC": b"2",
        f"{top}nö/ü, 'x' #1.mp3": b"3",
        f"{top}README.md": b"text",
        f"{top}.DS_Store": b"junk",
        f"{top}yes/.hidden.wav": b"junk",
        f"{top}yes/notes.txt": b"junk",
        f"{top}_background_noise_/rain.wav": b"noise",
        f"__MACOSX/{top.strip('./')}/yes/._a.wav": b"junk",
    }
    folder = tmp_path / "raw"
    assert unpack(pack(tmp_path / "own", entries), folder, UNPACKING) == 3
    assert _files(folder) == {"nö/ü, 'x' #1.mp3": b"3", "yes/a.FLAC": b"2", "yes/b_nohash_0.wav": b"1"}


def test_backslashes_are_folders(tmp_path: Path) -> None:
    """A zip made with backslashes unpacks as if they were slashes."""
    assert unpack(_zip(tmp_path / "own", {"yes\\a.wav": b"1"}), tmp_path / "raw", UNPACKING) == 1
    assert _files(tmp_path / "raw") == {"yes/a.wav": b"1"}


@both
@pytest.mark.parametrize(
    "name", ["../yes/a.wav", "/yes/a.wav", "yes/../../a.wav", "..\\yes\\a.wav", "C:\\yes\\a.wav", "../x.txt"]
)
def test_an_entry_that_leaves_the_folder_is_refused(tmp_path: Path, pack: Pack, name: str) -> None:
    """An absolute path, a drive and `..` refuse the whole archive: nothing is written anywhere."""
    path = pack(tmp_path / "own", {"no/b.wav": b"1", name: b"2"})
    with pytest.raises(PipelineError, match="leaves the folder"):
        unpack(path, tmp_path / "inner" / "raw", UNPACKING)
    assert _files(tmp_path) == {"own": path.read_bytes()}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    """A symbolic link, a hard link, a pipe and a device refuse the archive."""
    with tarfile.open(tmp_path / "own", "w:gz") as file:
        info = tarfile.TarInfo("yes/a.wav")
        info.type, info.linkname = kind, "/etc/passwd"
        file.addfile(info)
    with pytest.raises(PipelineError, match=r"'yes/a\.wav' is a (link|device)"):
        unpack(tmp_path / "own", tmp_path / "raw", UNPACKING)
    assert not (tmp_path / "raw").exists()


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    """A symbolic link in a zip refuses the archive."""
    info = zipfile.ZipInfo("yes/a.wav")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "own", "w") as file:
        file.writestr(info, "/etc/passwd")
    with pytest.raises(PipelineError, match="is a link"):
        unpack(tmp_path / "own", tmp_path / "raw", UNPACKING)


@both
def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, pack: Pack) -> None:
    """A megabyte of zeros in a small archive is refused by what it claims, before it is unpacked."""
    path = pack(tmp_path / "own", {"yes/a.wav": b"1", "yes/b.wav": bytes(1_000_000)})
    with pytest.raises(PipelineError, match=r"over 1,000,000 bytes, at 'yes/b\.wav'.*extract\.max_bytes"):
        unpack(path, tmp_path / "raw", UNPACKING)
    assert not (tmp_path / "raw").exists()


def test_a_zip_that_lies_about_a_size_is_refused(tmp_path: Path) -> None:
    """An entry longer than it claims is never written past its claim."""
    path = _zip(tmp_path / "own", {"yes/a.wav": bytes(5000)})
    path.write_bytes(path.read_bytes().replace((5000).to_bytes(4, "little"), (50).to_bytes(4, "little")))
    with pytest.raises(PipelineError, match="damaged"):
        unpack(path, tmp_path / "raw", UNPACKING)
    assert not (tmp_path / "raw").exists()


@both
def test_a_clip_outside_a_label_folder_is_refused(tmp_path: Path, pack: Pack) -> None:
    """A clip beside or below the label folders is named, with where it is expected."""
    for name in ("stray.wav", "yes/deeper/a.wav"):
        path = pack(tmp_path / "own", {"yes/a.wav": b"1", "no/a.wav": b"1", name: b"2"})
        with pytest.raises(
            PipelineError, match=f"'{name}' does not lie in a label folder: expected '<label>"
        ):
            unpack(path, tmp_path / "raw", UNPACKING)


@both
def test_an_archive_without_clips_is_refused(tmp_path: Path, pack: Pack) -> None:
    """Text alone is an error that says what is expected."""
    with pytest.raises(PipelineError, match="holds no clip: expected one folder per label"):
        unpack(pack(tmp_path / "own", {"yes/a.txt": b"1"}), tmp_path / "raw", UNPACKING)


def test_the_same_clip_twice_is_refused(tmp_path: Path) -> None:
    """Two entries of one name are an error, not the last of them."""
    with zipfile.ZipFile(tmp_path / "own", "w") as file:
        file.writestr("yes/a.wav", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("yes/a.wav", b"2")
    with pytest.raises(PipelineError, match=r"holds 'yes/a\.wav' twice"):
        unpack(tmp_path / "own", tmp_path / "raw", UNPACKING)


@both
@pytest.mark.parametrize("keep", [0.4, 0.97])
def test_a_damaged_archive_is_an_error_and_leaves_the_old_clips(
    tmp_path: Path, pack: Pack, keep: float
) -> None:
    """An archive cut short is an error, and the folder is as it was."""
    path = pack(tmp_path / "own", {f"yes/{n}.wav": os.urandom(1000) for n in range(20)})
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "old").touch()
    with pytest.raises(PipelineError, match="damaged"):
        unpack(path, folder, UNPACKING)
    assert _files(folder) == {"old": b""}


@both
def test_a_flipped_byte_is_found(tmp_path: Path, pack: Pack) -> None:
    """An archive of the right length with one wrong byte in a clip is an error, by its own checksums."""
    path = pack(tmp_path / "own", {"yes/a.wav": os.urandom(100_000)})
    content = bytearray(path.read_bytes())
    content[50_000] ^= 1
    path.write_bytes(content)
    with pytest.raises(PipelineError, match="own is damaged"):
        unpack(path, tmp_path / "raw", UNPACKING)
    assert not (tmp_path / "raw").exists()


def test_a_flipped_byte_in_an_xz_is_found(tmp_path: Path) -> None:
    """A .tar.xz is read as well, and its damage is an error, not a traceback."""
    with tarfile.open(tmp_path / "own", "w:xz") as file:
        info = tarfile.TarInfo("yes/a.wav")
        info.size = 100_000
        file.addfile(info, io.BytesIO(os.urandom(info.size)))
    assert unpack(tmp_path / "own", tmp_path / "raw", UNPACKING) == 1
    content = bytearray((tmp_path / "own").read_bytes())
    content[50_000] ^= 1
    (tmp_path / "own").write_bytes(content)
    with pytest.raises(PipelineError, match=r"own is (damaged|neither)"):
        unpack(tmp_path / "own", tmp_path / "raw", UNPACKING)


def test_a_name_that_is_no_utf_8_is_refused(tmp_path: Path) -> None:
    """A Latin-1 name in a tar is named in ASCII: no table could hold it."""
    with tarfile.open(tmp_path / "own", "w:gz", format=tarfile.GNU_FORMAT, encoding="latin-1") as file:
        info = tarfile.TarInfo("yes/caf\xe9.wav")
        file.addfile(info)
    with pytest.raises(PipelineError, match=r"caf\\udce9\.wav' is no UTF-8"):
        unpack(tmp_path / "own", tmp_path / "raw", UNPACKING)


@both
def test_a_name_that_the_file_system_refuses_is_an_error(tmp_path: Path, pack: Pack) -> None:
    """A name of 300 letters is reported without a traceback's type, and leaves nothing."""
    path = pack(tmp_path / "own", {f"yes/{'a' * 300}.wav": b"1"})
    with pytest.raises(PipelineError, match="cannot be unpacked"):
        unpack(path, tmp_path / "raw", UNPACKING)
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_archive_is_an_error(tmp_path: Path) -> None:
    """A web page instead of an archive names the parameter to check."""
    (tmp_path / "own").write_text("<html>moved</html>")
    with pytest.raises(PipelineError, match=r"neither a \.zip nor a \.tar\.gz: .*datasets\.own\.url"):
        unpack(tmp_path / "own", tmp_path / "raw", UNPACKING)


def test_every_suffix_is_a_format_that_libsndfile_reads() -> None:
    """What is taken for audio by its suffix is a format that soundfile lists, or a usual name of one."""
    import soundfile

    formats = {f".{name.lower()}" for name in soundfile.available_formats()}
    usual = {".aif", ".aifc", ".oga", ".opus", ".snd", ".wave"}
    assert set(archive.AUDIO_SUFFIXES) <= formats | usual
