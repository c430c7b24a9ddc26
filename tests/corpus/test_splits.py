from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.corpus import splits
from pipeline.corpus.clips import Clip
from pipeline.corpus.splits import SIDES, Split, split, which_side
from pipeline.errors import PipelineError
from tests.conftest import DATA

HOW = Split(method="stratified", group_by="speaker", train=0.8, val=0.1, test=0.1, seed=0)


def _how(**changes: Any) -> Split:
    return Split(**{**HOW.model_dump(), **changes})


def _corpus(speakers: int = 100, labels: int = 8, copies: int = 50) -> list[Clip]:
    """Ragged: a speaker says some of the labels, some of them twice; some clips copy another speaker's."""
    generator = np.random.default_rng(1)
    clips = []
    for speaker in range(speakers):
        for label in range(labels):
            for take in range(generator.integers(0, 3)):
                clip = f"label{label}/s{speaker:03}_nohash_{take}.wav"
                clips.append(Clip(clip, f"label{label}", f"s{speaker:03}", 16000, 16000, clip))
    for target, source in generator.integers(0, len(clips), (copies, 2)):
        if clips[target].label == clips[source].label:
            clips[target] = clips[target]._replace(md5=clips[source].md5)
    return clips


@pytest.mark.parametrize("seed", range(5))
def test_no_speaker_and_no_copy_is_on_two_sides(seed: int) -> None:
    """Grouped by speaker, neither a speaker nor a recording stands on two sides, for any seed."""
    clips = _corpus()
    assert len({clip.md5 for clip in clips}) < len(clips)
    where = defaultdict(set)
    for clip, side in zip(clips, split(clips, _how(seed=seed)), strict=True):
        where["speaker", clip.speaker].add(side)
        where["md5", clip.md5].add(side)
    assert {len(sides) for sides in where.values()} == {1}


def test_grouped_by_clip_speakers_are_divided_but_copies_are_not() -> None:
    """Grouped by clip, speakers stand on several sides while exact copies stay together."""
    clips = _corpus()
    sides = split(clips, _how(group_by="clip"))
    assert splits.straddling_copies(clips, sides) == 0
    assert len({(clip.speaker, side) for clip, side in zip(clips, sides, strict=True)}) > 200


@pytest.mark.parametrize("group_by", ["speaker", "clip"])
@pytest.mark.parametrize("shares", [(0.8, 0.1, 0.1), (0.6, 0.25, 0.15), (0.98, 0.01, 0.01)])
def test_each_label_has_the_shares_asked_for(group_by: str, shares: tuple[float, ...]) -> None:
    """On 300 speakers every label's share of each side is within 1.5 points of the one asked for."""
    clips = _corpus(300)
    train, val, test = shares
    sides = split(clips, _how(group_by=group_by, train=train, val=val, test=test))
    count = Counter(zip((clip.label for clip in clips), sides, strict=True))
    for label in {clip.label for clip in clips}:
        total = sum(count[label, side] for side in SIDES)
        for side, share in zip(SIDES, shares, strict=True):
            assert abs(count[label, side] / total - share) < 0.015


def test_the_seed_alone_decides() -> None:
    """The same seed gives the same split, another seed another."""
    clips = _corpus()
    assert split(clips, HOW) == split(clips, HOW)
    assert split(clips, HOW) != split(clips, _how(seed=1))


def test_the_clips_of_all_sides_are_all_clips() -> None:
    """Every clip gets one of the three sides."""
    clips = _corpus()
    sides = split(clips, HOW)
    assert len(sides) == len(clips)
    assert set(sides) == set(SIDES)


def test_as_many_speakers_as_sides_are_enough() -> None:
    """A label of three speakers stands on every side, though its shares are far off."""
    few = [Clip(f"few/{n}", "few", f"few{n}", 1, 1, f"few{n}") for n in range(3)]
    assert sorted(split(_corpus() + few, HOW)[-3:]) == ["test", "train", "val"]


@pytest.mark.parametrize(("group_by", "what"), [("speaker", "2 speakers"), ("clip", "2 clips")])
def test_a_label_with_too_few_speakers_is_named(group_by: str, what: str) -> None:
    """A label that cannot be on three sides is an error with its name and what it has."""
    few = [Clip(f"few/{n}", "few", f"s{n % 2}", 1, 1, str(n % 2)) for n in range(10)]
    with pytest.raises(PipelineError, match=f"label 'few' has {what} that share no recording with another"):
        split(_corpus() + few, _how(group_by=group_by))


