import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import psutil
import pytest

from pipeline.errors import PipelineError
from pipeline.files import write_csv
from pipeline.learning import batches
from pipeline.learning.batches import Side
from pipeline.store.layout import describe
from tests.project import ROOT
from tests.store.make import make_store

SIDES = ["train", "train", "train", "val", "test"]


ROWS = np.broadcast_to(np.arange(100, dtype=np.float32)[:, None, None], (100, 4, 3))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """100 clips of two labels; the row of clip n holds n everywhere."""
    clips = [f"{'no' if n < 40 else 'yes'}/{n:03}" for n in range(100)]
    make_store(tmp_path / "mfcc.h5", ROWS, clips=clips)
    rows = [(clip, SIDES[n % 5]) for n, clip in enumerate(clips)]
    write_csv(tmp_path / "split.csv", ["clip", "split"], reversed(rows))
    return tmp_path / "mfcc.h5"


def _side(store: Path, name: str = "train") -> Side:
    return batches.side(name, store=store, split=store.with_name("split.csv"))


def _epoch(dataset: Any) -> list[tuple[Any, Any]]:
    return [(values.numpy(), targets.numpy()) for values, targets in dataset]


def test_a_side_is_the_split_joined_by_clip(store: Path) -> None:
    """Rows and targets follow the clips' ids, in the order of the store, not that of split.csv."""
    side = _side(store, "val")
    assert side.rows.tolist() == list(range(3, 100, 5))
    assert side.targets.tolist() == [int(row >= 40) for row in side.rows]
    assert side.labels == ["no", "yes"]
    assert side.clips[0] == "no/003"
    assert side.row_shape == (4, 3)


@pytest.mark.tensorflow
def test_half_precision_comes_as_single(store: Path, tmp_path: Path) -> None:
    """Batches of a float16 store are float32, with the stored values."""
    clips = describe(store).clips
    make_store(tmp_path / "half/mfcc.h5", ROWS / np.float32(3), clips=clips, dtype="float16")
    side = batches.side("val", store=tmp_path / "half/mfcc.h5", split=store.with_name("split.csv"))
    for values, _ in batches.batches(side, 100):
        assert values.dtype.name == "float32"
        expected = (ROWS[side.rows] / np.float32(3)).astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(values.numpy(), expected)


def test_a_split_of_other_clips_is_refused(store: Path) -> None:
    """A split that misses a clip of the store is an error that names one."""
    write_csv(store.with_name("split.csv"), ["clip", "split"], [("no/000", "train")])
    with pytest.raises(PipelineError, match="hold different clips, no/001 and 98 more"):
        _side(store)


@pytest.mark.tensorflow
def test_an_epoch_holds_each_clip_once_with_its_target(store: Path) -> None:
    """All clips of the side come once, with their own row and target, the last batch smaller."""
    side = _side(store)
    epoch = _epoch(batches.batches(side, 16, seed=3))
    assert [len(values) for values, _ in epoch] == [16, 16, 16, 12]
    values = np.concatenate([values for values, _ in epoch])
    targets = np.concatenate([targets for _, targets in epoch])
    assert sorted(values[:, 0, 0]) == side.rows.tolist()
    assert (values == values[:, :1, :1]).all()
    np.testing.assert_array_equal(targets, values[:, 0, 0] >= 40)


@pytest.mark.tensorflow
def test_epochs_are_shuffled_anew_and_the_same_for_the_same_seed(store: Path) -> None:
    """Two epochs differ in order; another reader with the seed repeats both; another seed does not."""

    def two_epochs(seed: int) -> list[list[float]]:
        dataset = batches.batches(_side(store), 16, seed=seed)
        return [np.concatenate([v for v, _ in _epoch(dataset)])[:, 0, 0].tolist() for _ in range(2)]

    first, second = two_epochs(3)
    assert first != second
    assert [first, second] == two_epochs(3)
    assert [first, second] != two_epochs(4)


