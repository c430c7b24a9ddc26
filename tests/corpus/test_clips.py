from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from pipeline.corpus import clips
from pipeline.corpus.clips import Clip, Naming, Origin, Origins, Table
from pipeline.errors import PipelineError
from tests.corpus.make import make_clip
from tests.project import ROOT

DEFAULTS: dict[str, Any] = YAML(typ="safe").load((ROOT / "params.yaml").read_text("utf-8"))["clips"]
NO_TABLE = DEFAULTS["table"]


def _naming(**changes: Any) -> Naming:
    """Return the section `clips` of the committed params.yaml, changed."""
    return Naming(**{**DEFAULTS, **changes, "table": {**NO_TABLE, **changes.get("table", {})}})


def _origins(ids: list[str], naming: Naming, left_out: Sequence[str] = (), **tables: str) -> Origins:
    """Return the origins of the clips in an archive with these tables, whose names here have no `.`."""

    def read_table(name: str) -> bytes:
        return tables[name.partition(".")[0].replace("/", "_")].encode()

    return clips.origins(ids, naming, read_table, left_out)


# ------------------------------------------------------------------------------------------ published forms


def test_folders_of_labels() -> None:
    """Speech Commands: the folder is the label, and the speaker precedes `_nohash_`, also in `_unknown_`."""
    ids = [
        "yes/0a7c2a8d_nohash_0.wav",
        "_unknown_/backward_0c540988_nohash_0.wav.wav",
        "_silence_/1024.wav",
        "_background_noise_/running_tap.wav",
    ]
    assert _origins(ids, _naming()).clips == {
        ids[0]: Origin("yes", "0a7c2a8d", ""),
        ids[1]: Origin("_unknown_", "0c540988", ""),
        ids[2]: Origin("_silence_", ids[2], ""),
        ids[3]: Origin("_background_noise_", ids[3], ""),
    }


def test_names_that_tell() -> None:
    """Free Spoken Digit Dataset: label and speaker are parts of the file's name."""
    ids = [f"recordings/{digit}_{who}_{n}.wav" for digit in "07" for who in ("jackson", "theo") for n in "01"]
    naming = _naming(label=r"(\d)_\w+_\d+\.wav$", speaker=r"\d_([a-z]+)_")
    origins = _origins(ids, naming).clips
    assert origins["recordings/7_jackson_1.wav"] == Origin("7", "jackson", "")
    assert Counter(origin.label for origin in origins.values()) == {"0": 4, "7": 4}


def test_folds_with_numbers() -> None:
    """UrbanSound8K: the label is a number in the name, the recording a group, and the fold a given split."""
    ids = ["audio/fold5/100032-3-0-0.wav", "audio/fold10/100263-2-0-117.wav"]
    by_name = _naming(label=r"/\d+-(\d+)-", speaker=r"/(\d+)-", split=r"fold(\d+)/")
    assert _origins(ids, by_name).clips == {
        ids[0]: Origin("3", "100032", "5"),
        ids[1]: Origin("2", "100263", "10"),
    }
    table = "slice_file_name,fsID,start,end,salience,fold,classID,class\n"
    table += "100032-3-0-0.wav,100032,0.0,0.3,1,5,3,dog_bark\n"
    table += "100263-2-0-117.wav,100263,58.5,62.5,1,10,2,children_playing\n"
    by_table = _naming(
        table={
            "path": "metadata/UrbanSound8K.csv",
            "file": "slice_file_name",
            "label": "class",
            "speaker": "fsID",
            "split": "fold",
        }
    )
    assert _origins(ids, by_table, metadata_UrbanSound8K=table).clips == {
        ids[0]: Origin("dog_bark", "100032", "5"),
        ids[1]: Origin("children_playing", "100263", "10"),
    }


def test_a_tsv_with_quotes() -> None:
    """Common Voice: a TSV names some of the clips, and quotes in it are text. The others are left out."""
    ids = [f"en/clips/common_voice_en_{n}.mp3" for n in range(4)]
    table = "client_id\tpath\tsentence\tup_votes\n"
    table += 'a1\tcommon_voice_en_0.mp3\t"yes\t2\nb2\tcommon_voice_en_2.mp3\tno\t3\n'
    table += "b2\tcommon_voice_en_9.mp3\tno\t3\n"
    columns = {"file": "path", "label": "sentence", "speaker": "client_id"}
    naming = _naming(table={"path": "en/validated.tsv", **columns})
    found = _origins(ids, naming, en_validated=table)
    assert found.clips == {ids[0]: Origin('"yes', "a1", ""), ids[2]: Origin("no", "b2", "")}
    assert clips.differences(found, naming) == [
        "left out because they are not in en/validated.tsv: 2 clips, such as en/clips/common_voice_en_1.mp3",
        "in en/validated.tsv, but not in the archive: 1 files, such as common_voice_en_9.mp3",
    ]


