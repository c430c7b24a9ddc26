from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.corpus import splits
from pipeline.corpus.clips import Clip
from pipeline.corpus.members import SPLITS
from pipeline.corpus.splits import Split, hash_split
from pipeline.corpus.task import Task
from pipeline.errors import PipelineError
from tests.corpus.make import make_clip
from tests.project import DATA

SETTINGS = Split(
    method="stratified",
    group_by="speaker",
    train=0.8,
    val=0.1,
    test=0.1,
    seed=0,
    given={"train": ["train"], "val": ["dev", 1], "test": ["test"]},
    lists={"val": "validation_list.txt", "test": "testing_list.txt"},
)
ALL = Task(words=None, unknown=0.0, silence=0.0)


def _settings(**changes: Any) -> Split:
    return Split(**{**SETTINGS.model_dump(), **changes})


def _names(clips: list[Clip], settings: Split = SETTINGS) -> list[str]:
    """Return the split of each clip, in the task with all labels."""
    return [member.split for member in splits.split(clips, settings, ALL)]


def _corpus(speakers: int = 100, labels: int = 8, copies: int = 50) -> list[Clip]:
    """Each speaker says each label up to twice, at random. Some clips are copies of another speaker's."""
    generator = np.random.default_rng(1)
    clips = []
    for speaker in range(speakers):
        for label in range(labels):
            for take in range(generator.integers(0, 3)):
                clip = f"label{label}/s{speaker:03}_nohash_{take}.wav"
                clips.append(make_clip(clip, speaker=f"s{speaker:03}"))
    for target, source in generator.integers(0, len(clips), (copies, 2)):
        if clips[target].label == clips[source].label:
            clips[target] = clips[target]._replace(md5=clips[source].md5)
    return clips


@pytest.mark.parametrize("seed", range(5))
def test_no_speaker_or_recording_is_in_two_splits(seed: int) -> None:
    """Grouped by speaker, all clips of a speaker and all copies of a recording are in one split."""
    clips = _corpus()
    assert len({clip.md5 for clip in clips}) < len(clips)
    splits_of = defaultdict(set)
    for clip, name in zip(clips, _names(clips, _settings(seed=seed)), strict=True):
        splits_of["speaker", clip.speaker].add(name)
        splits_of["md5", clip.md5].add(name)
    assert {len(names) for names in splits_of.values()} == {1}


def test_grouped_by_clip_only_copies_stay_together() -> None:
    """Grouped by clip, a speaker may be in several splits, but exact copies are in one."""
    clips = _corpus()
    members = splits.split(clips, _settings(group_by="clip"), ALL)
    names = [member.split for member in members]
    assert splits.warnings(clips, members, _settings(group_by="clip"), ALL) == []
    assert len({(clip.speaker, name) for clip, name in zip(clips, names, strict=True)}) > 200


@pytest.mark.parametrize("group_by", ["speaker", "clip"])
@pytest.mark.parametrize("shares", [(0.8, 0.1, 0.1), (0.6, 0.25, 0.15), (0.98, 0.01, 0.01)])
def test_each_split_has_its_share_of_each_label(group_by: str, shares: tuple[float, ...]) -> None:
    """With 300 speakers, each split's share of each label is within 1.5 points of the configured share."""
    clips = _corpus(300)
    train, val, test = shares
    names = _names(clips, _settings(group_by=group_by, train=train, val=val, test=test))
    counts = Counter(zip((clip.label for clip in clips), names, strict=True))
    for label in {clip.label for clip in clips}:
        total = sum(counts[label, name] for name in SPLITS)
        for name, share in zip(SPLITS, shares, strict=True):
            assert abs(counts[label, name] / total - share) < 0.015


def test_the_seed_decides_the_split() -> None:
    """The same seed gives the same split, and another seed gives another."""
    clips = _corpus()
    assert _names(clips, SETTINGS) == _names(clips, SETTINGS)
    assert _names(clips, SETTINGS) != _names(clips, _settings(seed=1))


