"""Split clips into train, val and test, or into folds."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipeline.corpus import recordings
from pipeline.corpus.clips import SHOWN, Clip, read_list
from pipeline.corpus.members import SILENCE, SPLITS, Member
from pipeline.corpus.task import Task, draw, shortages, to_labels
from pipeline.errors import PipelineError
from pipeline.params import Section, Seed, Text, listed

# Groups are dealt again, in another order, until every subset has every label, but at most so many times.
ATTEMPTS = 100
# From `which_set` in the README of the Speech Commands data set: https://arxiv.org/abs/1804.03209.
MAX_CLIPS_PER_LABEL = 2**27 - 1
NO_SILENCE = "add longer recordings of noise, or set task.silence to 0.0 in params.yaml"

SplitName = Literal["train", "val", "test"]
# An archive may call its folds by numbers.
GivenNumber = Annotated[int, Field(ge=-1_000_000, le=1_000_000)]


class Split(Section):
    """The section `split`: how clips are divided into train, val and test."""

    method: Literal["stratified", "hash", "given", "list"]
    group_by: Literal["speaker", "clip"]
    train: float = Field(gt=0, lt=1)  # share of the clips
    val: float = Field(gt=0, lt=1)
    test: float = Field(gt=0, lt=1)
    seed: Seed
    given: dict[SplitName, Annotated[list[Text | GivenNumber], Field(max_length=10_000)]]
    lists: dict[SplitName, Text | None]

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> Self:
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"must have train, val and test that sum to 1, but their sum is {total:g}")
        return self

    @model_validator(mode="after")
    def _given_once(self) -> Self:
        counts = Counter(str(value) for split_values in self.given.values() for value in split_values)
        twice = sorted(value for value, count in counts.items() if count > 1)
        if twice:
            raise ValueError(f"must have each value of given in one split, has {listed(twice)} in two")
        return self

    @property
    def shares(self) -> NDArray[np.float64]:
        """The shares of `SPLITS`."""
        return np.array([self.train, self.val, self.test])


def split(
    clips: list[Clip],
    settings: Split,
    task: Task,
    noise_labels: Collection[str] = (),
    lists: Mapping[str, Collection[str]] | None = None,
) -> list[Member]:
    """Return what each of `clips` is in the task, in the same order: its label and its split.

    Clips are split by `settings.method`:

    `stratified`
        The clips of every label are divided in the configured proportions, as closely as possible without
        breaking up a group. Depending on `settings.group_by`, a group is all clips of a speaker or a single
        clip. Exact copies are always in the same group.
    `hash`
        The rule of the Speech Commands data sets. A clip's split depends only on the shares and on the name
        of its speaker, or of its file if the speaker is unknown. So it does not change when you add clips.
    `given`
        What clips.csv says, by the values in `settings.given`.
    `list`
        The clips in `lists`. Without a list for `train`, all other clips are in train.

    The pieces of a noise recording are divided in the proportions, whatever the method is, unless they have a
    given split. Each split has consecutive pieces. `settings.seed` chooses where the first split begins.

    Then unknown clips and silence are drawn, as `pipeline.corpus.task.draw` says.

    Args:
        clips: the rows of clips.csv.
        settings: the section `split` of params.yaml.
        task: the section `task` of params.yaml.
        noise_labels: the labels of noise recordings.
        lists: the ids in each list.

    Raises:
        PipelineError: the task has only one label, or words that no clip has. A label has too few groups to
            have one in each split, or a split lacks a label. A clip has no given split, or is in two lists.
    """
    labels = to_labels([clip.label for clip in clips], task, noise_labels)
    speech = [row for row, clip in enumerate(clips) if labels[row] and clip.label not in noise_labels]
    names = [""] * len(clips)
    chosen = [clips[row]._replace(label=labels[row]) for row in speech]
    for row, name in zip(speech, _by_method(chosen, settings, lists or {}), strict=True):
        names[row] = name
    noise = [row for row, clip in enumerate(clips) if clip.label in noise_labels]
    by_split = _stretches([clips[row] for row in noise], settings.shares, settings.seed)
    for row, subset in zip(noise, by_split, strict=True):
        given = _given_split(clips[row], settings) if settings.method == "given" else None
        names[row] = given or SPLITS[subset]
    members = [
        Member(clip.clip, label, name, noise=clip.label in noise_labels)
        for clip, label, name in zip(clips, labels, names, strict=True)
    ]
    members = draw(members, task, settings.seed)
    for is_noise, remedy in ((False, _remedy(settings)), (True, NO_SILENCE)):
        kind = [member for member in members if member.label and member.noise == is_noise]
        _check_labels([(member.label, member.split) for member in kind], SPLITS, remedy)
    return members


def read_lists(
    clips: list[Clip], settings: Split, read_table: Callable[[str], bytes]
) -> tuple[dict[str, set[str]], list[str]]:
    """Return the ids in each list of `settings`, and a message for each list with names that are no clips.

    Both are empty if `settings.method` is not `list`. `read_table` returns the content of a list at a path
    below the archive's top folder.

    Raises PipelineError if there is no such list, or if it names no clip.
    """
    lists: dict[str, set[str]] = {}
    messages = []
    known = {clip.clip for clip in clips}
    example_clip = f", such as {clips[0].clip}" if clips else ""
    for name, path in settings.lists.items() if settings.method == "list" else ():
        if path is None:
            continue
        ids = lists[name] = read_list(read_table(path))
        if not ids & known:
            example = f" such as {min(ids)}" if ids else ""
            raise PipelineError(
                f"params.yaml: split.lists.{name}, {path}, has {len(ids)} names{example}, but none is a"
                f" clip{example_clip}: use a list of paths below the archive's top folder"
            )
        others = sorted(ids - known)
        if others:
            messages.append(
                f"{len(others):,} of {len(ids):,} names in {path} are no clips, such as {others[0]}"
            )
    return lists, messages


def _by_method(clips: list[Clip], settings: Split, lists: Mapping[str, Collection[str]]) -> list[str]:
    """Return the split of each of `clips`, whose labels are those of the task."""
    match settings.method:
        case "stratified":
            subsets = _stratified(clips, settings.group_by, settings.shares, "split", settings.seed)
            return [SPLITS[subset] for subset in subsets]
        case "hash":
            return _by_hash(clips, settings)
        case "given":
            names = [_given_split(clip, settings) for clip in clips]
            if None in names:
                without = [clip for clip, name in zip(clips, names, strict=True) if name is None]
                shown = "".join(f"\n  {clip.clip} has {clip.given_split!r}" for clip in without[:SHOWN])
                known = sorted({clip.given_split for clip, name in zip(clips, names, strict=True) if name})
                others = (
                    f"The other clips have {', '.join(known)}" if known else "No clip has a name listed there"
                )
                raise PipelineError(
                    f"params.yaml: split.given has no split for {len(without)} of {len(clips)} clips, by what"
                    f" the archive gives them:{shown}\n{others}:"
                    " correct split.given, or clips.split or clips.table.split, which say where the archive"
                    " names its splits"
                )
            return [str(name) for name in names]
        case "list":
            return _by_list(clips, lists)


def _given_split(clip: Clip, settings: Split) -> str | None:
    return next(
        (name for name, values in settings.given.items() if clip.given_split in map(str, values)), None
    )


def _by_list(clips: list[Clip], lists: Mapping[str, Collection[str]]) -> list[str]:
    others = "" if "train" in lists else "train"
    names = []
    for clip in clips:
        listing = [name for name, ids in lists.items() if clip.clip in ids]
        if len(listing) > 1 or not (listing or others):
            problem = f"is in the lists of {' and '.join(listing)}" if listing else "is in none of the lists"
            raise PipelineError(
                f"{clip.clip} {problem}, expected one: correct the lists, or the names of their files under"
                " split.lists in params.yaml"
            )
        names.append(listing[0] if listing else others)
    return names


def _remedy(settings: Split) -> str:
    match settings.method:
        case "stratified":
            return (
                f"add {settings.group_by}s with this label, or change split.seed, split.train, split.val or"
                " split.test in params.yaml"
            )
        case "hash":
            return "set split.method to stratified in params.yaml, or change split.val or split.test"
        case "given":
            return "set split.method to stratified in params.yaml, or correct split.given"
        case "list":
            return "set split.method to stratified in params.yaml, or correct split.lists"


def _stretches(pieces: list[Clip], shares: NDArray[np.float64], seed: int) -> list[int]:
    """Return an index into `shares` for each of `pieces`, so that each subset has consecutive pieces.

    Each recording is divided in the proportions, beginning at a random piece; its last piece is the neighbour
    of its first one. If a recording has too few pieces for that, the next recordings make up for it. Copies
    of a recording are divided alike.
    """
    rows_of: dict[str, list[tuple[int, int]]] = {}
    for row, clip in enumerate(pieces):
        cut = recordings.piece(clip.clip)
        rows_of.setdefault(recordings.file(clip.clip), []).append((cut.number if cut else 0, row))
    copies_of: dict[tuple[str, ...], list[list[int]]] = {}
    for file in sorted(rows_of):
        rows = [row for _, row in sorted(rows_of[file])]
        copies_of.setdefault(tuple(pieces[row].md5 for row in rows), []).append(rows)
    subsets = [0] * len(pieces)
    generator = np.random.default_rng(seed)
    missing = np.zeros(len(shares))  # how many pieces each subset should have had more so far
    different = list(copies_of.values())
    for place in generator.permutation(len(different)):
        copies = different[place]
        length = len(copies[0])
        missing += shares * length
        given = np.floor(np.maximum(missing, 0)).astype(int)
        while given.sum() > length:
            given[np.argmax(given)] -= 1
        while given.sum() < length:
            given[np.argmax(missing - given)] += 1
        missing -= given
        divided = np.roll(np.repeat(np.arange(len(shares)), given), int(generator.integers(length)))
        for rows in copies:
            for row, subset in zip(rows, divided.tolist(), strict=True):
                subsets[row] = subset
    return subsets


def folds(clips: list[Clip], num_folds: int, settings: Split) -> NDArray[np.int64]:
    """Return the fold, 0 to `num_folds` - 1, of each of `clips`: (clips,).

    The clips of every label are divided evenly, as closely as possible without breaking up a group. The
    pieces of a noise recording are divided into consecutive ones. Only `group_by` and `seed` of `settings`
    are used.

    Args:
        clips: rows of clips.csv, with labels of the task.
        num_folds: how many folds.
        settings: the section `split` of params.yaml.

    Raises:
        PipelineError: a label has too few groups to have one in each fold, or a fold lacks a label.
    """
    shares = np.full(num_folds, 1 / num_folds)
    is_piece = [recordings.piece(clip.clip) is not None for clip in clips]
    subsets = np.zeros(len(clips), np.int64)
    speech = [row for row, piece in enumerate(is_piece) if not piece]
    subsets[speech] = _stratified(
        [clips[row] for row in speech], settings.group_by, shares, "fold", settings.seed
    )
    noise = [row for row, piece in enumerate(is_piece) if piece]
    subsets[noise] = _stretches([clips[row] for row in noise], shares, settings.seed)
    names = [f"fold {fold + 1}" for fold in range(num_folds)]
    more = f"add {settings.group_by}s with this label"
    for rows, remedy in ((speech, more), (noise, "add longer recordings of noise")):
        pairs = [(clips[row].label, names[subsets[row]]) for row in rows if clips[row].label]
        _check_labels(pairs, names, f"{remedy}, use fewer folds, or change split.seed in params.yaml")
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


def warnings(clips: list[Clip], members: list[Member], settings: Split, task: Task) -> list[str]:
    """Return a message for each way in which the split may be worse than its user expects."""
    messages = shortages(members, task)
    spoken = [clip for clip, member in zip(clips, members, strict=True) if member.label not in ("", SILENCE)]
    unnamed = [clip.clip for clip in spoken if clip.speaker == clip.clip]
    if unnamed:
        messages.append(
            f"{len(unnamed):,} of {len(spoken):,} clips have no speaker by params.yaml: clips, such as"
            f" {unnamed[0]}: each counts as its own speaker, so one person may be in two splits"
        )
    silent = sum(
        clip.label == SILENCE and not member.label for clip, member in zip(clips, members, strict=True)
    )
    if silent and any(member.noise for member in members) and (task.words is None or task.silence):
        messages.append(
            f"{silent} clips of {SILENCE} are left out, because they may be cut from the recordings of noise"
        )
    several = _under_several_labels(clips, members)
    if several:
        first = [f"{clip} ({label})" for label, clip in several[0].items()]
        others = f" and {len(first) - SHOWN:,} others" if len(first) > SHOWN else ""
        messages.append(
            f"{len(several):,} recordings are under several labels, the first one as"
            f" {', '.join(first[:SHOWN])}{others}: leave out the wrong clips, such as with extract.exclude"
        )
    for keys, problem in (
        ([clip.speaker for clip in clips], "speakers have clips"),
        ([clip.md5 for clip in clips], "recordings have exact copies"),
    ):
        straddling = _count_straddling(keys, members)
        if straddling and not (settings.group_by == "clip" and problem.startswith("speakers")):
            messages.append(
                f"{straddling} {problem} in more than one split: to keep them together, set params.yaml:"
                " split.method to stratified"
            )
    return messages


def _under_several_labels(clips: list[Clip], members: list[Member]) -> list[dict[str, str]]:
    """Return the first clip of each label, for each recording that has several labels in the task."""
    clip_of_label: dict[str, dict[str, str]] = {}
    for clip, member in zip(clips, members, strict=True):
        if member.label and not member.noise:
            clip_of_label.setdefault(clip.md5, {}).setdefault(member.label, clip.clip)
    return [first_clips for first_clips in clip_of_label.values() if len(first_clips) > 1]


def _count_straddling(keys: Sequence[str], members: list[Member]) -> int:
    """Return how many of the groups of clips with equal `keys` are in more than one split.

    `keys` has a speaker, or the md5 of a recording, for each of `members`. Noise does not count.
    """
    splits_of: dict[str, set[str]] = {}
    for key, member in zip(keys, members, strict=True):
        if member.split and not member.noise:
            splits_of.setdefault(key, set()).add(member.split)
    return sum(len(names) > 1 for names in splits_of.values())


def format_table(clips: list[Clip], members: list[Member]) -> str:
    """Return a table of text: the number of clips by label and split, and of clips and speakers by split."""
    used = [(clip, member) for clip, member in zip(clips, members, strict=True) if member.label]
    counts = Counter((member.label, member.split) for _, member in used)
    labels = sorted({member.label for _, member in used})
    by_label = [[counts[label, split] for split in SPLITS] for label in labels]
    speakers = Counter(
        split
        for _, split in {(clip.speaker, member.split) for clip, member in used if member.label != SILENCE}
    )
    rows = list(zip(labels, by_label, strict=True))
    rows.append(("clips", [sum(column) for column in zip(*by_label, strict=True)]))
    rows.append(("speakers", [speakers[split] for split in SPLITS]))
    pieces = Counter(member.split for member in members if member.noise)
    if pieces:
        rows.append(("pieces of noise", [pieces[split] for split in SPLITS]))
    width = max(len(name) for name, _ in rows)
    lines = [" " * width + "".join(f"{split:>9}" for split in SPLITS)]
    lines += [f"{name:<{width}}" + "".join(f"{count:>9,}" for count in row) for name, row in rows]
    return "\n".join(lines)


def _by_hash(clips: list[Clip], settings: Split) -> list[str]:
    def name(clip: Clip) -> str:
        # If the speaker is unknown, `clip.speaker` is the clip's id. The rule then takes the file's name.
        return clip.clip.rpartition("/")[2] if clip.speaker == clip.clip else clip.speaker

    return [hash_split(name(clip), val=settings.val, test=settings.test) for clip in clips]


def _check_labels(pairs: Collection[tuple[str, str]], names: Sequence[str], remedy: str) -> None:
    """Raise PipelineError if one of the subsets called `names` lacks a label.

    `pairs` has the label and the name of the subset of each clip. `remedy` ends the message.
    """
    present = set(pairs)
    for label in sorted({label for label, _ in present}):
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
            count_as_one, advice = "exact copies", "add clips"
            if group_by == "speaker":
                count_as_one, advice = "speakers with a copy of the same recording", "add speakers"
                pairs = {(clip.label, row) for clip, row in zip(clips, _groups(clips, "clip"), strict=True)}
                if min(Counter(name for name, _ in pairs).values()) >= len(shares):
                    advice += ", or set split.group_by to clip in params.yaml"
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
