import math
from collections import Counter
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.corpus.members import SILENCE, SPLITS, UNKNOWN, Member
from pipeline.corpus.task import Task, draw, shortages, to_labels
from pipeline.errors import PipelineError

LABELS = ["yes", "no", "cat", "dog", "_silence_", "_unknown_", "noise"]


def _task(**changes: Any) -> Task:
    return Task(**{"words": None, "unknown": 0.0, "silence": 0.0, **changes})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["yes", "no", "cat", "dog", "", "_unknown_", ""]),
        ({"words": ["yes", "no"]}, ["yes", "no", "", "", "", "", ""]),
        ({"words": ["yes", "no"], "unknown": 0.1}, ["yes", "no", UNKNOWN, UNKNOWN, "", UNKNOWN, ""]),
        (
            {"words": ["yes", "no"], "unknown": 0.1, "silence": 0.1},
            ["yes", "no", UNKNOWN, UNKNOWN, "", UNKNOWN, SILENCE],
        ),
        ({"silence": 0.1}, ["yes", "no", "cat", "dog", "", "_unknown_", SILENCE]),
        ({"unknown": 0.1}, ["yes", "no", "cat", "dog", "", UNKNOWN, ""]),
    ],
)
def test_labels_become_those_of_the_task(changes: dict[str, Any], expected: list[str]) -> None:
    """Words stay, other labels are unknown, noise is silence, and classes not asked for are left out."""
    assert to_labels(LABELS, _task(**changes), ["noise"]) == expected


def test_digits_are_words() -> None:
    """On a command line and in YAML, a digit is a number. It means the label with that name."""
    assert to_labels(["0", "1", "2"], _task(words=[0, "2"])) == ["0", "", "2"]


def test_published_silence_is_used_if_there_is_no_noise() -> None:
    """Clips that already are `_silence_` are silence, because they cannot be cut from the noise."""
    assert to_labels(LABELS[:5], _task(words=["yes", "no"], silence=0.1), ["noise"]) == [
        "yes",
        "no",
        "",
        "",
        SILENCE,
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"words": ["yes", "nno"]}, r"task\.words has 'nno', but no clip has this label; did you mean no\?"),
        ({"words": ["yes", "noise"]}, r"task\.words has 'noise', which is in clips\.recordings"),
        ({"words": ["yes"]}, r"the task has only one label, 'yes', but a classifier needs two"),
        ({"words": ["yes", "no", "cat", "dog"], "unknown": 0.1}, None),
    ],
)
def test_a_task_that_the_clips_do_not_have_is_an_error(changes: dict[str, Any], message: str | None) -> None:
    """The message names the parameter, and a label that may have been meant."""
    if message is None:
        with pytest.raises(PipelineError, match=r"task\.unknown must be 0, because no clip is _unknown_"):
            to_labels(["yes", "no", "cat", "dog"], _task(**changes))
        with pytest.raises(PipelineError, match=r"task\.silence must be 0, .* clips\.recordings"):
            to_labels(["yes", "no"], _task(silence=0.1))
        return
    with pytest.raises(PipelineError, match=message):
        to_labels(LABELS, _task(**changes), ["noise"])


@pytest.mark.parametrize(
    "changes",
    [{"words": []}, {"words": ["a", "a"]}, {"words": ["a", UNKNOWN], "unknown": 0.1}, {"unknown": -0.1}],
)
def test_words_must_differ_and_be_words(changes: dict[str, Any]) -> None:
    """No words, a word twice, and an added class among the words are refused."""
    with pytest.raises(ValidationError):
        _task(**changes)


def _members(unknown: int) -> list[Member]:
    """Each split has some words, noise, and `unknown` clips for each 100 words."""
    sizes = {"train": 803, "val": 101, "test": 97}
    return [
        Member(f"{label}/{split}{number}", label, split, noise=label == SILENCE)
        for split, size in sizes.items()
        for label, count in (("yes", size), (UNKNOWN, size * unknown // 100), (SILENCE, size))
        for number in range(count)
    ]


def test_each_split_gets_the_rules_share() -> None:
    """Ten per cent of the words, rounded up as in input_data.py, are unknown, and ten are silence."""
    task = _task(unknown=0.1, silence=0.1)
    members = draw(_members(50), task, seed=0)
    counts = Counter((member.label, member.split) for member in members)
    for split in SPLITS:
        expected = math.ceil(0.1 * counts["yes", split])
        assert counts[UNKNOWN, split] == counts[SILENCE, split] == expected
    assert shortages(members, task) == []


def test_the_seed_draws_other_clips() -> None:
    """The same seed draws the same clips, and another draws others. Clips that are not drawn stay noise."""
    task, members = _task(unknown=0.1, silence=0.1), _members(50)
    assert draw(members, task, 0) == draw(members, task, 0)
    assert draw(members, task, 0) != draw(members, task, 1)
    assert [(m.clip, m.split, m.noise) for m in draw(members, task, 0)] == [
        (m.clip, m.split, m.noise) for m in members
    ]


def test_too_few_clips_are_all_taken_and_counted() -> None:
    """If a split has fewer unknown clips than its share, it has them all, and a message says how many."""
    task = _task(unknown=0.1, silence=0.1)
    members = draw(_members(4), task, 0)
    assert Counter(member.label for member in members)[UNKNOWN] == 32 + 4 + 3
    (message,) = shortages(members, task)
    assert message.endswith("_unknown_ than task says: 32 of 81 in train, 4 of 11 in val, 3 of 10 in test")