# ----------------------------------------------------------------------------------------- what fits nothing


def test_a_pattern_that_fits_not_all_clips_is_an_error() -> None:
    """The message has three paths, the pattern, and the labels that it finds in the other clips."""
    ids = [f"recordings/{n}.wav" for n in range(5)] + ["a/7_x.wav", "a/9_x.wav"]
    with pytest.raises(PipelineError) as error:
        _origins(ids, _naming(label=r"/(\d)_"))
    assert str(error.value).splitlines()[:5] == [
        r"params.yaml: clips.label, '/(\d)_', gives no label to 5 of 7 clips, such as",
        "  recordings/0.wav",
        "  recordings/1.wav",
        "  recordings/2.wav",
        str(error.value).splitlines()[4],
    ]
    assert "In the others it finds 2 labels: 7, 9: correct clips.label" in str(error.value)
    with pytest.raises(PipelineError, match="It finds no label at all"):
        _origins(ids, _naming(label="(x)y"))


def test_a_label_whose_files_are_no_clips_is_an_error() -> None:
    """The message has the label, what its files are, and what to do. An empty folder is a label too."""
    left_out = ["README.md", "no/a.m4a", "no/b.m4a", "up/", "yes/notes.md"]
    with pytest.raises(PipelineError) as error:
        _origins(["yes/a.wav"], _naming(), left_out)
    assert str(error.value) == (
        "params.yaml: clips.label, '([^/]+)/[^/]+$', also finds labels without a clip. None of their files"
        " has the suffix of an audio file:\n"
        "  no: 2 files .m4a, such as no/a.m4a\n"
        "  up: 1 empty folder, such as up/\n"
        "Convert the files to WAV or FLAC and pack the archive again. If they are no clips, add the names of"
        " the folders or files to extract.exclude"
    )


def test_other_files_beside_clips_are_no_labels() -> None:
    """Files with the label of a clip, or without one, are fine: also of clips that a table leaves out."""
    left_out = ["README.md", "noise/deep/x.txt.bak", "no/notes.md", "utils/trim.py"]
    ids = ["no/1_a.wav", "yes/2_b.wav", "noise/deep/rain.wav"]
    listed = {"table": {"path": "t.csv", "file": "file"}}
    for changes in ({}, listed):
        with pytest.raises(
            PipelineError, match=r"without a clip. .*\n  utils: 1 file \.py, such as utils/trim\.py\n"
        ):
            _origins(ids, _naming(recordings=["noise"], **changes), left_out, t="file\nyes/2_b.wav\n")
        origins = _origins(
            ids, _naming(recordings=["noise"], **changes), left_out[:3], t="file\nyes/2_b.wav\n"
        )
        assert "noise/deep/rain.wav" in origins.clips
    _origins(ids, _naming(label=r"(\d)_\w\.wav$", recordings=["noise"]), left_out)
    _origins(["no/1.wav"], _naming(label="^([^/]+)"), ["README.md"])
    columns = {"path": "t.csv", "file": "file", "label": "label"}
    _origins(ids, _naming(table=columns), left_out, t="file,label\nyes/2_b.wav,yes\n")