def test_every_clip_is_in_a_split() -> None:
    """Every clip is in train, val or test, and none of them is empty."""
    clips = _corpus()
    names = _names(clips, SETTINGS)
    assert len(names) == len(clips)
    assert set(names) == set(SPLITS)


def test_three_speakers_are_enough_for_a_label() -> None:
    """A label with three speakers is in every split, even if that is far from the shares."""
    few = [make_clip(f"few/{n}") for n in range(3)]
    assert sorted(_names(_corpus() + few, SETTINGS)[-3:]) == ["test", "train", "val"]


@pytest.mark.parametrize("group_by", ["speaker", "clip"])
def test_a_label_with_too_few_groups_is_an_error(group_by: str) -> None:
    """If a label has too few groups for three splits, the message says how many it has and needs."""
    few = [make_clip(f"few/{n}", speaker=f"s{n % 2}", md5=str(n % 2)) for n in range(10)]
    with pytest.raises(
        PipelineError, match=f"label 'few' needs at least 3 {group_by}s, one for each split, but has 2"
    ):
        _names(_corpus() + few, _settings(group_by=group_by))


@pytest.mark.parametrize(("copies", "helps"), [(1, True), (2, False)])
def test_to_group_by_clip_is_advised_only_if_it_helps(copies: int, helps: bool) -> None:
    """Two speakers with four clips each can be split by clip, but not if all clips of each are the same."""
    few = [make_clip(f"few/{n}", speaker=f"s{n % 2}", md5=str(n % 2 if copies > 1 else n)) for n in range(8)]
    with pytest.raises(PipelineError, match="label 'few' needs at least 3 speakers") as error:
        _names(_corpus() + few)
    assert ("set split.group_by to clip" in str(error.value)) == helps
    if helps:
        _names(_corpus() + few, _settings(group_by="clip"))


def test_a_recording_under_several_labels_is_named() -> None:
    """The warning has the number of such recordings, and the first one's clips and labels."""
    clips = [*_corpus(), *(make_clip(f"{label}/{n}.wav", md5=f"x{n}") for n in range(3) for label in "ba")]
    members = splits.split(clips, SETTINGS, ALL)
    expected = (
        "3 recordings are under several labels, the first one as b/0.wav (b), a/0.wav (a): leave out the"
        " wrong clips, such as with extract.exclude"
    )
    assert expected in splits.warnings(clips, members, SETTINGS, ALL)
    # Other words, and noise, are no contradiction.
    task = Task(words=["a", "label0"], unknown=0.0, silence=0.0)
    members = splits.split(clips, SETTINGS, task)
    assert not any("several labels" in line for line in splits.warnings(clips, members, SETTINGS, task))


def test_a_single_label_is_an_error() -> None:
    """If all clips have the same label, the message names it."""
    with pytest.raises(PipelineError, match="only one label, 'label0', but a classifier needs two"):
        _names(_corpus(labels=1), SETTINGS)


def test_shares_must_sum_to_one() -> None:
    """Three shares whose sum is not 1 are refused."""
    with pytest.raises(ValidationError, match=r"their sum is 0\.9"):
        _settings(train=0.7)


@pytest.mark.parametrize("group_by", ["speaker", "clip"])
def test_the_hash_rule_agrees_with_the_official_lists(group_by: str) -> None:
    """Each of the 13,633 files in v0.01's lists is in the split of its list."""
    lists = {
        "val": DATA / "speech_commands_v0.01_validation_list.txt",
        "test": DATA / "speech_commands_v0.01_testing_list.txt",
    }
    if not all(path.exists() for path in lists.values()):
        pytest.skip("the official lists are not in shared/data")
    ids = {name: path.read_text().split() for name, path in lists.items()}
    clips = [
        make_clip(clip, speaker=clip.split("/")[1].split("_nohash_")[0]) for name in ids for clip in ids[name]
    ]
    expected = [name for name in ids for _ in ids[name]]
    assert len(expected) == 13633
    # The lists contain no training clips, so add one for each label.
    labels = sorted({clip.label for clip in clips})
    clips += [make_clip(f"{label}/train_nohash_0.wav", speaker="train", md5="train") for label in labels]
    names = _names(clips, _settings(method="hash", group_by=group_by))
    assert names == expected + ["train"] * len(labels)


