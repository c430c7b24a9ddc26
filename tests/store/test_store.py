"""Writing, describing and reading a store, through the functions that other modules call."""

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
from pipeline.store import current, layout, reader
from pipeline.store.layout import Rows, describe
from pipeline.store.writer import Contents, Verdict, Work, write
from tests.project import ROOT
from tests.store.make import change_row, make_store

PARAMS: dict[str, Any] = {"feature": {"name": "x", "params": {"n": 3}}, "audio": {"sample_rate": 8000}}
ROWS = np.random.default_rng(0).normal(size=(300, 5, 3)).astype(np.float32)
BACKENDS = ["threading", "loky"]


def _clips(number: int) -> list[str]:
    return sorted(f"lábel{n % 4}/clip {n:05}.wav" for n in range(number))


def _make(path: Path, rows: Rows = ROWS, **more: Any) -> list[Any]:
    return make_store(path, rows, clips=_clips(len(rows)), **{"params": PARAMS, **more})


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def test_rows_come_back_as_they_were_computed(tmp_path: Path) -> None:
    """Rows and verdicts are in the order of the clips."""
    verdicts = _make(tmp_path / "a.h5")
    np.testing.assert_array_equal(reader.rows(describe(tmp_path / "a.h5")), ROWS)
    np.testing.assert_array_equal([verdict.note for verdict in verdicts], ROWS)


def test_a_rejected_clip_leaves_no_trace(tmp_path: Path) -> None:
    """The file is the same as if the rejected clips did not exist, wherever they are in the order."""
    rows = ROWS.copy()
    rejected = [0, 1, 63, 64, 150, 299]
    rows[rejected] = np.nan
    verdicts = _make(tmp_path / "a.h5", rows)
    assert [row for row, verdict in enumerate(verdicts) if verdict.rejected] == rejected
    good = [row for row in range(300) if row not in rejected]
    clips = [_clips(300)[row] for row in good]
    make_store(tmp_path / "good.h5", ROWS[good], clips=clips, params=PARAMS)
    assert _md5(tmp_path / "a.h5") == _md5(tmp_path / "good.h5")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "good.h5"]


def test_nothing_is_written_if_the_check_fails(tmp_path: Path) -> None:
    """`check` gets all verdicts before the store appears. If it raises, no store appears."""

    def refuse(verdicts: list[Verdict[None]]) -> None:
        raise PipelineError(f"{len(verdicts)} verdicts")

    work: Work[int, Rows, None] = Work("write", range(300), lambda n: ROWS[list(n)], _accept)
    with pytest.raises(PipelineError, match="300 verdicts"):
        write(tmp_path / "a.h5", Contents(_clips(300), (5, 3), "float32", PARAMS), work, check=refuse)
    assert list(tmp_path.iterdir()) == []


def test_a_store_without_clips_is_not_written(tmp_path: Path) -> None:
    """If all clips are rejected, the message gives the first reason, unless `check` raises before."""
    rows = np.full((70, 5, 3), np.nan, np.float32)
    with pytest.raises(
        PipelineError, match=rf"write rejected all 70 clips.*The first is {_clips(70)[0]}: not a number"
    ):
        _make(tmp_path / "a.h5", rows)
    assert list(tmp_path.iterdir()) == []


def _accept(items: Rows) -> tuple[Rows, list[Verdict[None]]]:
    return items, [Verdict()] * len(items)


def test_a_store_describes_itself(tmp_path: Path) -> None:
    """The file contains ids, parameters, and the digests of rows and sources."""
    _make(tmp_path / "a.h5")
    store = describe(tmp_path / "a.h5")
    assert store.clips == _clips(300)
    assert store.params == PARAMS
    assert store.shape == ROWS.shape
    assert store.dtype.name == "float32"
    assert store.checksums.tolist() == store.sources.tolist() == layout.digests(ROWS).tolist()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_hdf5_reads_the_same_rows(tmp_path: Path, dtype: str) -> None:
    """`values` is contiguous, little-endian and without a filter, and h5py reads the same rows from it."""
    _make(tmp_path / "a.h5", dtype=dtype)
    with h5py.File(tmp_path / "a.h5", "r") as file:
        values = file["values"]
        expected = (None, None, np.dtype(dtype).newbyteorder("<"))
        assert (values.chunks, values.compression, values.dtype) == expected
        np.testing.assert_array_equal(values[:], ROWS.astype(dtype))
        np.testing.assert_array_equal(values[:], reader.rows(describe(tmp_path / "a.h5")))


@pytest.mark.parametrize(
    ("dtype", "value", "advice"),
    [
        ("float16", 70000, "set the feature's dtype to float32"),
        ("float32", np.inf, "lower the clip's volume"),
    ],
)
def test_a_value_that_is_not_finite_is_refused(tmp_path: Path, dtype: str, value: float, advice: str) -> None:
    """A value that is not finite in the store's dtype is an error that names the clip."""
    rows = ROWS.copy()
    rows[70, 2, 1] = value
    with pytest.raises(
        PipelineError,
        match=f"{_clips(300)[70]}: write computed a value that is not finite in {dtype}: {advice}",
    ):
        _make(tmp_path / "a.h5", rows, dtype=dtype)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("jobs", ["1", "2", "4"])
