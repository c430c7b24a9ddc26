"""The store as its users see it: written, described and read."""

import hashlib
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.store import layout, reader
from pipeline.store.layout import Rows, describe
from pipeline.store.writer import Known, Work, write
from tests.conftest import ROOT
from tests.store.make import make_store

PARAMS: dict[str, Any] = {"feature": {"name": "x", "n": 3}, "audio": {"sample_rate": 8000}}
ROWS = np.random.default_rng(0).normal(size=(300, 5, 3)).astype(np.float32)
BACKENDS = ["threading", "loky"]


def _clips(number: int) -> list[str]:
    return sorted(f"lábel{n % 4}/clip {n:05}.wav" for n in range(number))


def _make(path: Path, rows: Rows = ROWS, **more: Any) -> list[Any]:
    return make_store(path, rows, clips=_clips(len(rows)), **{"params": PARAMS, **more})


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def test_rows_come_back_as_they_were_computed(tmp_path: Path) -> None:
    """Every row lies where its clip does, and what was said of the rows comes back in their order."""
    notes = _make(tmp_path / "a.h5")
    np.testing.assert_array_equal(reader.rows(describe(tmp_path / "a.h5")), ROWS)
    np.testing.assert_array_equal(notes, ROWS)


def test_a_store_describes_itself(tmp_path: Path) -> None:
    """Ids, labels, parameters, shape and digests of rows and sources are in the file."""
    _make(tmp_path / "a.h5")
    store = describe(tmp_path / "a.h5")
    assert store.clips == _clips(300)
    assert store.labels == ["lábel0", "lábel1", "lábel2", "lábel3"]
    assert store.params == PARAMS
    assert store.shape == ROWS.shape
    assert store.dtype.name == "float32"
    assert store.checksums.tolist() == store.sources.tolist() == layout.digests(ROWS).tolist()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_hdf5_reads_what_the_map_shows(tmp_path: Path, dtype: str) -> None:
    """`values` is one contiguous little-endian dataset without filter, as any HDF5 reader sees."""
    _make(tmp_path / "a.h5", dtype=dtype)
    with h5py.File(tmp_path / "a.h5", "r") as file:
        values = file["values"]
        expected = (None, None, np.dtype(dtype).newbyteorder("<"))
        assert (values.chunks, values.compression, values.dtype) == expected
        np.testing.assert_array_equal(values[:], ROWS.astype(dtype))
        np.testing.assert_array_equal(values[:], reader.rows(describe(tmp_path / "a.h5")))


def test_a_value_beyond_float16_is_refused(tmp_path: Path) -> None:
    """A value that float16 cannot hold is an error that says it, and no store is left."""
    with pytest.raises(PipelineError, match="70000 is beyond float16: choose dtype float32"):
        _make(tmp_path / "a.h5", np.full((3, 2), 70000, np.float32), dtype="float16")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("jobs", ["1", "2", "4"])
def test_the_bytes_do_not_depend_on_who_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, jobs: str
) -> None:
    """One, two and four threads or processes write the same file as a single one did."""
    monkeypatch.setenv("PIPELINE_JOBS", "1")
    _make(tmp_path / "one.h5")
    monkeypatch.setenv("PIPELINE_JOBS", jobs)
    monkeypatch.setenv("PIPELINE_BACKEND", backend)
    _make(tmp_path / "many.h5")
    assert _md5(tmp_path / "one.h5") == _md5(tmp_path / "many.h5")


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    """Where computing fails half-way, the old file stands and nothing lies beside it."""
    path = tmp_path / "a.h5"
    _make(path)
    before = _md5(path)
    rows = np.full((300, 2), 1.0, np.float32)
    rows[200] = 1e9
    with pytest.raises(PipelineError, match="beyond float16"):
        _make(path, rows, dtype="float16")
    assert _md5(path) == before
    assert list(tmp_path.iterdir()) == [path]


# ------------------------------------------------------------------------------------------ known rows


def _refuse(items: Rows) -> tuple[Rows, list[None]]:
    raise AssertionError(f"{len(items)} rows were computed that were known")


def test_what_is_known_is_copied(tmp_path: Path) -> None:
    """New rows among known ones, in another order, give the bytes of a run from nothing."""
    _make(tmp_path / "old.h5")
    order = np.random.default_rng(1).permutation(300)[:250]
    rows = np.concatenate([ROWS[order[:100]], ROWS[:7] + 9, ROWS[order[100:]]])
    expected = [Known(row) for row in order]
    notes = _make(tmp_path / "new.h5", rows, known=describe(tmp_path / "old.h5"))
    assert notes[:100] == expected[:100]
    assert notes[107:] == expected[100:]
    np.testing.assert_array_equal(notes[100:107], rows[100:107])
    _make(tmp_path / "nothing.h5", rows)
    assert _md5(tmp_path / "new.h5") == _md5(tmp_path / "nothing.h5")


