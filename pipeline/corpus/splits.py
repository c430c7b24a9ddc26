"""Clips → train, val, test."""

import hashlib
import re
from collections import Counter
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipeline.corpus.clips import Clip
from pipeline.errors import PipelineError
from pipeline.files import write_csv
from pipeline.params import Section

SIDES = ("train", "val", "test")
# Orders in which the groups are tried, before the split is said to be impossible.
ATTEMPTS = 100
# https://arxiv.org/abs/1804.03209, `which_set` in the data set's README.
MAX_CLIPS_PER_LABEL = 2**27 - 1


class Split(Section):
    """`split`: who goes to which side."""

    method: Literal["stratified", "hash"]
    group_by: Literal["speaker", "clip"]
    train: float = Field(gt=0, lt=1)
    val: float = Field(gt=0, lt=1)
    test: float = Field(gt=0, lt=1)
    seed: int = Field(ge=0)

    @model_validator(mode="after")
    def _shares_of_one(self) -> Self:
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"must have shares (train, val, test) that sum to 1, they sum to {total:g}")
        return self


def split(clips: list[Clip], how: Split) -> list[str]:
    """Return the side of each of `clips`: `train`, `val` or `test`.

    `stratified` gives each side its share of every label, as nearly as whole groups allow: the clips of
    a speaker, or single clips, together with their exact copies. `hash` is the rule of the Speech
    Commands data sets, by the speaker's name alone: a clip's side never changes when others are added.

    Raises:
        PipelineError: there is one label alone, or a label has too few groups to stand on every side, or
            stands on fewer.
    """
    labels = sorted({clip.label for clip in clips})
    if len(labels) < 2:
        raise PipelineError(
            f"split: there is one label alone, {labels[0]!r}, expected two or more to tell apart: the archive"
            " needs one folder for each"
        )
    if how.method == "hash":
        sides = _by_hash(clips, how)
    else:
        shares = np.array([how.train, how.val, how.test])
        sides = [SIDES[side] for side in _stratified(clips, how.group_by, shares, SIDES, how.seed)]
    present = Counter((clip.label, side) for clip, side in zip(clips, sides, strict=True))
    for label in labels:
        missing = [side for side in SIDES if not present[label, side]]
        if missing:
            remedy = "split.method to stratified" if how.method == "hash" else "split.seed"
            raise PipelineError(
                f"split: label {label!r} has no clip on {' and '.join(missing)}: expected some on each of"
                f" {', '.join(SIDES)}: change params.yaml: {remedy} or a share"
            )
    return sides


def folds(clips: list[Clip], number: int, how: Split) -> NDArray[np.int64]:
    """Return the fold of each of `clips`, (clips,): 0 to `number` - 1, each with its share of every label.

    Groups are those of `how`, its shares and method do not count. Raises PipelineError where a label has
    fewer groups than there are folds.
    """
    names = tuple(f"fold {fold + 1}" for fold in range(number))
    return _stratified(clips, how.group_by, np.full(number, 1 / number), names, how.seed)


def which_side(name: str, *, val: float, test: float) -> str:
    """Return the side of a file or a speaker called `name` by the rule of the Speech Commands data sets.

    Args:
        name: the file's name, or what stands in it before `_nohash_`, which alone counts.
        val: the share of the validation clips.
        test: the share of the test clips.
    """
    digest = hashlib.sha1(re.sub(r"_nohash_.*$", "", name).encode(), usedforsecurity=False)
    number = int(digest.hexdigest(), 16) % (MAX_CLIPS_PER_LABEL + 1)
    percentage = number * (100.0 / MAX_CLIPS_PER_LABEL)
    if percentage < 100 * val:
        return "val"
    return "test" if percentage < 100 * (val + test) else "train"


def straddling_copies(clips: list[Clip], sides: list[str]) -> int:
    """Return how many recordings have exact copies on more than one side."""
    where: dict[str, set[str]] = {}
    for clip, side in zip(clips, sides, strict=True):
        where.setdefault(clip.md5, set()).add(side)
    return sum(len(found) > 1 for found in where.values())


