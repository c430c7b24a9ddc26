"""Stores that somebody forged, or that a disk damaged: one message each, without memory or a hang."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.store.layout import describe
from tests.damage import FACTOR
from tests.project import ROOT
from tests.store.make import make_store

CLIPS = [f"lábel/{n:02}.wav" for n in range(20)]
ROWS = np.random.default_rng(0).normal(size=(20, 4, 3)).astype(np.float32)
FEATURE: dict[str, Any] = {
    "name": "x",
    "params": {"n": 3},
    "scale": None,
    "axis": {"kind": "mel", "low": 1.0, "high": 9.0},
    "frame_times": {"first": 0.0, "step": 0.1},
}
PARAMS: dict[str, Any] = {
    "audio": {"sample_rate": 8000, "duration": 1.0, "padding": "edge"},
    "feature": FEATURE,
}
FORGED = 10**10  # rows


@pytest.fixture
def path(tmp_path: Path) -> Path:
    make_store(tmp_path / "a.h5", ROWS, clips=CLIPS, params=PARAMS)
    return tmp_path / "a.h5"


def _replace(name: str, data: Any, **more: Any) -> Callable[[h5py.File], None]:
    def replace(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, data=data, **more)

    return replace


def _set(**params: Any) -> Callable[[h5py.File], None]:
    return lambda file: file.attrs.__setitem__("params", json.dumps({**PARAMS, **params}))


def _declare(**declared: Any) -> Callable[[h5py.File], None]:
    return _set(feature={**FEATURE, **declared})


def _link(name: str, link: Callable[[h5py.File], Any]) -> Callable[[h5py.File], None]:
    def replace(file: h5py.File) -> None:
        file.move(name, "moved")
        file[name] = link(file)

    return replace


def _fifo(file: h5py.File) -> h5py.ExternalLink:
    fifo = Path(file.filename).with_name("fifo.h5")
    os.mkfifo(fifo)
    return h5py.ExternalLink(fifo, "clip")


def _external(file: h5py.File) -> None:
    other = Path(file.filename).with_name("secret")
    other.write_bytes(bytes(ROWS.nbytes))
    del file["values"]
    file.create_dataset("values", ROWS.shape, "<f4", external=[(other, 0, ROWS.nbytes)])


def _virtual(file: h5py.File) -> None:
    file.move("values", "moved")
    layout = h5py.VirtualLayout(ROWS.shape, "<f4")
    layout[:] = h5py.VirtualSource(file["moved"])
    file.create_virtual_dataset("values", layout)


def _claim(*names: str) -> Callable[[h5py.File], None]:
    """Let these datasets say that they have 10^10 rows, although the file has none of them."""

    def claim(file: h5py.File) -> None:
        for name in names:
            kind, shape = file[name].id.get_type(), file[name].shape
            del file[name]
            space = h5py.h5s.create_simple((FORGED, *shape[1:]))
            h5py.h5d.create(file.id, name.encode(), kind, space)

    return claim


@pytest.mark.parametrize(
    ("forge", "message"),
    [
        (lambda file: file.attrs.__setitem__("params", "[1]"), "params: expected a valid dictionary, found"),
        (lambda file: file.attrs.__setitem__("params", '{"a":' * 50_000), "params is not JSON"),
        (
            lambda file: file.attrs.__setitem__("params", '{"audio": NaN}'),
            "must have finite numbers, has NaN",
        ),
        (lambda file: file.attrs.__setitem__("params", 3), "it has no attribute params, or not one as"),
        (lambda file: file.attrs.__delitem__("params"), "it has no attribute params"),
        (_set(feature=[1]), r"feature: expected a valid dictionary, found \[1\]"),
        (_set(audio=[1]), r"audio: expected a valid dictionary, found \[1\]"),
        (_set(audio={"sample_rate": 0}), "audio.sample_rate: expected greater than 0, found 0"),
        (_declare(params=[1]), r"feature.params: expected a valid dictionary, found \[1\]"),
        (_declare(axis={"kind": "x", "low": 1, "high": 2}), "feature.axis.kind: expected 'hertz', 'mel' or"),
        (_declare(frame_times={"first": 0, "step": 0}), "feature.frame_times.step: expected greater than 0"),
        (_link("values", lambda _: h5py.SoftLink("/moved")), "values must be in the file, is a link"),
        (_link("values", lambda _: h5py.ExternalLink("b.h5", "x")), "values must be in the file, is a link"),
        (_link("clip", _fifo), "clip must be in the file, is a link"),
        (_external, "values must be contiguous and in the file"),
        (_virtual, "values must be contiguous and in the file"),
        (_replace("values", ROWS, chunks=True), "values must be contiguous and in the file"),
        (_replace("values", ROWS.astype(">f4")), "values must be <f4 or <f2, is >f4"),
        (_replace("values", ROWS[:, :0]), "values must"),
        (_replace("values", ROWS[::-1].copy()), "its first row, lábel/00.wav, is not what was written"),
        (_claim("values"), "values must be contiguous and in the file"),
        (_claim("values", "clip", "checksum", "source"), "values must be contiguous and in the file"),
        (_claim("checksum"), "checksum must be contiguous and in the file"),
        (
            _replace("clip", np.array([clip.encode() for clip in [*CLIPS[:19], CLIPS[18]]])),
            "lábel/18.wav' is there twice",
        ),
        (
            _replace("clip", np.array([clip.encode() for clip in CLIPS[::-1]])),
            "lábel/18.wav' comes after 'lábel/19.wav'",
        ),
        (_replace("clip", CLIPS, dtype=h5py.string_dtype()), "clip must be text of a fixed length"),
        (
            _replace("clip", np.array([clip.encode("latin-1") for clip in CLIPS])),
            "clip must be text in UTF-8",
        ),
        (_replace("checksum", np.zeros(20, "V8")), r"checksum must have 16 bytes for each row, has \|V8"),
        (_replace("source", np.zeros((), "V16")), "source has no entries, values 20 rows"),
        (_replace("source", h5py.Empty("V16")), "source has no values"),
    ],
)
def test_a_forged_store_is_one_message(path: Path, forge: Callable[[h5py.File], None], message: str) -> None:
    """Whatever is in the file, nothing outside of it is read, and the message says what is wrong."""
    with h5py.File(path, "r+") as file:
        forge(file)
    with pytest.raises(PipelineError, match=message) as error:
        describe(path)
    assert str(error.value).startswith(f"{path} is not a store: ")
    assert str(error.value).endswith(": run dvc repro")
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_what_is_no_file_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A FIFO would hang. A socket, a device and a folder are refused too."""
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    os.mkfifo("fifo.h5")
    Path("folder.h5").mkdir()
    Path("device.h5").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.h5")
        for kind in ("FIFO", "folder", "device", "socket"):
            with pytest.raises(PipelineError, match=f"is not a store: it is a {kind}"):
                describe(Path(f"{kind.lower()}.h5"))