def test_the_bytes_do_not_depend_on_the_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, jobs: str
) -> None:
    """One, two and four threads or processes write the same file."""
    monkeypatch.setenv("PIPELINE_JOBS", "1")
    _make(tmp_path / "one.h5")
    monkeypatch.setenv("PIPELINE_JOBS", jobs)
    monkeypatch.setenv("PIPELINE_BACKEND", backend)
    _make(tmp_path / "many.h5")
    assert _md5(tmp_path / "one.h5") == _md5(tmp_path / "many.h5")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """If computing fails halfway, the old file is unchanged, and there is no other file in its folder."""
    path = tmp_path / "a.h5"
    _make(path)
    before = _md5(path)
    rows = np.full((300, 2), 1.0, np.float32)
    rows[200] = 1e9
    with pytest.raises(PipelineError, match="not finite in float16"):
        _make(path, rows, dtype="float16")
    assert _md5(path) == before
    assert list(tmp_path.iterdir()) == [path]


# --------------------------------------------------------------------------------------------- reused rows


def _refuse(items: Rows) -> tuple[Rows, list[Verdict[None]]]:
    raise AssertionError(f"{len(items)} rows were computed although the previous store has them")


def test_rows_of_the_previous_store_are_copied(tmp_path: Path) -> None:
    """With new rows among old ones in another order, the file is the same as without a previous store."""
    _make(tmp_path / "old.h5")
    order = np.random.default_rng(1).permutation(300)[:250]
    rows = np.concatenate([ROWS[order[:100]], ROWS[:7] + 9, ROWS[order[100:]]])
    verdicts = _make(tmp_path / "new.h5", rows, previous=describe(tmp_path / "old.h5"))
    reused = [verdict.reused for verdict in verdicts]
    assert reused == [*order[:100], *[None] * 7, *order[100:]]
    np.testing.assert_array_equal([verdict.note for verdict in verdicts[100:107]], rows[100:107])
    _make(tmp_path / "nothing.h5", rows)
    assert _md5(tmp_path / "new.h5") == _md5(tmp_path / "nothing.h5")


def test_nothing_is_computed_if_the_previous_store_has_every_row(tmp_path: Path) -> None:
    """If no source has changed, `compute` is not called."""
    _make(tmp_path / "a.h5")
    work: Work[int, Rows, None] = Work("copy", range(300), lambda n: ROWS[list(n)], _refuse)
    contents = Contents(_clips(300), (5, 3), "float32", PARAMS)
    write(tmp_path / "b.h5", contents, work, previous=describe(tmp_path / "a.h5"))
    assert _md5(tmp_path / "a.h5") == _md5(tmp_path / "b.h5")


def test_rows_of_other_parameters_are_not_copied(tmp_path: Path) -> None:
    """If the previous store has other parameters, every row is computed."""
    _make(tmp_path / "old.h5", params={"feature": {"name": "x", "params": {"n": 4}}})
    verdicts = _make(tmp_path / "new.h5", previous=describe(tmp_path / "old.h5"))
    assert {verdict.reused for verdict in verdicts} == {None}


def test_a_damaged_row_is_computed_again(tmp_path: Path) -> None:
    """A flipped bit in the previous store does not reach the new one."""
    _make(tmp_path / "old.h5")
    old = describe(tmp_path / "old.h5")
    change_row(old.path, 130)
    verdicts = _make(tmp_path / "new.h5", previous=old)
    assert verdicts[130].reused is None
    assert verdicts[0].reused == 0
    _make(tmp_path / "nothing.h5")
    assert _md5(tmp_path / "new.h5") == _md5(tmp_path / "nothing.h5")


def test_an_item_that_differs_from_its_digest_is_refused(tmp_path: Path) -> None:
    """An item that does not have the expected digest is an error that names the clip."""
    sources = layout.digests(ROWS).copy()
    sources[77] = sources[78]
    with pytest.raises(PipelineError, match=rf"{_clips(300)[77]}: the input of write does not match"):
        _make(tmp_path / "a.h5", sources=sources)


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
            {"audio": {"sample_rate": 8000, "duration": 1.0}},
            ["was made with audio.duration none, params.yaml has 1.0"],
        ),
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
    """If params.yaml has other parameters than a store, the store is refused, and each of them is named."""
    monkeypatch.chdir(tmp_path)
    path = Path("x.h5")
    _make(path)
    with Path("params.yaml").open("w", encoding="utf-8") as file:
        YAML().dump({"audio": {"sample_rate": 8000}, "features": {"x": {"n": 3}}} | content, file)
    if not found:
        assert current.open_current(path, "x").clips == _clips(300)
        return
    with pytest.raises(PipelineError) as error:
        current.open_current(path, "x")
    assert str(error.value).splitlines() == [f"x.h5 {line}: run dvc repro" for line in found]