def test_the_hash_rule_takes_a_file_name_or_a_speaker() -> None:
    """Only the part of a name before `_nohash_` is used. A name without `_nohash_` is used as it is."""
    assert hash_split("0a7c2a8d_nohash_3.wav", val=0.1, test=0.1) == hash_split("0a7c2a8d", val=0.1, test=0.1)
    names = [hash_split(f"{n}.wav", val=0.2, test=0.3) for n in range(5000)]
    shares = {name: count / 5000 for name, count in Counter(names).items()}
    assert shares == pytest.approx({"train": 0.5, "val": 0.2, "test": 0.3}, abs=0.03)


def test_a_split_that_the_hash_rule_leaves_empty_is_an_error() -> None:
    """If all speakers are in one split, the message says what to change."""
    clips = [make_clip(f"{'xy'[n % 2]}/{n}", speaker="same") for n in range(9)]
    with pytest.raises(PipelineError, match=r"label 'x' has no clips in .* set split\.method to stratified"):
        _names(clips, _settings(method="hash"))


def test_the_table_counts_clips_and_speakers() -> None:
    """The table has one line per label, and its totals are the numbers of clips and speakers."""
    clips = _corpus()
    members = splits.split(clips, SETTINGS, ALL)
    lines = [line.split() for line in splits.format_table(clips, members).splitlines()]
    assert lines[0] == ["train", "val", "test"]
    assert [line[0] for line in lines[1:-2]] == sorted({clip.label for clip in clips})
    assert sum(map(int, lines[-2][1:])) == len(clips)
    assert sum(map(int, lines[-1][1:])) == len({clip.speaker for clip in clips})


@pytest.mark.parametrize("num_folds", [3, 5])
def test_folds_are_even_and_speaker_disjoint(num_folds: int) -> None:
    """All clips of a speaker and all copies of a recording are in one fold.

    Each fold's part of each label is within a fifth of an even share.
    """
    clips = _corpus()
    folds = splits.folds(clips, num_folds, SETTINGS)
    assert set(folds) == set(range(num_folds))
    for key in ("speaker", "md5"):
        folds_of = defaultdict(set)
        for clip, fold in zip(clips, folds, strict=True):
            folds_of[getattr(clip, key)].add(fold)
        assert {len(numbers) for numbers in folds_of.values()} == {1}
    counts = Counter((clip.label, fold) for clip, fold in zip(clips, folds, strict=True))
    for label, total in Counter(clip.label for clip in clips).items():
        shares = [counts[label, fold] / total * num_folds for fold in range(num_folds)]
        assert 0.8 < min(shares) <= max(shares) < 1.2
    assert (splits.folds(clips, num_folds, _settings(seed=1)) != folds).any()


def test_too_few_speakers_for_the_folds_are_an_error() -> None:
    """A label with four speakers cannot be in five folds."""
    clips = [make_clip(f"a/{n}", speaker=f"s{n}") for n in range(4)]
    with pytest.raises(
        PipelineError, match="label 'a' needs at least 5 speakers, one for each fold, but has 4"
    ):
        splits.folds(clips, 5, SETTINGS)


def test_a_label_that_cannot_be_in_every_subset_is_an_error() -> None:
    """Each label has three of four speakers, so no split and no folds can contain all labels."""
    clips = [
        make_clip(f"{label}/{speaker}", speaker=speaker)
        for label, speakers in {"a": "123", "b": "124", "c": "134", "d": "234"}.items()
        for speaker in speakers
    ]
    with pytest.raises(PipelineError, match=r"^label '[abcd]' has no clips in (train|val|test): add "):
        _names(clips, SETTINGS)
    with pytest.raises(PipelineError, match=r"^label '[abcd]' has no clips in fold [123]: .* fewer"):
        splits.folds(clips, 3, SETTINGS)