def test_a_text_that_claims_gigabytes_takes_no_memory(path: Path) -> None:
    """HDF5 would allocate what an attribute claims to have, here 4 GiB, before it looks."""
    content = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        length = len(file.attrs["params"]).to_bytes(4, "little")
    # The length, the address of the heap, and the number of the object in it, which is 1.
    [place] = [
        place
        for place in range(len(content) - 16)
        if content[place : place + 4] == length and content[place + 12 : place + 16] == b"\1\0\0\0"
    ]
    content[place : place + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    limited = f"ulimit -v 3000000; exec {sys.executable} -m pipeline store describe {path}"
    result = subprocess.run(
        ["bash", "-c", limited], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert "a.h5 is not a store: it has no attribute params" in result.stderr
    assert result.returncode == 1


@pytest.mark.fuzz
def test_a_store_damaged_at_random_is_refused_or_has_its_rows(path: Path) -> None:
    """Of 1,000 stores with damaged metadata, none crashes, hangs, takes memory, or has its rows elsewhere."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.store.fuzz", str(path), "1", str(1000 * FACTOR)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120 * FACTOR,
    )
    assert result.returncode == 0, result.stderr[-1000:]
    tally = json.loads(result.stdout)
    assert tally["refused"] > 300
    assert tally["MiB"] < 400
