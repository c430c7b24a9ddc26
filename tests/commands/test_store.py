"""`python -m pipeline store`, on a store and its clips.csv."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile
from ruamel.yaml import YAML

from pipeline.corpus import clips, recordings
from pipeline.store.layout import digests
from tests.corpus.make import make_clip
from tests.project import pipeline
from tests.store.make import change_row, make_store

CLIPS = [f"{'no' if n < 4 else 'yes'}/{n}.wav" for n in range(10)]
VALUES = np.random.default_rng(0).normal(size=(10, 6, 4)).astype(np.float32)
AUDIO = {
    "sample_rate": 8000,
    "duration": 1.0,
    "padding": "edge",
    "max_rejects": 0,
    "truncated": "reject",
}
WAVEFORM = {"sample_rate": 8000, "duration": 1.0, "padding": "edge"}
PARAMS = {"audio": WAVEFORM, "feature": {"name": "x", "params": {"n": 3}}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_store(tmp_path / "a.h5", VALUES, clips=CLIPS, params=PARAMS)
    clips.write(tmp_path / "data/clips.csv", [make_clip(clip) for clip in CLIPS])
    with (tmp_path / "params.yaml").open("w") as file:
        YAML().dump({"audio": AUDIO, "features": {"x": {"n": 3}}}, file)
    return tmp_path


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return pipeline("store", *arguments, cwd=folder)


def test_describe_shows_the_store(folder: Path) -> None:
    """It prints shape, dtype, bytes, parameters and value ranges, as JSON and as text."""
    summary = json.loads(_run(folder, "describe", "a.h5", "--json").stdout)
    assert summary["shape"] == [10, 6, 4]
    assert summary["dtype"] == "float32"
    assert summary["bytes"] == (folder / "a.h5").stat().st_size
    assert summary["params"] == PARAMS
    expected = {
        "min": VALUES.min(),
        "max": VALUES.max(),
        "mean": VALUES.mean(),
        "std": VALUES.std(),
        "not_finite": 0,
    }
    assert summary["values"] == pytest.approx(expected, rel=1e-5)
    text = _run(folder, "describe", "a.h5").stdout
    assert "a.h5: 10 x 6 x 4 float32" in text


def test_an_intact_store_is_valid(folder: Path) -> None:
    """A store that was just written has no problem."""
    result = _run(folder, "validate", "a.h5")
    assert result.returncode == 0
    assert result.stdout == "a.h5: layout, ids, parameters, checksums and values are correct\n"
    assert json.loads(_run(folder, "validate", "a.h5", "--json").stdout)["problems"] == []


def _flip_a_bit(folder: Path) -> None:
    change_row(folder / "a.h5", 3)


def _write_nan(folder: Path) -> None:
    with h5py.File(folder / "a.h5", "r+") as file:
        file["values"][5, 0, 0] = np.nan
        file["checksum"][5] = digests(file["values"][5:6])[0]


def _cut(folder: Path) -> None:
    path = folder / "a.h5"
    path.write_bytes(path.read_bytes()[:-1000])


def _lose_a_clip(folder: Path) -> None:
    path = folder / "data/clips.csv"
    clips.write(path, [clip for clip in clips.read(path) if clip.clip != "no/2.wav"])


def _gain_a_clip(folder: Path) -> None:
    path = folder / "data/clips.csv"
    clips.write(path, [*clips.read(path), make_clip("yes/z.wav")])


def _hold_another_feature(folder: Path) -> None:
    path = folder / "params.yaml"
    path.write_text(path.read_text().replace("  x:", "  a: {n: 3}\n  x:"))


def _compute_from_another_waveform(folder: Path) -> None:
    waveforms = VALUES[:, 0].copy()
    waveforms[7] = 0
    make_store(folder / "data/waveforms.h5", waveforms, clips=CLIPS, params={"audio": PARAMS["audio"]})


def _change_a_parameter(folder: Path) -> None:
    path = folder / "params.yaml"
    path.write_text(path.read_text().replace("n: 3", "n: 4"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_flip_a_bit, "row 3, no/3.wav, has changed since it was written"),
        (_write_nan, "row 5, yes/5.wav, has infinite values or NaN"),
        (_cut, "a.h5 is not a store"),
        (
            _lose_a_clip,
            "has 10 ids and clips.csv 9: row 2 is no/2.wav in the store and no/3.wav in the table",
        ),
        (_gain_a_clip, "row 10 is nothing in the store and yes/z.wav in the table"),
        (
            _compute_from_another_waveform,
            "row 7, yes/7.wav, was computed from other data than data/waveforms.h5 has now",
        ),
        (_hold_another_feature, "a.h5 must contain a, contains x"),
        (lambda folder: (folder / "a.h5").unlink(), "a.h5 is missing"),
        (lambda folder: (folder / "data/clips.csv").unlink(), "data/clips.csv is missing"),
        (lambda folder: (folder / "params.yaml").write_text("]"), "params.yaml is not YAML"),
        (_change_a_parameter, "was made with features.x.n 3, params.yaml has 4: run dvc repro"),
    ],
)
def test_each_problem_is_named(folder: Path, damage: Callable[[Path], None], message: str) -> None:
    """Each kind of damage ends with status 1 and one message without a traceback; JSON has it too."""
    damage(folder)
    result = _run(folder, "validate", "a.h5")
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    result = _run(folder, "validate", "a.h5", "--json")
    assert result.returncode == 1
    assert any(message in fault for fault in json.loads(result.stdout)["problems"])


def test_waveforms_are_compared_with_their_files(folder: Path) -> None:
    """A waveform whose file has changed or is missing is named."""
    raw, audio = folder / "data/raw", {"audio": WAVEFORM}
    make_store(folder / "waveforms.h5", VALUES[:, 0], clips=CLIPS, params=audio)
    for row, clip in enumerate(CLIPS):
        (raw / clip).parent.mkdir(parents=True, exist_ok=True)
        (raw / clip).write_bytes(VALUES[row, 0].tobytes())  # what that row was made from
    assert _run(folder, "validate", "waveforms.h5").returncode == 0
    (raw / CLIPS[6]).write_bytes(b"another")
    message = f"row 6, {CLIPS[6]}, was computed from other data than data/raw/{CLIPS[6]} has now"
    assert message in _run(folder, "validate", "waveforms.h5").stderr
    (raw / CLIPS[6]).unlink()
    assert f"data/raw/{CLIPS[6]} is missing" in _run(folder, "validate", "waveforms.h5").stderr


def test_pieces_of_a_recording_that_is_cut_short_are_compared_as_they_were_made(folder: Path) -> None:
    """Its pieces are what audio.truncated says: cut from it, or the whole file."""
    file = folder / "data/raw/no/tap.wav"
    file.parent.mkdir(parents=True)
    soundfile.write(file, np.arange(24_000) / 24_000, 8000)
    file.write_bytes(file.read_bytes()[:-8000])
    pieces = recordings.pieces(folder / "data/raw", "no/tap.wav", 1.0, "accept")
    contents = [recordings.content(folder / "data/raw", piece, 1.0, "accept") for piece in pieces]
    clips.write(folder / "data/clips.csv", [make_clip(piece) for piece in pieces])
    audio = {"audio": WAVEFORM}
    make_store(folder / "waveforms.h5", VALUES[: len(pieces), 0], clips=pieces, params=audio)
    with h5py.File(folder / "waveforms.h5", "r+") as store:
        store["source"][:] = digests(contents)
    for truncated, returncode in (("accept", 0), ("reject", 1)):
        with (folder / "params.yaml").open("w") as params:
            YAML().dump({"audio": {**AUDIO, "truncated": truncated}}, params)
        assert _run(folder, "validate", "waveforms.h5").returncode == returncode


def test_values_that_are_not_finite_are_counted(folder: Path) -> None:
    """Statistics are of finite values only, and the JSON is valid if there are others."""
    _write_nan(folder)
    values = json.loads(_run(folder, "describe", "a.h5", "--json").stdout, parse_constant=pytest.fail)[
        "values"
    ]
    assert values["not_finite"] == 1
    assert values["max"] == VALUES.max()
