"""The store as its users see it: written, described and read."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from ruamel.yaml import YAML

from pipeline.errors import PipelineError
from pipeline.store import layout, reader
from pipeline.store.layout import Rows, describe
from pipeline.store.writer import Known, Work, write
from tests.project import ROOT
from tests.store.make import make_store

PARAMS: dict[str, Any] = {"feature": {"name": "x", "n": 3}, "audio": {"sample_rate": 8000}}
ROWS = np.random.default_rng(0).normal(size=(300, 5, 3)).astype(np.float32)
BACKENDS = ["threading", "loky"]


def _clips(number: int) -> list[str]:
    return sorted(f"lábel{n % 4}/clip {n:05}.wav" for n in range(number))


def _make(path: Path, rows: Rows = ROWS, **more: Any) -> list[Any]:
    return make_store(path, rows, clips=_clips(len(rows)), **{"made": PARAMS, **more})


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


@pytest.mark.parametrize(
    ("dtype", "value", "advice"),
    [("float16", 70000, "choose the dtype float32"), ("float32", np.inf, "lower the clip's volume")],
)
def test_a_value_beyond_the_dtype_is_refused(tmp_path: Path, dtype: str, value: float, advice: str) -> None:
    """A value that the dtype cannot hold is an error that names its clip, and no store is left."""
    rows = ROWS.copy()
    rows[70, 2, 1] = value
    with pytest.raises(
        PipelineError, match=f"{_clips(300)[70]}: write gives values beyond {dtype}: {advice}"
    ):
        _make(tmp_path / "a.h5", rows, dtype=dtype)
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
    _make(tmp_path / "old.h5", made={"feature": {"name": "x", "n": 4}})
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
        ({}, []),
        ({"audio": {"sample_rate": 8000, "max_rejects": 3}}, []),
        ({"audio": {"sample_rate": 1}}, ["was made with audio.sample_rate 8000, params.yaml has 1"]),
        ({"features": {"x": {"n": 4}}}, ["was made with features.x.n 3, params.yaml has 4"]),
        ({"features": {"x": {"n": 3, "m": 1}}}, ["was made with features.x.m none, params.yaml has 1"]),
        ({"features": {"x": {}}}, ["was made with features.x.n 3, params.yaml has none"]),
        ({"features": {"y": {"n": 3}}}, ["and params.yaml must both have features.x"]),
        (
            {"audio": {"sample_rate": 1}, "features": {"x": {"n": 4}}},
            [
                "was made with audio.sample_rate 8000, params.yaml has 1",
                "was made with features.x.n 3, params.yaml has 4",
            ],
        ),
    ],
)
def test_other_parameters_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: dict[str, Any], found: list[str]
) -> None:
    """A store that was made with other parameters than params.yaml has is refused, each of them named."""
    monkeypatch.chdir(tmp_path)
    path = Path("x.h5")
    _make(path)
    with Path("params.yaml").open("w", encoding="utf-8") as file:
        YAML().dump({"audio": {"sample_rate": 8000}, "features": {"x": {"n": 3}}} | content, file)
    if not found:
        assert layout.checked(path, "x").clips == _clips(300)
        return
    with pytest.raises(PipelineError) as error:
        layout.checked(path, "x")
    assert str(error.value).splitlines() == [f"x.h5 {line}: run dvc repro" for line in found]


@pytest.mark.parametrize(("expected", "named"), [("y", "y"), (None, "waveforms")])
def test_a_store_of_something_else_is_refused(tmp_path: Path, expected: str | None, named: str) -> None:
    """A store of another feature, such as a copy under a wrong name, or of none, is not taken for it."""
    _make(tmp_path / "x.h5")
    store = describe(tmp_path / "x.h5")
    assert layout.differences(store, {}, expected) == [
        f"{store.path} must hold {named}, holds x: run dvc repro"
    ]


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    """A missing file, a text file, another HDF5 file and a chunked one are errors that name the file."""
    (tmp_path / "text.h5").write_text("no HDF5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    (tmp_path / "folder.h5").mkdir()
    for name, reason in {
        "none.h5": "is missing: run dvc repro",
        "text.h5": "is not a store",
        "other.h5": "is not a store",
        "folder.h5": "is not a store: it is a folder",
    }.items():
        with pytest.raises(PipelineError, match=f"{name} {reason}"):
            layout.describe(tmp_path / name)


def _replace(file: h5py.File, name: str, data: Any, **more: Any) -> None:
    del file[name]
    file.create_dataset(name, data=data, **more)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda file: _replace(file, "values", ROWS, chunks=True), "values must be contiguous"),
        (lambda file: _replace(file, "values", ROWS.astype(int)), "values must be <f4 or <f2, is <i8"),
        (lambda file: _replace(file, "values", ROWS[:, 0]), "values must have 3 dimensions, has the shape"),
        (lambda file: _replace(file, "values", ROWS[:7]), "clip has 300 entries, values 7 rows"),
        (lambda file: _replace(file, "clip", [b"a/1"]), "clip has 1 entries, values 300 rows"),
        (lambda file: _replace(file, "clip", range(300)), "is not a store"),
        (lambda file: _replace(file, "clip", [b"\xff"] * 300), "is not a store"),
        (lambda file: _replace(file, "checksum", range(300)), "checksum must hold 16 bytes for each row"),
        (lambda file: _replace(file, "source", np.zeros(3, "V16")), "source has 3 entries, values 300 rows"),
        (lambda file: file.__delitem__("source"), "is not a store: .*source"),
        (lambda file: file.attrs.__delitem__("labels"), "is not a store: .*labels"),
        (lambda file: file.attrs.__setitem__("params", "no JSON"), "is not a store"),
        (lambda file: file.attrs.__setitem__("params", "[]"), "is not a store"),
        (lambda file: file.attrs.__setitem__("params", '{"feature": {}}'), "is not a store: name"),
        (lambda file: file.attrs.__setitem__("params", '{"feature": {"name": 1}}'), "name must be text"),
    ],
)
def test_a_store_whose_parts_do_not_fit_is_refused(
    tmp_path: Path, damage: Callable[[h5py.File], None], reason: str
) -> None:
    """Whatever is missing from a store, or is not as it must be, is an error that names file and part."""
    _make(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        damage(file)
    with pytest.raises(PipelineError, match=f"a.h5 is not a store: .*{reason}|a.h5 {reason}"):
        layout.describe(tmp_path / "a.h5")


@pytest.mark.parametrize("bytes_left", [0, 100, 3000, -1])
def test_a_store_that_is_cut_short_is_refused(tmp_path: Path, bytes_left: int) -> None:
    """A store that lacks its end, be it one byte, is no store."""
    _make(tmp_path / "a.h5")
    content = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(content[:bytes_left])
    with pytest.raises(PipelineError, match=r"a\.h5 is not a store"):
        layout.describe(tmp_path / "a.h5")


@pytest.mark.parametrize("backend", BACKENDS)
def test_memory_does_not_grow_with_the_store(tmp_path: Path, backend: str) -> None:
    """Writing 16 times as many rows, 256 MB of them, takes at most 40 MB more memory."""
    code = """if True:
        import psutil, sys
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
        # Processes that joblib keeps are there still.
        peaks = [
            int(line.split()[1])
            for process in [psutil.Process(), *psutil.Process().children(recursive=True)]
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
            if line.startswith("VmHWM")
        ]
        print(len(peaks), sum(peaks) // 1024)
    """
    env = {**os.environ, "PIPELINE_JOBS": "2", "PIPELINE_BACKEND": backend}
    run = partial(subprocess.run, cwd=ROOT, env=env, check=True, capture_output=True, text=True)
    (processes, small), (_, large) = (
        map(int, run([sys.executable, "-c", code, str(tmp_path / "m.h5"), clips]).stdout.split()[-2:])
        for clips in ("4000", "64000")
    )
    assert processes >= (3 if backend == "loky" else 1)
    assert large - small < 40