def test_one_label_alone_is_refused() -> None:
    """There is nothing to tell apart in a data set of one label, which is named."""
    with pytest.raises(PipelineError, match="one label alone, 'label0', expected two or more"):
        split(_corpus(labels=1), HOW)


def test_shares_that_do_not_sum_to_one_are_refused() -> None:
    """The three shares must sum to 1."""
    with pytest.raises(ValidationError, match=r"they sum to 0\.9"):
        _how(train=0.7)


@pytest.mark.parametrize("group_by", ["speaker", "clip"])
def test_the_official_lists_agree_on_every_file(group_by: str) -> None:
    """The hash rule puts each of the 13,633 files of v0.01's lists on the side that the list says."""
    lists = {
        "val": DATA / "speech_commands_v0.01_validation_list.txt",
        "test": DATA / "speech_commands_v0.01_testing_list.txt",
    }
    if not all(path.exists() for path in lists.values()):
        pytest.skip("no official lists: they do not lie in shared/data beside the project")
    names = {side: path.read_text().split() for side, path in lists.items()}
    clips = [
        Clip(name, name.split("/")[0], name.split("/")[1].split("_nohash_")[0], 1, 1, name)
        for side in names
        for name in names[side]
    ]
    expected = [side for side in names for _ in names[side]]
    assert len(expected) == 13633
    # The lists leave out the training clips: one of each label.
    labels = sorted({clip.label for clip in clips})
    clips += [Clip(f"{label}/train_nohash_0.wav", label, "train", 1, 1, "train") for label in labels]
    sides = split(clips, _how(method="hash", group_by=group_by))
    assert sides == expected + ["train"] * len(labels)


def test_the_hash_rule_takes_a_file_or_its_speaker() -> None:
    """What follows `_nohash_` does not count, and a name without it counts whole."""
    assert which_side("0a7c2a8d_nohash_3.wav", val=0.1, test=0.1) == which_side("0a7c2a8d", val=0.1, test=0.1)
    sides = [which_side(f"{n}.wav", val=0.2, test=0.3) for n in range(5000)]
    shares = {side: count / 5000 for side, count in Counter(sides).items()}
    assert shares == pytest.approx({"train": 0.5, "val": 0.2, "test": 0.3}, abs=0.03)


def test_a_side_that_the_hash_leaves_empty_is_an_error() -> None:
    """Few speakers that all hash to one side are an error that says what to change."""
    clips = [Clip(f"{'xy'[n % 2]}/{n}", "xy"[n % 2], "same", 1, 1, str(n)) for n in range(9)]
    with pytest.raises(PipelineError, match=r"label 'x' has no clip on .* split\.method to stratified"):
        split(clips, _how(method="hash"))


def test_the_table_counts_clips_and_speakers() -> None:
    """The printed table has a line for each label and side totals that add up."""
    clips = _corpus()
    sides = split(clips, HOW)
    lines = [line.split() for line in splits.table(clips, sides).splitlines()]
    assert lines[0] == ["train", "val", "test"]
    assert [line[0] for line in lines[1:-2]] == sorted({clip.label for clip in clips})
    assert sum(map(int, lines[-2][1:])) == len(clips)
    assert sum(map(int, lines[-1][1:])) == len({clip.speaker for clip in clips})


@pytest.mark.parametrize("number", [3, 5])
def test_folds_are_even_and_no_speaker_is_in_two(number: int) -> None:
    """Each clip is in one fold; speakers and copies in one alone; each label's shares are within a fifth."""
    clips = _corpus()
    folds = splits.folds(clips, number, _how())
    assert set(folds) == set(range(number))
    for key in ("speaker", "md5"):
        where = defaultdict(set)
        for clip, fold in zip(clips, folds, strict=True):
            where[getattr(clip, key)].add(fold)
        assert {len(found) for found in where.values()} == {1}
    count = Counter((clip.label, fold) for clip, fold in zip(clips, folds, strict=True))
    for label, total in Counter(clip.label for clip in clips).items():
        shares = [count[label, fold] / total * number for fold in range(number)]
        assert 0.8 < min(shares) <= max(shares) < 1.2
    assert (splits.folds(clips, number, _how(seed=1)) != folds).any()


def test_too_few_speakers_for_the_folds_are_an_error() -> None:
    """A label of 4 speakers in 5 folds is named."""
    clips = [Clip(f"a/{n}", "a", f"s{n}", 16000, 16000, str(n)) for n in range(4)]
    with pytest.raises(
        PipelineError, match=r"label 'a' has 4 speakers .* at least 5, one for each of fold 1"
    ):
        splits.folds(clips, 5, _how())
