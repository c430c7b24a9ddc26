"""split.csv: what is read fits the store and has each label in each split."""

from pathlib import Path

import pytest

from pipeline.corpus import members
from pipeline.corpus.members import SPLITS, Member
from pipeline.errors import PipelineError

MEMBERS = [
    *(
        Member(f"{label}/{split}.wav", label, split, noise=False)
        for label in ("no", "yes")
        for split in SPLITS
    ),
    Member("other/1.wav", "", "", noise=False),
    Member("rain.wav@0", "", "train", noise=True),
]


def test_members_are_read_as_they_were_written(tmp_path: Path) -> None:
    """The rows may be in any order, and come in the order of the ids that are given."""
    path = tmp_path / "split.csv"
    members.write(path, MEMBERS)
    assert members.read(path) == MEMBERS
    ids = [member.clip for member in MEMBERS[::-1]]
    assert members.read(path, ids=ids) == MEMBERS[::-1]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("no,test", "no,tets", r"line 4, column split: expected to match pattern .*, found 'tets'"),
        (
            "no,test",
            "mo,test",
            "the label 'mo' has clips in test, expected one or more in train, val, test each",
        ),
        ("no,test", "no,train", "the label 'no' has clips in train and val, expected one or more in"),
        ("no,test", "no,", "the label 'no' has clips in train and val, expected"),
        ("rain.wav@0,,train", "rain.wav@0,,", "rain.wav@0 has no split"),
        ("other/1.wav", "no/val.wav", r"line 8: clip no/val.wav is there twice"),
    ],
)
def test_a_split_that_was_edited_by_hand_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    """A misspelt split or label, a label without test clips, noise without a split, and an id twice."""
    path = tmp_path / "split.csv"
    members.write(path, MEMBERS)
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    with pytest.raises(PipelineError, match=message) as error:
        members.read(path)
    assert "run dvc checkout --force" in str(error.value)


def test_a_split_without_labels_or_of_other_clips_is_refused(tmp_path: Path) -> None:
    """The message says so, and names one of the clips that are only in one of the two."""
    path = tmp_path / "split.csv"
    members.write(path, MEMBERS[-2:])
    with pytest.raises(PipelineError, match=r"split\.csv has no clip with a label"):
        members.read(path)
    members.write(path, MEMBERS)
    ids = [member.clip for member in MEMBERS[:-1]]
    with pytest.raises(PipelineError, match=r"different clips, such as another \(2 in all\)"):
        members.read(path, ids=[*ids, "another"])
