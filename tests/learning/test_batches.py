import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import psutil
import pytest

from pipeline.corpus import members
from pipeline.corpus.members import Member
from pipeline.errors import PipelineError
from pipeline.learning import batches
from pipeline.learning.batches import Subset
from pipeline.store.layout import describe
from tests.project import ROOT
from tests.store.make import change_row, make_store

# Clip n of the store is in the split SPLITS[n % 5].
SPLITS = ["train", "train", "train", "val", "test"]
ROWS = np.broadcast_to(np.arange(100, dtype=np.float32)[:, None, None], (100, 4, 3))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return a store of 100 clips with two labels. All values in the row of clip n are n."""
    clips = [f"{'no' if n < 40 else 'yes'}/{n:03}" for n in range(100)]
    make_store(tmp_path / "mfcc.h5", ROWS, clips=clips)
    joined = [
        Member(clip, clip.partition("/")[0], SPLITS[n % 5], noise=False) for n, clip in enumerate(clips)
    ]
    members.write(tmp_path / "split.csv", reversed(joined))
    return tmp_path / "mfcc.h5"


def _subset(store: Path, name: str = "train") -> Subset:
    return batches.load_subset(name, store=store, split=store.with_name("split.csv"))


def _epoch(dataset: Any) -> list[tuple[Any, Any]]:
    return [(values.numpy(), targets.numpy()) for values, targets in dataset]


def test_the_subset_has_the_clips_of_its_split(store: Path) -> None:
    """Rows and targets are joined with split.csv by clip id, and are in the order of the store."""
    subset = _subset(store, "val")
    assert subset.rows.tolist() == list(range(3, 100, 5))
    assert subset.targets.tolist() == [int(row >= 40) for row in subset.rows]
    assert subset.labels == ["no", "yes"]
    assert subset.clips[0] == "no/003"
    assert subset.row_shape == (4, 3)


def test_clips_without_a_label_are_left_out(store: Path) -> None:
    """Only the clips of the task are in a subset, with its labels. Noise is in the subset of its split."""
    split = store.with_name("split.csv")
    joined = [
        member._replace(
            label="" if member.clip < "no/020" else f"new {member.label}", noise=member.clip < "no/010"
        )
        for member in members.read(split)
    ]
    members.write(split, joined)
    subset = _subset(store, "val")
    assert subset.rows.tolist() == list(range(23, 100, 5))
    assert subset.labels == ["new no", "new yes"]
    assert subset.noise.tolist() == [3, 8]


def test_a_limit_keeps_that_many_clips_of_each_label(store: Path) -> None:
    """3 clips of each label remain, in order. A seed draws the same clips, and 2 of them for 2."""
    subset = _subset(store)
    three, two, other = (batches.limit(subset, number, seed) for number, seed in ((3, 0), (2, 0), (3, 1)))
    assert np.bincount(three.targets).tolist() == [3] * len(subset.labels)
    assert (np.diff(three.rows) > 0).all()
    assert set(two.clips) < set(three.clips) < set(subset.clips)
    assert set(three.clips) != set(other.clips)
    assert three.targets.tolist() == [subset.labels.index(clip.split("/")[0]) for clip in three.clips]


def test_a_limit_above_the_number_of_clips_keeps_all(store: Path) -> None:
    """With a limit that no label reaches, or none, all clips remain."""
    subset = _subset(store)
    for number in (1000, None):
        assert batches.limit(subset, number, 0).clips == subset.clips


@pytest.mark.tensorflow
def test_batches_of_a_float16_store_are_float32(store: Path, tmp_path: Path) -> None:
    """The values are those in the store."""
    clips = describe(store).clips
    make_store(tmp_path / "half/mfcc.h5", ROWS / np.float32(3), clips=clips, dtype="float16")
    subset = batches.load_subset("val", store=tmp_path / "half/mfcc.h5", split=store.with_name("split.csv"))
    for values, _ in batches.batches(subset, 100):
        assert values.dtype.name == "float32"
        expected = (ROWS[subset.rows] / np.float32(3)).astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(values.numpy(), expected)


def test_a_row_that_has_changed_is_refused(store: Path) -> None:
    """Training on a damaged store would be silent: the message names the first clip of the split."""
    change_row(store, 37)  # which is in train
    with pytest.raises(PipelineError, match=r"the row of no/037 has changed since it was written"):
        _subset(store)
    assert len(_subset(store, "val").rows) == 20


def test_a_split_of_other_clips_is_refused(store: Path) -> None:
    """If split.csv lacks clips of the store, the message names one and says how many."""
    members.write(store.with_name("split.csv"), [Member("no/000", "no", "train", noise=False)])
    with pytest.raises(PipelineError, match=r"contain different clips, such as no/001 \(99 in all\)"):
        _subset(store)


@pytest.mark.tensorflow
def test_an_epoch_has_each_clip_once_with_its_target(store: Path) -> None:
    """Each clip of the subset comes once, with its own row and target. The last batch is smaller."""
    subset = _subset(store)
    epoch = _epoch(batches.batches(subset, 16, seed=3))
    assert [len(values) for values, _ in epoch] == [16, 16, 16, 12]
    values = np.concatenate([values for values, _ in epoch])
    targets = np.concatenate([targets for _, targets in epoch])
    assert sorted(values[:, 0, 0]) == subset.rows.tolist()
    assert (values == values[:, :1, :1]).all()
    np.testing.assert_array_equal(targets, values[:, 0, 0] >= 40)


@pytest.mark.tensorflow
def test_the_seed_decides_the_order_in_each_epoch(store: Path) -> None:
    """Two epochs differ in order. The same seed gives the same two orders, and another seed others."""

    def two_epochs(seed: int) -> list[list[float]]:
        dataset = batches.batches(_subset(store), 16, seed=seed)
        return [np.concatenate([v for v, _ in _epoch(dataset)])[:, 0, 0].tolist() for _ in range(2)]

    first, second = two_epochs(3)
    assert first != second
    assert [first, second] == two_epochs(3)
    assert [first, second] != two_epochs(4)


@pytest.mark.tensorflow
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("seed", [None, 5])
def test_the_cache_does_not_change_the_batches(
    store: Path, tmp_path: Path, dtype: Literal["float32", "float16"], seed: int | None
) -> None:
    """`memory`, `none` and `auto` give the same values in the same order, over two epochs."""
    make_store(tmp_path / "other/mfcc.h5", ROWS, clips=describe(store).clips, dtype=dtype)
    subset = batches.load_subset(
        "train", store=tmp_path / "other/mfcc.h5", split=store.with_name("split.csv")
    )
    epochs = {}
    for cache in ("memory", "none", "auto"):
        dataset = batches.batches(subset, 16, seed=seed, cache=cache)
        epochs[cache] = [np.concatenate([values for values, _ in _epoch(dataset)]) for _ in range(2)]
    np.testing.assert_array_equal(epochs["memory"], epochs["none"])
    np.testing.assert_array_equal(epochs["memory"], epochs["auto"])


@pytest.mark.tensorflow
def test_a_store_fits_in_half_of_the_free_memory(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store fits if its rows take exactly half of the free memory, but not if they take more."""
    free = 2 * 100 * 4 * 3 * 4  # twice 100 clips of 4 x 3 float32
    for available, expected in ((free, True), (free - 1, False)):
        monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=available))  # noqa: B023
        assert batches.fits(describe(store)) == expected


