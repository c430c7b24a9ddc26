import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.corpus import recordings
from pipeline.corpus.audio import decode
from tests.project import Record


@pytest.mark.parametrize(
    ("samples", "count"), [(16000, 1), (15999, 1), (100, 1), (31999, 1), (32000, 2), (160_500, 10)]
)
def test_a_recording_is_cut_into_whole_pieces(
    record: Record, tmp_path: Path, samples: int, count: int
) -> None:
    """The remainder is left out, but a recording shorter than a piece is one piece."""
    record("noise/tap.wav", samples=samples)
    expected = [f"noise/tap.wav@{number}" for number in range(count)]
    assert recordings.pieces(tmp_path, "noise/tap.wav", 1.0) == expected


@pytest.mark.parametrize(("name", "subtype"), [("a.wav", None), ("a.wav", "FLOAT"), ("a.flac", None)])
def test_pieces_are_consecutive(record: Record, tmp_path: Path, name: str, subtype: str | None) -> None:
    """The decoded pieces, one after another, are the recording, in 16 bits and as floats."""
    path = record(name, samples=48_700, subtype=subtype)
    ids = recordings.pieces(tmp_path, name, 0.5)
    waveforms, _ = decode(
        [recordings.content(tmp_path, clip, 0.5) for clip in ids],
        sample_rate=16000,
        duration=0.5,
        padding="edge",
    )
    expected, _ = soundfile.read(path, dtype="float32")
    np.testing.assert_array_equal(waveforms.ravel(), expected[:48_000])


def test_a_piece_of_floats_has_the_same_bytes_each_time(record: Record, tmp_path: Path) -> None:
    """A piece's bytes do not contain the time, which libsndfile writes into WAV files of floats."""
    record("a.wav", samples=16_000, subtype="FLOAT")
    first = recordings.content(tmp_path, "a.wav@0", 1.0)
    time.sleep(1.1)
    assert recordings.content(tmp_path, "a.wav@0", 1.0) == first


def test_only_a_number_after_a_suffix_is_a_piece() -> None:
    """An id with an @ elsewhere is a whole file."""
    assert recordings.piece("noise/tap.wav@12") == ("noise/tap.wav", 12)
    assert recordings.piece("noise@home/tap@3.wav") is None
    assert recordings.piece("noise/tap@3") is None


def test_a_broken_recording_is_one_piece_that_cannot_be_decoded(tmp_path: Path) -> None:
    """So the stage that decodes it names it, with the reason."""
    (tmp_path / "a.wav").write_text("no audio")
    assert recordings.pieces(tmp_path, "a.wav", 1.0) == ["a.wav@0"]
    content = recordings.content(tmp_path, "a.wav@0", 1.0)
    _, (result,) = decode([content], sample_rate=16000, duration=1.0, padding="edge")
    assert "is in no known format" in str(result.problem)


def test_a_recording_that_is_cut_short_is_one_reject_or_cut_into_pieces(
    record: Record, tmp_path: Path
) -> None:
    """If it is not accepted, it is one piece, and decoding that says what it lacks."""
    path = record("a.wav", samples=64_000)
    path.write_bytes(path.read_bytes()[:-32_000])
    assert recordings.pieces(tmp_path, "a.wav", 1.0) == ["a.wav@0"]
    content = recordings.content(tmp_path, "a.wav@0", 1.0)
    _, (result,) = decode([content], sample_rate=16000, duration=1.0, padding="edge")
    assert result.problem == recordings.lacking(path)
    assert result.problem is not None
    assert recordings.pieces(tmp_path, "a.wav", 1.0, "accept") == ["a.wav@0", "a.wav@1", "a.wav@2"]
    content = recordings.content(tmp_path, "a.wav@2", 1.0, "accept")
    _, (result,) = decode([content], sample_rate=16000, duration=1.0, padding="edge")
    assert result.recorded is not None
    assert result.recorded.samples == 16_000


def test_an_absurd_length_is_not_believed(record: Record, tmp_path: Path) -> None:
    """A header that promises 49 days gives no more pieces than there are. An unknown length is one reject."""
    flac = record("a.flac", samples=64_000).read_bytes()
    for first, others in ((0xF, b"\xff\xff\xff\xff"), (7, bytes(4))):
        (tmp_path / "a.flac").write_bytes(flac[:21] + bytes([flac[21] & 0xF0 | first]) + others + flac[26:])
        assert len(recordings.pieces(tmp_path, "a.flac", 1.0)) <= 4
    (tmp_path / "a.flac").write_bytes(flac[:21] + bytes([flac[21] & 0xF0]) + bytes(4) + flac[26:])
    assert recordings.pieces(tmp_path, "a.flac", 1.0) == ["a.flac@0"]
    content = recordings.content(tmp_path, "a.flac@0", 1.0)
    _, (result,) = decode([content], sample_rate=16000, duration=1.0, padding="edge")
    assert result.problem == "has a header that does not say how long it is"


def test_a_recording_with_an_absurd_rate_is_one_reject(record: Record, tmp_path: Path) -> None:
    """It is not cut into a piece for each of its few samples a second."""
    wav = record("a.wav", samples=64_000).read_bytes()
    (tmp_path / "a.wav").write_bytes(wav[:24] + (2).to_bytes(4, "little") + wav[28:])
    assert recordings.pieces(tmp_path, "a.wav", 1.0) == ["a.wav@0"]
    content = recordings.content(tmp_path, "a.wav@0", 1.0)
    _, (result,) = decode([content], sample_rate=16000, duration=1.0, padding="edge")
    assert "has a sample rate of 2 Hz" in str(result.problem)