# ----------------------------------------------------------------------------------------------- given splits


def test_the_split_is_given() -> None:
    """With the method `given`, the publisher's split counts, also as a number."""
    clips = [
        make_clip(f"{label}/{n}", given=given)
        for label in "ab"
        for n, given in enumerate(["train", "dev", "1", "test"])
    ]
    assert _names(clips, _settings(method="given")) == ["train", "val", "val", "test"] * 2


def test_a_clip_without_a_given_split_is_an_error() -> None:
    """The message names a clip, what its split is called, and what the others are called."""
    clips = [
        make_clip(f"{label}/{n}", given=given) for label in "ab" for n, given in enumerate(["train", "x"])
    ]
    with pytest.raises(
        PipelineError, match=r"for 2 of 4 clips, .*:\n  a/1 has 'x'\n  b/1 .*\n.* have train:"
    ):
        _names(clips, _settings(method="given"))


def test_lists_name_the_clips_of_val_and_test() -> None:
    """With the method `list`, all other clips are in train, unless train has a list too."""
    clips = [make_clip(f"{label}/{n}") for label in "ab" for n in range(3)]
    lists = {"val": {"a/0", "b/1", "c/7"}, "test": {"a/1", "b/0"}}
    settings = _settings(method="list")
    members = splits.split(clips, settings, ALL, lists=lists)
    assert [member.split for member in members] == ["val", "test", "train", "test", "val", "train"]
    with pytest.raises(PipelineError, match="a/0 is in the lists of val and test"):
        splits.split(clips, settings, ALL, lists={**lists, "test": {"a/0", "b/0"}})
    with pytest.raises(PipelineError, match="a/2 is in none of the lists"):
        splits.split(clips, settings, ALL, lists={**lists, "train": {"b/2"}})


# ------------------------------------------------------------------------------ unknown clips, silence, noise

OPEN = Task(words=["label0", "label1"], unknown=0.1, silence=0.1)


def _with_noise(recordings: int = 3, pieces: int = 50) -> list[Clip]:
    noise = [
        make_clip(f"noise/{name}.wav@{number}", speaker=f"noise/{name}.wav")
        for name in range(recordings)
        for number in range(pieces)
    ]
    return [*_corpus(), *noise]