def test_nothing_is_computed_where_all_is_known(tmp_path: Path) -> None:
    """The same rows again call compute for none of them."""
    _make(tmp_path / "a.h5")
    work: Work[int, Rows, None] = Work(lambda numbers: ROWS[list(numbers)], _refuse)
    known = describe(tmp_path / "a.h5")
    more: dict[str, Any] = {"clips": _clips(300), "row_shape": (5, 3), "dtype": "float32", "verb": "copy"}
    write(tmp_path / "b.h5", work, range(300), params=PARAMS, known=known, **more)
    assert _md5(tmp_path / "a.h5") == _md5(tmp_path / "b.h5")


def test_rows_of_other_parameters_are_not_known(tmp_path: Path) -> None:
    """A store made with other parameters is not copied from."""
    _make(tmp_path / "old.h5", params={})
    notes = _make(tmp_path / "new.h5", known=describe(tmp_path / "old.h5"))
    assert not any(isinstance(note, Known) for note in notes)


def test_a_known_row_that_was_damaged_is_computed_anew(tmp_path: Path) -> None:
    """A flipped bit in the store that is copied from does not reach the new one."""
    _make(tmp_path / "old.h5")
    old = describe(tmp_path / "old.h5")
    _flip(old, 130)
    notes = _make(tmp_path / "new.h5", known=old)
    assert not isinstance(notes[130], Known)
    assert notes[0] == Known(0)
    _make(tmp_path / "nothing.h5")
    assert _md5(tmp_path / "new.h5") == _md5(tmp_path / "nothing.h5")


def test_a_source_that_is_not_as_it_was_written_is_refused(tmp_path: Path) -> None:
    """Where the sources' digests are known, loading something else is an error that names the clip."""
    sources = layout.digests(ROWS).copy()
    sources[77] = sources[78]
    with pytest.raises(PipelineError, match=rf"{_clips(300)[77]}: what was read for it is not what was"):
        _make(tmp_path / "a.h5", sources=sources)


def _flip(store: layout.Store, row: int) -> None:
    with store.path.open("r+b") as file:
        place = store.offset + row * int(np.prod(store.shape[1:])) * 4
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))


# ------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"audio": {"sample_rate": 8000}, "features": {"x": {"n": 3}}}, []),
        ({"audio": {"sample_rate": 8000}}, []),
        ({"audio": {"sample_rate": 1}}, ["audio.sample_rate 8000, params.yaml has 1"]),
        ({"features": {"x": {"n": 4}}}, ["features.x.n 3, params.yaml has 4"]),
    ],
)
def test_other_parameters_are_named(tmp_path: Path, content: dict[str, Any], found: list[str]) -> None:
    """A store that was made with other parameters than params.yaml has is refused, each of them named."""
    _make(tmp_path / "a.h5")
    store = describe(tmp_path / "a.h5")
    expected = [f"{store.path} was made with {line}: run dvc repro" for line in found]
    assert layout.differences(store, content) == expected
    if found:
        with pytest.raises(PipelineError, match="was made with"):
            layout.check(store, content)


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    """A missing file, a text file, another HDF5 file and a chunked one are errors that name the file."""
    (tmp_path / "text.h5").write_text("no HDF5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with h5py.File(tmp_path / "chunked.h5", "w") as file:
        file.create_dataset("values", data=np.zeros((4, 2), np.float32), chunks=(1, 2))
    for name, reason in {
        "none.h5": "is missing: run dvc repro",
        "text.h5": "is not a store",
        "other.h5": "is not a store",
        "chunked.h5": "values must be contiguous <f4",
    }.items():
        with pytest.raises(PipelineError, match=f"{name}:? .*{reason}|{name} {reason}"):
            layout.describe(tmp_path / name)


@pytest.mark.parametrize("backend", BACKENDS)
def test_memory_does_not_grow_with_the_store(tmp_path: Path, backend: str) -> None:
    """Writing 16 times as many rows, 256 MB of them, takes at most 40 MB more memory."""
    code = """if True:
        import resource, sys
        from pathlib import Path
        import numpy as np
        from pipeline.store.writer import Work, write
        def load(numbers):
            return np.ones((len(numbers), 1000), np.float32)
        def compute(items):
            return items, [None] * len(items)
        clips = [f"x/{n:06}" for n in range(int(sys.argv[2]))]
        write(Path(sys.argv[1]), Work(load, compute), range(len(clips)), clips=clips, row_shape=(1000,),
              dtype="float32", params={}, verb="write")
        print(max(resource.getrusage(who).ru_maxrss for who in (0, -1)) // 1024)
    """
    env = {**os.environ, "PIPELINE_JOBS": "2", "PIPELINE_BACKEND": backend}
    run = partial(subprocess.run, cwd=ROOT, env=env, check=True, capture_output=True, text=True)
    small, large = (
        int(run([sys.executable, "-c", code, str(tmp_path / "m.h5"), clips]).stdout.split()[-1])
        for clips in ("4000", "64000")
    )
    assert large - small < 40
