"""Split clips into train, val and test, or into folds."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipeline.corpus.clips import Clip
from pipeline.errors import PipelineError
from pipeline.files import write_csv
from pipeline.params import Section

SPLITS = ("train", "val", "test")
# Groups are dealt again, in another order, until every subset has every label, but at most so many times.
ATTEMPTS = 100
# From `which_set` in the README of the Speech Commands data set: https://arxiv.org/abs/1804.03209.
MAX_CLIPS_PER_LABEL = 2**27 - 1


class Split(Section):
    """The section `split`: how clips are divided into train, val and test."""

    method: Literal["stratified", "hash"]
    group_by: Literal["speaker", "clip"]
    train: float = Field(gt=0, lt=1)  # share of the clips
    val: float = Field(gt=0, lt=1)
    test: float = Field(gt=0, lt=1)
    seed: int = Field(ge=0)

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> Self:
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"must have train, val and test that sum to 1, but their sum is {total:g}")
        return self


def split(clips: list[Clip], settings: Split) -> list[str]:
    """Return the split of each of `clips`: `train`, `val` or `test`.

    The method `stratified` divides the clips of every label in the configured proportions, as closely as
    possible without breaking up a group. Depending on `settings.group_by`, a group is all clips of a speaker
    or a single clip. Exact copies are always in the same group.

    The method `hash` is the rule of the Speech Commands data sets. A clip's split depends only on the shares
    and on the name of its speaker, or of its file if the speaker is unknown. So it does not change when you
    add clips.

    Raises:
        PipelineError: there is only one label, a label has too few groups to have one in each split, or a
            split lacks a label.
    """
    labels = sorted({clip.label for clip in clips})
    if len(labels) < 2:
        raise PipelineError(
            f"the clips have only one label, {labels[0]!r}, but a classifier needs two or more: use an"
            " archive with one folder for each label"
        )
    if settings.method == "hash":
        splits = _by_hash(clips, settings)
        remedy = (
            "set split.method to stratified in params.yaml, or change split.train, split.val or split.test"
        )
    else:
        shares = np.array([settings.train, settings.val, settings.test])
        subsets = _stratified(clips, settings.group_by, shares, "split", settings.seed)
        splits = [SPLITS[subset] for subset in subsets]
        remedy = (
            f"add {settings.group_by}s with this label, or change split.seed, split.train, split.val or"
            " split.test in params.yaml"
        )
    _check_labels(clips, splits, SPLITS, remedy)
    return splits


def folds(clips: list[Clip], num_folds: int, settings: Split) -> NDArray[np.int64]:
    """Return the fold, 0 to `num_folds` - 1, of each of `clips`: (clips,).

    The clips of every label are divided evenly, as closely as possible without breaking up a group. Only
    `group_by` and `seed` of `settings` are used.

    Raises:
        PipelineError: a label has too few groups to have one in each fold, or a fold lacks a label.
    """
    shares = np.full(num_folds, 1 / num_folds)
    subsets = _stratified(clips, settings.group_by, shares, "fold", settings.seed)
    names = [f"fold {fold + 1}" for fold in range(num_folds)]
    remedy = f"add {settings.group_by}s with this label, use fewer folds, or change split.seed in params.yaml"
    _check_labels(clips, [names[subset] for subset in subsets], names, remedy)
    return subsets


def hash_split(name: str, *, val: float, test: float) -> str:
    """Return the split of a file or a speaker, by the rule of the Speech Commands data sets.

    Args:
        name: the name of the file or of the speaker. Only the part before `_nohash_` is used.
        val: the share of `val`, from 0 to 1.
        test: the share of `test`, from 0 to 1.
    """
    digest = hashlib.sha1(re.sub(r"_nohash_.*$", "", name).encode(), usedforsecurity=False)
    remainder = int(digest.hexdigest(), 16) % (MAX_CLIPS_PER_LABEL + 1)
    percentage = remainder * (100.0 / MAX_CLIPS_PER_LABEL)
    if percentage < 100 * val:
        return "val"
    return "test" if percentage < 100 * (val + test) else "train"


def count_straddling_copies(clips: list[Clip], splits: list[str]) -> int:
    """Return how many recordings have exact copies in more than one split."""
    splits_of: dict[str, set[str]] = {}
    for clip, split in zip(clips, splits, strict=True):
        splits_of.setdefault(clip.md5, set()).add(split)
    return sum(len(copies) > 1 for copies in splits_of.values())


def format_table(clips: list[Clip], splits: list[str]) -> str:
    """Return a table of text: the number of clips by label and split, and of clips and speakers by split."""
    counts = Counter((clip.label, split) for clip, split in zip(clips, splits, strict=True))
    labels = sorted({clip.label for clip in clips})
    by_label = [[counts[label, split] for split in SPLITS] for label in labels]
    speakers = Counter(
        split for _, split in {(clip.speaker, split) for clip, split in zip(clips, splits, strict=True)}
    )
    rows = list(zip(labels, by_label, strict=True))
    rows.append(("clips", [sum(column) for column in zip(*by_label, strict=True)]))
    rows.append(("speakers", [speakers[split] for split in SPLITS]))
    width = max(len(name) for name, _ in rows)
    lines = [" " * width + "".join(f"{split:>9}" for split in SPLITS)]
    lines += [f"{name:<{width}}" + "".join(f"{count:>9,}" for count in row) for name, row in rows]
    return "\n".join(lines)


def write(path: Path, clips: list[Clip], splits: list[str]) -> None:
    """Write split.csv, with the columns `clip` and `split`."""
    rows = ((clip.clip, split) for clip, split in zip(clips, splits, strict=True))
    write_csv(path, ["clip", "split"], rows)


def _by_hash(clips: list[Clip], settings: Split) -> list[str]:
    def name(clip: Clip) -> str:
        # If the speaker is unknown, `clip.speaker` is the clip's id. The rule then takes the file's name.
        return clip.clip.rpartition("/")[2] if clip.speaker == clip.clip else clip.speaker

    return [hash_split(name(clip), val=settings.val, test=settings.test) for clip in clips]


def _check_labels(clips: list[Clip], subsets: list[str], names: Sequence[str], remedy: str) -> None:
    """Raise PipelineError if one of the subsets called `names` lacks a label.

    `subsets` has the name of each clip's subset. `remedy` ends the message.
    """
    present = {(clip.label, subset) for clip, subset in zip(clips, subsets, strict=True)}
    for label in sorted({clip.label for clip in clips}):
        missing = [name for name in names if (label, name) not in present]
        if missing:
            raise PipelineError(f"label {label!r} has no clips in {' and '.join(missing)}: {remedy}")


def _stratified(
    clips: list[Clip],
    group_by: Literal["speaker", "clip"],
    shares: NDArray[np.float64],
    kind: Literal["split", "fold"],
    seed: int,
) -> NDArray[np.int64]:
    """Return the subset of each clip, (clips,), as an index into `shares`.

    Args:
        clips: the clips.
        group_by: what stays together.
        shares: (subsets,), each subset's share of the clips of every label.
        kind: what the subsets are. Messages contain it.
        seed: decides the order of equally large groups.

    Raises:
        PipelineError: a label has too few groups to have one in each subset.
    """
    group = np.array(_groups(clips, group_by), np.int64)
    labels = sorted({clip.label for clip in clips})
    index = {label: column for column, label in enumerate(labels)}
    counts = np.zeros((max(group) + 1, len(labels)))
    np.add.at(counts, (group, np.array([index[clip.label] for clip in clips])), 1)
    for label, num_groups in zip(labels, (counts > 0).sum(axis=0), strict=True):
        if num_groups < len(shares):
            if group_by == "speaker":
                count_as_one = "speakers with a copy of the same recording"
                advice = "add speakers, or set split.group_by to clip in params.yaml"
            else:
                count_as_one, advice = "exact copies", "add clips"
            raise PipelineError(
                f"label {label!r} needs at least {len(shares)} {group_by}s, one for each {kind}, but has"
                f" {num_groups} ({count_as_one} count as one): {advice}"
            )
    generator = np.random.default_rng(seed)
    for _ in range(ATTEMPTS):
        subset_of_group = _deal(counts, shares, generator)
        if all((counts[subset_of_group == subset] > 0).any(axis=0).all() for subset in range(len(shares))):
            break
    subsets: NDArray[np.int64] = subset_of_group[group]
    return subsets


def _deal(
    counts: NDArray[np.float64], shares: NDArray[np.float64], generator: np.random.Generator
) -> NDArray[np.int64]:
    """Return the subset of each group: (groups,).

    The groups are dealt one by one, the largest first, and equally large ones in random order. Each group
    goes to the subset that minimises the squared deviation from the shares. There is one exception: if
    the group has a label with only as many groups left as there are subsets that still lack it, the group
    goes to one of these subsets. If there are several such labels, it goes to the subset that lacks the
    largest number of them.

    Args:
        counts: (groups, labels), the number of clips of each group by label.
        shares: (subsets,), each subset's share of the clips of every label.
        generator: decides the order of equally large groups.
    """
    order = generator.permutation(len(counts))
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    wanted = shares[:, None] * counts.sum(axis=0)
    given = np.zeros_like(wanted)
    left = (counts > 0).sum(axis=0)
    subsets = np.empty(len(counts), np.int64)
    for group in order:
        has = counts[group] > 0
        before = (given - wanted) / wanted
        after = (given + counts[group] - wanted) / wanted
        # (subsets,): how much the squared deviation grows if the group goes there.
        growth = (shares[:, None] * (after**2 - before**2)).sum(axis=1)
        # (labels,): whether the exception applies to the label.
        urgent = has & (left <= (given == 0).sum(axis=0))
        # (subsets,): how many of these labels the subset already has.
        already_has = (urgent & (given > 0)).sum(axis=1)
        # The subset where `already_has` is lowest, and of several such, the one where `growth` is lowest.
        subset = np.lexsort((growth, already_has))[0]
        subsets[group] = subset
        given[subset] += counts[group]
        left -= has
    return subsets


def _groups(clips: list[Clip], group_by: Literal["speaker", "clip"]) -> list[int]:
    """Return the group of each clip, counted from 0.

    Exact copies are in the same group, and so are the clips of a speaker if `group_by` is `speaker`.
    """
    parent = list(range(len(clips)))

    def root(clip: int) -> int:
        while parent[clip] != clip:
            parent[clip] = clip = parent[parent[clip]]
        return clip

    first: dict[tuple[str, str], int] = {}
    for row, clip in enumerate(clips):
        for key in (("md5", clip.md5), ("speaker", clip.speaker if group_by == "speaker" else clip.clip)):
            parent[root(row)] = root(first.setdefault(key, row))
    group_of_root: dict[int, int] = {}
    return [group_of_root.setdefault(root(row), len(group_of_root)) for row in range(len(clips))]