@pytest.mark.parametrize("method", ["stratified", "hash"])
def test_no_voice_and_no_stretch_of_noise_is_in_two_splits(method: str) -> None:
    """In the open-set task, each speaker is in one split, and a recording has one stretch for each split.

    Each split has 10 % of its words' clips as unknown, and as silence.
    """
    clips = _with_noise()
    members = splits.split(clips, _settings(method=method), OPEN, ["noise"])
    splits_of = defaultdict(set)
    for clip, member in zip(clips, members, strict=True):
        if member.label and not member.noise:
            splits_of[clip.speaker].add(member.split)
    assert {len(names) for names in splits_of.values()} == {1}
    for name in range(3):
        row = [
            member.split for clip, member in zip(clips, members, strict=True) if f"/{name}.wav@" in clip.clip
        ]
        changes = sum(one != other for one, other in zip(row, row[1:] + row[:1], strict=True))
        assert changes == 3
        assert Counter(row) == {"train": 40, "val": 5, "test": 5}
    counts = Counter((member.label, member.split) for member in members)
    for split in SPLITS:
        wanted = -(-(counts["label0", split] + counts["label1", split]) // 10)
        assert counts["_unknown_", split] == wanted
        assert 0 < counts["_silence_", split] <= wanted


@pytest.mark.parametrize("pieces", [1, 3, 5, 6])
def test_many_short_recordings_are_divided_too(pieces: int) -> None:
    """A hundred recordings that are too short to be divided are dealt in the proportions."""
    clips = _with_noise(recordings=100, pieces=pieces)
    members = splits.split(clips, SETTINGS, ALL, ["noise"])
    counts = Counter(member.split for member in members if member.noise)
    for name, share in (("train", 0.8), ("val", 0.1), ("test", 0.1)):
        assert abs(counts[name] - 100 * pieces * share) <= 2


def test_a_value_in_two_given_splits_is_refused() -> None:
    """A fold that is named under val and test is a mistake."""
    with pytest.raises(ValidationError, match="each value of given in one split, has 2 in two"):
        _settings(given={"train": [1], "val": [2], "test": ["2"]})


def test_other_words_leave_the_noise_where_it_is() -> None:
    """The noise's splits depend only on the seed, and another seed begins elsewhere."""
    clips = _with_noise()

    def noise(task: Task, seed: int = 0) -> list[str]:
        members = splits.split(clips, _settings(seed=seed), task, ["noise"])
        return [member.split for member in members if member.noise]

    assert noise(OPEN) == noise(ALL)
    assert noise(OPEN) != noise(OPEN, seed=1)


def test_left_out_clips_have_no_label() -> None:
    """Without an unknown class, clips of other labels have neither label nor split, and are not counted."""
    clips = _with_noise()
    members = splits.split(
        clips, SETTINGS, Task(words=["label0", "label1"], unknown=0.0, silence=0.0), ["noise"]
    )
    for clip, member in zip(clips, members, strict=True):
        if clip.label not in ("label0", "label1"):
            assert member.label == ""
            assert bool(member.split) == member.noise == (clip.label == "noise")
    table = splits.format_table(clips, members)
    assert [line.split("  ")[0] for line in table.splitlines()[1:]] == [
        "label0",
        "label1",
        "clips",
        "speakers",
        "pieces of noise",
    ]


def test_too_little_noise_for_silence_is_an_error() -> None:
    """If a split gets no piece of noise, the message says what to do about silence."""
    with pytest.raises(PipelineError, match=r"'_silence_' has no clips in \w+.*: add longer rec"):
        splits.split(_with_noise(recordings=1, pieces=2), SETTINGS, OPEN, ["noise"])


def test_copies_of_a_recording_are_divided_alike() -> None:
    """A piece of noise and its exact copies are in one split."""
    noise = [
        make_clip(f"noise/{name}.wav@{number}", md5=f"piece {number}")
        for name in "abc"
        for number in range(30)
    ]
    members = splits.split([*_corpus(), *noise], SETTINGS, ALL, ["noise"])
    splits_of = defaultdict(set)
    for clip, member in zip(noise, members[-len(noise) :], strict=True):
        splits_of[clip.md5].add(member.split)
    assert {len(names) for names in splits_of.values()} == {1}


def test_silence_beside_noise_is_left_out_and_counted() -> None:
    """Clips of `_silence_` may be cut from the noise, so they are left out, unless that is a word."""
    silence = [make_clip(f"_silence_/{n}.wav") for n in range(30)]
    clips = [*_with_noise(), *silence]
    for task, count in ((ALL, 30), (ALL.model_copy(update={"words": ["label0", "_silence_"]}), 0)):
        members = splits.split(clips, SETTINGS, task, ["noise"])
        assert sum(not member.label for member in members[-30:]) == count
        messages = "\n".join(splits.warnings(clips, members, SETTINGS, task))
        assert ("30 clips of _silence_ are left out" in messages) == bool(count)


def test_folds_have_stretches_of_noise() -> None:
    """Every fold has consecutive pieces of each noise recording."""
    clips = _with_noise()
    fold_of = splits.folds(clips, 5, SETTINGS)
    for name in range(3):
        rows = [row for row, clip in enumerate(clips) if f"/{name}.wav@" in clip.clip]
        numbers = fold_of[rows]
        assert sorted(Counter(numbers.tolist()).values()) == [10] * 5
        assert (numbers != np.roll(numbers, 1)).sum() == 5