def test_a_feature_that_is_not_in_params_yaml_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A misspelt feature, which has no store, is reported with those that there are."""
    monkeypatch.chdir(tmp_path)
    with Path("params.yaml").open("w", encoding="utf-8") as file:
        YAML().dump({"features": {"stft": {}, "mfcc": {}}}, file)
    with pytest.raises(PipelineError, match=r"features\.mfc is missing; expected one of stft, mfcc$"):
        current.open_current(Path("mfc.h5"), "mfc")
    with pytest.raises(PipelineError, match=r"mfcc\.h5 is missing: run dvc repro"):
        current.open_current(Path("mfcc.h5"), "mfcc")


@pytest.mark.parametrize(("expected", "named"), [("y", "y"), (None, "waveforms")])
def test_a_store_of_something_else_is_refused(tmp_path: Path, expected: str | None, named: str) -> None:
    """A store of another feature, such as a copy under a wrong name, or of waveforms is refused."""
    _make(tmp_path / "x.h5")
    store = describe(tmp_path / "x.h5")
    assert current.differences(store, {}, expected) == [
        f"{store.path} must contain {named}, contains x: run dvc repro"
    ]


def test_other_files_are_refused(tmp_path: Path) -> None:
    """A missing file, a text file, another HDF5 file and a folder are errors that name the path."""
    (tmp_path / "text.h5").write_text("no HDF5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    (tmp_path / "folder.h5").mkdir()
    for name, reason in {
        "none.h5": "is missing: run dvc repro",
        "text.h5": "is not a store: it is damaged, or no HDF5 file: run dvc repro",
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
        (lambda file: _replace(file, "checksum", range(300)), "checksum must have 16 bytes for each row"),
        (lambda file: _replace(file, "source", np.zeros(3, "V16")), "source has 3 entries, values 300 rows"),
        (lambda file: file.__delitem__("source"), "is not a store: .*source"),
        (lambda file: file.attrs.__setitem__("params", "no JSON"), "is not a store"),
        (lambda file: file.attrs.__setitem__("params", "[]"), "is not a store"),
        (
            lambda file: file.attrs.__setitem__("params", '{"feature": {}}'),
            "params: feature.name is missing",
        ),
        (
            lambda file: file.attrs.__setitem__("params", '{"feature": {"name": 1}}'),
            "params: feature.name: expected a valid string, found 1",
        ),
        (lambda file: file.__delitem__("clip"), "is not a store: .*clip"),
        (lambda file: file.__delitem__("values"), "is not a store: it has no values"),
        (lambda file: file.move("values", "group/values"), "is not a store: it has no values"),
    ],
)
def test_a_store_whose_parts_do_not_fit_is_refused(
    tmp_path: Path, damage: Callable[[h5py.File], None], reason: str
) -> None:
    """If a part of a store is missing or malformed, the message names the file and the part."""
    _make(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        damage(file)
    with pytest.raises(PipelineError, match=f"a.h5 is not a store: .*{reason}|a.h5 {reason}"):
        layout.describe(tmp_path / "a.h5")


@pytest.mark.parametrize("bytes_left", [0, 100, 3000, -1])
def test_a_store_that_is_cut_short_is_refused(tmp_path: Path, bytes_left: int) -> None:
    """A file that lacks its end, even if only one byte, is not a store."""
    _make(tmp_path / "a.h5")
    content = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(content[:bytes_left])
    with pytest.raises(PipelineError, match=r"a\.h5 is not a store"):
        layout.describe(tmp_path / "a.h5")


def test_a_bug_is_not_reported_as_a_broken_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception in the project's own code passes through unchanged."""
    _make(tmp_path / "a.h5")
    monkeypatch.setattr(layout, "Store", lambda *_: {"": 0}["bug"])
    with pytest.raises(KeyError, match="bug"):
        layout.describe(tmp_path / "a.h5")


@pytest.mark.parametrize("backend", BACKENDS)
def test_memory_does_not_grow_with_the_store(tmp_path: Path, backend: str) -> None:
    """Writing 256 MB of rows takes at most 40 MB more memory than writing 16 MB."""
    code = """if True:
        import psutil, sys
        from pathlib import Path
        import numpy as np
        from pipeline.store.writer import Contents, Verdict, Work, write
        def load(numbers):
            return np.ones((len(numbers), 1000), np.float32)
        def compute(items):
            return items, [Verdict()] * len(items)
        clips = [f"x/{n:06}" for n in range(int(sys.argv[2]))]
        contents = Contents(clips, (1000,), "float32", {})
        write(Path(sys.argv[1]), contents, Work("write", range(len(clips)), load, compute))
        # joblib's processes still exist.
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
    # In a short run one worker may start too late to get a task, so the smaller one runs twice.
    (processes, first), (_, second), (_, large) = (
        map(int, run([sys.executable, "-c", code, str(tmp_path / "m.h5"), clips]).stdout.split()[-2:])
        for clips in ("4000", "4000", "64000")
    )
    small = max(first, second)
    assert processes >= (3 if backend == "loky" else 1)
    assert large - small < 40
