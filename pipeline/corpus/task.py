"""The task: which labels are told apart, and which clips are unknown words and silence.

The rule is that of `input_data.py`, with which TensorFlow trains on Speech Commands: in each split, clips of
other labels are drawn as `_unknown_`, and noise as `_silence_`, each a share of the number of clips of the
words. https://arxiv.org/abs/1804.03209
"""

import difflib
import math
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from pipeline.corpus.members import SILENCE, SPLITS, UNKNOWN, Member
from pipeline.errors import PipelineError
from pipeline.params import Section, Text, shown


class Task(Section):
    """The section `task`: the words, and how many unknown clips and how much silence are added to them."""

    # None: all labels. Numbers count as text.
    words: Annotated[list[Text], Field(max_length=10_000)] | None
    unknown: float = Field(ge=0, le=1000)  # share of the words' clips
    silence: float = Field(ge=0, le=1000)  # share of the words' clips

    @field_validator("words", mode="before")
    @classmethod
    def _as_text(cls, words: Any) -> Any:
        if not isinstance(words, list):
            return words
        return [str(word) if type(word) is int else word for word in words]

    @model_validator(mode="after")
    def _words_are_words(self) -> Self:
        words = self.words or []
        if self.words == [] or len(set(words)) < len(words):
            raise ValueError(f"must have words that differ, or null for all labels, has {shown(self.words)}")
        for name in self.added:
            if name in words:
                raise ValueError(f"must not have {name} among its words, because clips are drawn for it")
        return self

    @property
    def added(self) -> dict[str, float]:
        """The classes that are added to the words, and the share of each."""
        shares = {UNKNOWN: self.unknown, SILENCE: self.silence}
        return {label: share for label, share in shares.items() if share}


def to_labels(labels: Sequence[str], task: Task, noise_labels: Collection[str] = ()) -> list[str]:
    """Return the label in the task of clips that have these `labels` in clips.csv.

    A label that is a word stays as it is. Noise becomes `_silence_`. All others become `_unknown_`. A label
    is "" if its clips are left out, because the task has no such class.

    Clips that already have the label `_silence_` are silence only if there is no noise. Otherwise they are
    left out, unless `_silence_` is named as a word: in the test archive of Speech Commands they are cut from
    the noise recordings, so the same noise would be in two splits.

    Raises PipelineError if no clip has one of the words, or one of the added classes.
    """
    known = sorted(set(labels) - set(noise_labels))
    has_noise = bool(set(labels) & set(noise_labels))
    silent = {SILENCE} if has_noise else set()
    words = set(task.words) if task.words is not None else set(known) - set(task.added) - silent
    for word in sorted(words - set(known)):
        near = difflib.get_close_matches(word, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected some of {', '.join(known)}"
        problem = "which is in clips.recordings" if word in noise_labels else "but no clip has this label"
        raise PipelineError(f"params.yaml: task.words has {word!r}, {problem}; {hint}")

    def to_label(label: str) -> str:
        if label in words:
            return label
        if label in silent:
            return ""
        name = SILENCE if label in (SILENCE, *noise_labels) else UNKNOWN
        return name if name in task.added else ""

    result = [to_label(label) for label in labels]
    present = set(result) - {""}
    for name, key, remedy in (
        (UNKNOWN, "unknown", "set it to 0, or choose fewer words under task.words"),
        (SILENCE, "silence", "set it to 0, or name the labels of noise recordings under clips.recordings"),
    ):
        if name in task.added and name not in present:
            raise PipelineError(f"params.yaml: task.{key} must be 0, because no clip is {name}: {remedy}")
    if len(present) < 2:
        raise PipelineError(
            f"the task has only one label, {next(iter(present), 'none')!r}, but a classifier needs two or"
            " more: set task in params.yaml, or use an archive with two labels or more"
        )
    return result


def draw(members: list[Member], task: Task, seed: int) -> list[Member]:
    """Return `members` with only as many `_unknown_` and `_silence_` clips in each split as `task` says.

    The other ones lose their label. If a split has too few, all are taken.
    """
    drawn = list(members)
    for label in task.added:
        kind = (UNKNOWN, SILENCE).index(label)  # without one class, the other is drawn as with both
        for index, split in enumerate(SPLITS):
            wanted = wanted_clips(members, split, task, label)
            rows = [
                row for row, member in enumerate(members) if member.label == label and member.split == split
            ]
            order = np.random.default_rng([seed, kind, index]).permutation(len(rows))
            for place in order[wanted:]:
                drawn[rows[place]] = drawn[rows[place]]._replace(label="")
    return drawn


def wanted_clips(members: Sequence[Member], split: str, task: Task, label: str) -> int:
    """Return how many clips of the added class `label` a split should have: a share of its clips of words."""
    others = {"", *task.added}
    words = sum(member.split == split and member.label not in others for member in members)
    return math.ceil(round(task.added[label] * words, 6))  # 0.07 * 100 is a little more than 7


def shortages(members: list[Member], task: Task) -> list[str]:
    """Return a message for each added class of which a split has fewer clips than `task` says."""
    counts = Counter((member.label, member.split) for member in members)
    messages = []
    for label in task.added:
        short = [
            f"{counts[label, split]:,} of {wanted:,} in {split}"
            for split in SPLITS
            if counts[label, split] < (wanted := wanted_clips(members, split, task, label))
        ]
        if short:
            messages.append(f"there are fewer clips for {label} than task says: {', '.join(short)}")
    return messages