def table(clips: list[Clip], sides: list[str]) -> str:
    """Return the number of clips and speakers by label and side, as lines of text."""
    count = Counter((clip.label, side) for clip, side in zip(clips, sides, strict=True))
    labels = sorted({clip.label for clip in clips})
    speakers = {
        side: len({clip.speaker for clip, each in zip(clips, sides, strict=True) if each == side})
        for side in SIDES
    }
    by_label = [[count[label, side] for side in SIDES] for label in labels]
    rows = list(zip(labels, by_label, strict=True))
    rows.append(("clips", [sum(column) for column in zip(*by_label, strict=True)]))
    rows.append(("speakers", [speakers[side] for side in SIDES]))
    width = max(len(name) for name, _ in rows)
    lines = [" " * width + "".join(f"{side:>9}" for side in SIDES)]
    lines += [f"{name:<{width}}" + "".join(f"{number:>9,}" for number in numbers) for name, numbers in rows]
    return "\n".join(lines)


def write(path: Path, clips: list[Clip], sides: list[str]) -> None:
    """Write split.csv: `clip`, `split`."""
    write_csv(path, ["clip", "split"], ((clip.clip, side) for clip, side in zip(clips, sides, strict=True)))


def _by_hash(clips: list[Clip], how: Split) -> list[str]:
    def name(clip: Clip) -> str:
        # A clip that tells no speaker has its id for one, where the rule takes the file's name.
        return clip.clip.rpartition("/")[2] if clip.speaker == clip.clip else clip.speaker

    return [which_side(name(clip), val=how.val, test=how.test) for clip in clips]


def _stratified(
    clips: list[Clip],
    group_by: Literal["speaker", "clip"],
    shares: NDArray[np.float64],
    names: tuple[str, ...],
    seed: int,
) -> NDArray[np.int64]:
    """Return the number of each clip's side; the sides have `shares` and `names`."""
    group = np.array(_groups(clips, group_by), np.int64)
    labels = sorted({clip.label for clip in clips})
    index = {label: column for column, label in enumerate(labels)}
    counts = np.zeros((max(group) + 1, len(labels)))
    np.add.at(counts, (group, np.array([index[clip.label] for clip in clips])), 1)
    for label, groups in zip(labels, (counts > 0).sum(axis=0), strict=True):
        if groups < len(names):
            what = "speakers" if group_by == "speaker" else "clips"
            raise PipelineError(
                f"split: label {label!r} has {groups} {what} that share no recording with another, expected"
                f" at least {len(names)}, one for each of {', '.join(names)}: add {what}"
                + (", or set params.yaml: split.group_by to clip" if group_by == "speaker" else "")
            )
    generator = np.random.default_rng(seed)
    for _ in range(ATTEMPTS):
        side = _deal(counts, shares, generator)
        if all((counts[side == number] > 0).any(axis=0).all() for number in range(len(names))):
            break
    sides: NDArray[np.int64] = side[group]
    return sides


def _deal(
    counts: NDArray[np.float64], shares: NDArray[np.float64], generator: np.random.Generator
) -> NDArray[np.int64]:
    """Return the side of each group, given its clips by label: (groups, labels) → (groups,).

    Largest first, in random order among equals, each group goes to the side where it leaves the least
    squared distance from the sides' shares of every label, unless a label has only as many groups left
    as there are sides without it.
    """
    order = generator.permutation(len(counts))
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    wanted = shares[:, None] * counts.sum(axis=0)
    given = np.zeros_like(wanted)
    left = (counts > 0).sum(axis=0)
    sides = np.empty(len(counts), np.int64)
    for group in order:
        has = counts[group] > 0
        urgent = has & (left <= (given == 0).sum(axis=0))
        before = (given - wanted) / wanted
        after = (given + counts[group] - wanted) / wanted
        added = (shares[:, None] * (after**2 - before**2)).sum(axis=1)
        covered = (urgent & (given > 0)).sum(axis=1)
        side = np.lexsort((added, covered))[0]
        sides[group] = side
        given[side] += counts[group]
        left -= has
    return sides


def _groups(clips: list[Clip], by: Literal["speaker", "clip"]) -> list[int]:
    """Return a group's number for each clip: clips that share a speaker, or samples, share a group."""
    parent = list(range(len(clips)))

    def root(clip: int) -> int:
        while parent[clip] != clip:
            parent[clip] = clip = parent[parent[clip]]
        return clip

    first: dict[tuple[str, str], int] = {}
    for number, clip in enumerate(clips):
        for key in (("md5", clip.md5), ("speaker", clip.speaker if by == "speaker" else clip.clip)):
            parent[root(number)] = root(first.setdefault(key, number))
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(number), len(numbers)) for number in range(len(clips))]