@pytest.mark.tensorflow
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("seed", [None, 5])
def test_memory_and_store_give_the_same_batches(
    store: Path, tmp_path: Path, dtype: Literal["float32", "float16"], seed: int | None
) -> None:
    """Read at once, streamed, or as fits: the same values in the same order, over two epochs."""
    make_store(tmp_path / "other/mfcc.h5", ROWS, clips=describe(store).clips, dtype=dtype)
    side = batches.side("train", store=tmp_path / "other/mfcc.h5", split=store.with_name("split.csv"))
    found = []
    for cache in ("memory", "none", "auto"):
        dataset = batches.batches(side, 16, seed=seed, cache=cache)
        found.append([np.concatenate([values for values, _ in _epoch(dataset)]) for _ in range(2)])
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.tensorflow
def test_what_does_not_fit_is_streamed(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store fits while its rows take up half of the free memory, and no longer."""
    free = 2 * 100 * 4 * 3 * 4  # twice 100 clips of 4 x 3 float32
    for available, expected in ((free, True), (free - 1, False)):
        monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=available))  # noqa: B023
        assert batches.fits(describe(store)) == expected


@pytest.mark.tensorflow
def test_streaming_lets_go_of_what_it_read(tmp_path: Path) -> None:
    """Of a store of 1.5 GiB, read as a whole, a process keeps no more than about 512 MiB and some batches."""
    clips = [f"a/{number:04}" for number in range(3000)]
    make_store(tmp_path / "mfcc.h5", np.broadcast_to(np.float32(1), (3000, 512, 256)), clips=clips)
    code = """if True:
        import sys
        from pathlib import Path
        from pipeline.learning import batches, runtime
        from pipeline.store.layout import describe
        runtime.start(0)
        side = batches.part(describe(Path(sys.argv[1])), list(range(3000)))
        import psutil
        process, peak, before = psutil.Process(), 0, 0
        for values, _ in batches.batches(side, 32, seed=1):
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
def test_replicas_share_a_batch_without_loss_or_repeat(store: Path) -> None:
    """The parts of two replicas, or of four in two processes, make up each batch, the last too."""
    side = _side(store)
    whole = [values[:, 0, 0] for values, _ in _epoch(batches.batches(side, 16, seed=3))]
    for processes, local in ((2, 1), (1, 2), (2, 2)):
        parts = [
            _epoch(
                batches.batches(
                    side, 16, seed=3, replicas=range(n * local, (n + 1) * local), of=processes * local
                )
            )
            for n in range(processes)
        ]
        for number, batch in enumerate(whole):
            of_batch = [part[number * local + each][0][:, 0, 0] for part in parts for each in range(local)]
            assert max(map(len, of_batch)) - min(map(len, of_batch)) <= 1
            assert sorted(np.concatenate(of_batch)) == sorted(batch)


@pytest.mark.tensorflow
def test_no_replica_is_without_a_clip(store: Path) -> None:
    """A last batch of fewer clips than replicas takes some from the batch before; each clip is given once."""
    side = _side(store)
    size = len(side.rows) - 1
    parts = [_epoch(batches.batches(side, size, replicas=range(n, n + 1), of=3)) for n in range(3)]
    assert [[len(values) for values, _ in part] for part in parts] == [[size // 3, 1]] * 3
    given = np.concatenate([values[:, 0, 0] for part in parts for values, _ in part])
    assert sorted(given) == sorted(side.rows)


@pytest.mark.tensorflow
def test_without_a_seed_the_order_is_the_stores(store: Path) -> None:
    """For validation and test, clips come in the order of the store."""
    side = _side(store, "test")
    values = np.concatenate([values for values, _ in _epoch(batches.batches(side, 7))])
    assert values[:, 0, 0].tolist() == side.rows.tolist()
    assert batches.batches(side, 7).element_spec[0].shape.as_list() == [None, 4, 3]
