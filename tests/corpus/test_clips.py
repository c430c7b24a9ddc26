from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.corpus import clips
from pipeline.corpus.clips import Clip, Naming
from pipeline.errors import PipelineError

NAMING = Naming(speaker="^(.+?)_nohash_")


@pytest.mark.parametrize(
    ("clip", "speaker"),
    [
        ("yes/0a7c2a8d_nohash_0.wav", "0a7c2a8d"),
        ("yes/anna_nohash_1_nohash_2.wav", "anna"),
        ("a_nohash_b/clip.wav", "a_nohash_b/clip.wav"),
        ("yes/_nohash_0.wav", "yes/_nohash_0.wav"),
    ],
)
def test_the_speaker_is_found_in_the_files_name(clip: str, speaker: str) -> None:
    """The text of the group is the speaker. A clip whose file name has none has its id as its speaker."""
    assert clips.speaker(clip, NAMING) == speaker


@pytest.mark.parametrize("pattern", ["(", "no group", "(two)(groups)"])
def test_a_pattern_must_have_one_group(pattern: str) -> None:
    """A pattern that does not compile, or has no group or two, is refused."""
    with pytest.raises(ValidationError):
        Naming(speaker=pattern)


def test_clips_are_sorted_by_id(tmp_path: Path) -> None:
    """Whole ids are sorted by code point, so `a b/2.wav` comes before `a/3.wav`."""
    for clip in ("b/1.wav", "a b/2.wav", "a/3.wav", "B/4.wav"):
        (tmp_path / clip).parent.mkdir(exist_ok=True)
        (tmp_path / clip).touch()
    assert clips.find(tmp_path) == ["B/4.wav", "a b/2.wav", "a/3.wav", "b/1.wav"]


def test_no_clips_are_an_error(tmp_path: Path) -> None:
    """An empty folder is an error."""
    with pytest.raises(PipelineError, match="contains no clips"):
        clips.find(tmp_path)


def test_clips_csv_is_read_as_it_was_written(tmp_path: Path) -> None:
    """clips.csv has six columns, and a file name with quotes and commas is read back unchanged."""
    rows = [Clip('nö/a,"b".wav', "nö", "x", 16000, 12345, "0" * 32)]
    clips.write(tmp_path / "clips.csv", rows)
    assert clips.read(tmp_path / "clips.csv") == rows
    header = (tmp_path / "clips.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header == "clip,label,speaker,sample_rate,samples,md5"