@pytest.mark.parametrize(
    ("changes", "table", "message"),
    [
        ({"file": "name"}, "file,label\nx,y\n", r"clips\.table\.file must be one of the columns of t\.csv"),
        (
            {"label": "class"},
            "file,label\nx,y\n",
            r"clips\.table\.label must be one of .* file, label, is 'c",
        ),
        (
            {},
            "file,label\nz.wav,y\n",
            r"no clip is in t\.csv, .* example, z\.wav; clips are a/x\.wav, b",
        ),
        ({}, "file,label\nx.wav,y\n", r"x\.wav in t\.csv fits a/x\.wav and b/x\.wav, expected one row"),
        ({}, "file,label\na/x.wav,y\n./a/x.wav,z\n", r"a/x\.wav in t\.csv is there twice, .*: remove a row"),
        ({}, "file,label\na/x.wav,y\nb/x.wav, \n", r"the column label of the table gives no label to 1 of 2"),
        ({}, "file,label\n\udcff", r"t\.csv is not a table in UTF-8"),
        ({}, "file;label\nx.wav;y\n", r"columns of t\.csv, file;label, is .* with commas"),
        ({}, "file\tlabel\nx.wav\ty\n", r"columns of t\.csv, file\tlabel, is .* with commas"),
        ({}, "", r"clips\.table\.path is t\.csv, which is empty"),
        ({}, "file,label\n", r"t\.csv has no rows: choose another clips\.table\.path"),
        ({}, 'file,label\n"' + "x" * 200_000, r"t\.csv is damaged at line 1: field larger than"),
    ],
)
def test_a_table_that_does_not_fit_is_an_error(changes: dict[str, str], table: str, message: str) -> None:
    """Wrong columns, ambiguous names, files twice and missing labels are named, with what to change."""
    naming = _naming(table={"path": "t.csv", "file": "file", "label": "label", **changes})
    with pytest.raises(PipelineError, match=message):
        clips.origins(["a/x.wav", "b/x.wav"], naming, lambda _: table.encode(errors="surrogateescape"), [])


def test_a_whole_path_in_a_table_names_one_clip() -> None:
    """A path that is a clip's id means that clip, even if another clip's path ends with it.

    The path may begin with the top folder.
    """
    naming = _naming(table={"path": "t.csv", "file": "file"})
    assert list(_origins(["a/x.wav"], naming, t="file\ntop/a/x.wav\n").clips) == ["a/x.wav"]
    assert list(_origins(["a/x.wav", "b/a/x.wav"], naming, t="file\na/x.wav\n").clips) == ["a/x.wav"]


def test_noise_is_found_by_its_folder() -> None:
    """Recordings are noise whatever the pattern and the table say, in a folder at any depth."""
    ids = ["audio/7_ann.wav", "audio/_background_noise_/rain.wav", "audio/x.wav"]
    noise = Origin("_background_noise_", ids[1], "")
    by_name = _naming(label=r"/(\d|x)", speaker=r"\d_([a-z]+)")
    assert _origins(ids, by_name).clips[ids[1]] == noise
    columns = {"file": "file", "label": "label", "speaker": "who", "split": "fold"}
    by_table = _naming(table={"path": "t.csv", **columns})
    found = _origins(ids, by_table, t="file,label,who,fold\n7_ann.wav,seven,ann,1\n")
    assert found.clips == {ids[0]: Origin("seven", "ann", "1"), ids[1]: noise}
    assert found.not_in_table == [ids[2]]


@pytest.mark.parametrize("pattern", ["(", "no group", "(two)(groups)"])
def test_a_pattern_must_have_one_group(pattern: str) -> None:
    """A pattern that does not compile, or has no group or two, is refused."""
    for name in ("label", "speaker", "split"):
        with pytest.raises(ValidationError):
            _naming(**{name: pattern})


def test_a_table_needs_a_path_and_files() -> None:
    """Columns without a path, and a path without the column of the files, are refused."""
    message = "must have file, the name of the column with the clips' paths, but file is null"
    with pytest.raises(ValidationError, match=message):
        Table(**{**NO_TABLE, "path": "t.csv"})
    for changes in ({"label": "x"}, {"path": "t.csv"}):
        with pytest.raises(ValidationError, match="must have"):
            Table(**{**NO_TABLE, **changes})


# -------------------------------------------------------------------------------------------------- clips.csv


def test_clips_are_sorted_by_id(tmp_path: Path) -> None:
    """Whole ids are sorted by code point, so `a b/2.wav` comes before `a/3.wav`. Tables are not clips."""
    for clip in ("b/1.wav", "a b/2.wav", "a/3.wav", "B/4.wav", "a/deep/5.wav", "a/6.csv", "7.wav"):
        (tmp_path / clip).parent.mkdir(exist_ok=True)
        (tmp_path / clip).touch()
    assert clips.find(tmp_path) == ["7.wav", "B/4.wav", "a b/2.wav", "a/3.wav", "a/deep/5.wav", "b/1.wav"]


def test_no_clips_are_an_error(tmp_path: Path) -> None:
    """An empty folder is an error."""
    with pytest.raises(PipelineError, match="contains no clips"):
        clips.find(tmp_path)