@pytest.mark.tensorflow
def test_pages_are_unmapped_after_use(tmp_path: Path) -> None:
    """A process that reads all of a store of 1.5 GiB never needs more than 700 MiB for it."""
    clips = [f"a/{number:04}" for number in range(3000)]
    make_store(tmp_path / "mfcc.h5", np.broadcast_to(np.float32(1), (3000, 512, 256)), clips=clips)
    code = """if True:
        import sys
        from pathlib import Path
        from pipeline.learning import batches, runtime
        from pipeline.store.layout import describe
        from tests.learning.make import subset_of
        runtime.start(0)
        subset = subset_of(describe(Path(sys.argv[1])), range(3000))
        import psutil
        process, peak, before = psutil.Process(), 0, 0
        for values, _ in batches.batches(subset, 32, seed=1):
            before = before or process.memory_info().rss
            assert float(values[0, 0, 0]) == 1
            peak = max(peak, process.memory_info().rss)
        print((peak - before) >> 20)
    """
    output = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "mfcc.h5")],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert int(output) < 700


@pytest.mark.tensorflow
def test_the_replicas_parts_make_up_each_batch(store: Path) -> None:
    """Two replicas, in one process or two, or four in two processes, get every clip of a batch once.

    Their parts differ by at most one clip.
    """
    subset = _subset(store)
    whole = [values[:, 0, 0] for values, _ in _epoch(batches.batches(subset, 16, seed=3))]
    for processes, local in ((2, 1), (1, 2), (2, 2)):
        parts = [
            _epoch(
                batches.batches(
                    subset,
                    16,
                    seed=3,
                    replicas=range(n * local, (n + 1) * local),
                    num_replicas=processes * local,
                )
            )
            for n in range(processes)
        ]
        for index, batch in enumerate(whole):
            shares = [part[index * local + replica][0][:, 0, 0] for part in parts for replica in range(local)]
            assert max(map(len, shares)) - min(map(len, shares)) <= 1
            assert sorted(np.concatenate(shares)) == sorted(batch)


@pytest.mark.tensorflow
def test_every_replica_gets_a_clip_of_the_last_batch(store: Path) -> None:
    """A last batch with fewer clips than replicas takes some from the batch before. Each clip comes once."""
    subset = _subset(store)
    size = len(subset.rows) - 1
    parts = [
        _epoch(batches.batches(subset, size, replicas=range(n, n + 1), num_replicas=3)) for n in range(3)
    ]
    assert [[len(values) for values, _ in part] for part in parts] == [[size // 3, 1]] * 3
    values = np.concatenate([values[:, 0, 0] for part in parts for values, _ in part])
    assert sorted(values) == sorted(subset.rows)


@pytest.mark.tensorflow
def test_without_a_seed_the_clips_keep_their_order(store: Path) -> None:
    """If there is no seed, the clips come in the order of the store."""
    subset = _subset(store, "test")
    values = np.concatenate([values for values, _ in _epoch(batches.batches(subset, 7))])
    assert values[:, 0, 0].tolist() == subset.rows.tolist()
    assert batches.batches(subset, 7).element_spec[0].shape.as_list() == [None, 4, 3]