def test_clips_csv_is_read_as_it_was_written(tmp_path: Path) -> None:
    """clips.csv has seven columns, and a file name with quotes and commas is read back unchanged."""
    rows = [Clip('nö/a,"b".wav', "nö", "x", "fold 1", 16000, 12345, "0" * 32)]
    clips.write(tmp_path / "clips.csv", rows)
    assert clips.read(tmp_path / "clips.csv") == rows
    header = (tmp_path / "clips.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header == "clip,label,speaker,given_split,sample_rate,samples,md5"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda text: text.replace("16000,16000", "16000,0"),
            "line 2, column samples: expected greater than",
        ),
        (
            lambda text: text.replace("16000,16000", "1,16000"),
            "line 2, column sample_rate: expected greater than or equal to 1000",
        ),
        (
            lambda text: text.replace("16000,16000", f"16000,{10**30}"),
            "line 2, column samples: expected less than",
        ),
        (lambda text: text.replace(",16000", ",16k"), "line 2, column sample_rate: expected a valid integer"),
        (
            lambda text: text.replace("md5\n", "md5,x\n"),
            "must have the columns clip,label,speaker,given_split",
        ),
        (lambda text: text[:-9], "is cut short"),
        (lambda text: text[:-9] + "\n", "line 4, column md5: expected to match pattern"),
        (lambda text: text.replace("no/2.wav,no", "no/2.wav,"), "line 3, column label: expected to have at"),
        (lambda text: "".join(sorted(text.splitlines(keepends=True))[::-1]), "must have the columns"),
    ],
)
def test_a_table_that_was_edited_by_hand_is_refused(
    tmp_path: Path, edit: Callable[[str], str], message: str
) -> None:
    """The message has the place in clips.csv, what was found and what was expected."""
    path = tmp_path / "clips.csv"
    clips.write(path, [make_clip(clip) for clip in ("no/1.wav", "no/2.wav", "yes/1.wav")])
    path.write_text(edit(path.read_text()))
    with pytest.raises(PipelineError, match=rf"clips\.csv.*{message}"):
        clips.read(path)


def test_a_table_of_other_clips_than_the_store_is_refused(tmp_path: Path) -> None:
    """The message names a clip that only one of both has."""
    path = tmp_path / "clips.csv"
    clips.write(path, [make_clip("no/1.wav"), make_clip("yes/1.wav")])
    assert len(clips.read(path, ids=["no/1.wav", "yes/1.wav"])) == 2
    with pytest.raises(PipelineError, match=r"has 2 clips, and the store 1; yes/1\.wav is only in the table"):
        clips.read(path, ids=["no/1.wav"])
    with pytest.raises(PipelineError, match=r"and the store 3; zoo/1\.wav is only in the store"):
        clips.read(path, ids=["no/1.wav", "yes/1.wav", "zoo/1.wav"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "yes"}, "the label of no/a_nohash_1.wav is 'yes', but 'no' by its path"),
        ({"speaker": "b"}, "the speaker of no/a_nohash_1.wav is 'b', but 'a' by its path"),
        ({"given_split": "test"}, "the split of no/a_nohash_1.wav is 'test', but '' by its path"),
    ],
)
def test_a_label_unlike_its_folder_is_refused(change: dict[str, Any], message: str) -> None:
    """Label, speaker and split of clips.csv are those of the paths. What a table says is not compared."""
    good = [
        make_clip("_background_noise_/rain.wav@3", speaker="_background_noise_/rain.wav"),
        make_clip("no/a_nohash_1.wav", speaker="a"),
        make_clip("no/x.wav"),
    ]
    path, naming = Path("clips.csv"), _naming()
    clips.check(path, good, naming)
    edited = [good[0], good[1]._replace(**change), good[2]]
    with pytest.raises(PipelineError, match=message):
        clips.check(path, edited, naming)
    columns = {"path": "t.csv", "file": "f", "label": "l", "speaker": "s", "split": "p"}
    clips.check(path, edited, _naming(table=columns))


def test_lists_are_read_with_any_line_ends() -> None:
    """A list may have Windows line ends, a byte order mark, and empty lines."""
    content = "\ufeffyes/a.wav\r\n./no/b.wav\r\n\r\n".encode()
    assert clips.read_list(content) == {"yes/a.wav", "no/b.wav"}
