"""The store as its users see it: written, described, read and validated."""

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
from pipeline.store import layout, reader, writer
from pipeline.store.layout import Rows
from tests.conftest import ROOT

ROW = (5, 3)
PARAMS: dict[str, Any] = {"feature": {"name": "x", "n": 3}, "audio": {"sample_rate": 8000}}


def _clips(number: int) -> list[str]:
    return sorted(f"lábel{n % 4}/clip {n:05}.wav" for n in range(number))


def _rows(start: int, stop: int) -> tuple[Rows, range]:
    numbers = np.arange(start, stop, dtype=np.float32)[:, None, None]
    return numbers + np.arange(15, dtype=np.float32).reshape(ROW) / np.float32(100), range(start, stop)


def _broken(start: int, stop: int) -> tuple[Rows, range]:
    if start:
        raise PipelineError("broken")
    return _rows(start, stop)


def _write(path: Path, clips: int = 300) -> list[range]:
    return writer.write(path, _rows, clips=_clips(clips), row_shape=ROW, params=PARAMS, verb="write")


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def test_rows_come_back_as_they_were_computed(tmp_path: Path) -> None:
    """Every row lies where its clip does, and what was said of the blocks comes back in order."""
    notes = _write(tmp_path / "a.h5")
    rows = reader.rows(layout.describe(tmp_path / "a.h5"))
    np.testing.assert_array_equal(rows, _rows(0, 300)[0])
    assert [number for note in notes for number in note] == list(range(300))


def test_a_store_describes_itself(tmp_path: Path) -> None:
    """Ids, labels, parameters and shape are in the file."""
    _write(tmp_path / "a.h5")
    store = layout.describe(tmp_path / "a.h5")
    assert store.clips == _clips(300)
    assert store.labels == ["lábel0", "lábel1", "lábel2", "lábel3"]
    assert store.params == PARAMS
    assert store.shape == (300, *ROW)


def test_hdf5_reads_what_the_map_shows(tmp_path: Path) -> None:
    """`values` is one contiguous little-endian float32 dataset without filter, as any HDF5 reader sees."""
    _write(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r") as file:
        values = file["values"]
        assert (values.chunks, values.compression, values.dtype) == (None, None, np.dtype("<f4"))
        np.testing.assert_array_equal(values[:], reader.rows(layout.describe(tmp_path / "a.h5")))


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_the_bytes_do_not_depend_on_the_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    """One, two and four processes write the same file as a single one did."""
    monkeypatch.setenv("PIPELINE_JOBS", "1")
    _write(tmp_path / "one.h5")
    monkeypatch.setenv("PIPELINE_JOBS", str(jobs))
    _write(tmp_path / "more.h5")
    assert _md5(tmp_path / "one.h5") == _md5(tmp_path / "more.h5")


def test_the_bytes_do_not_depend_on_time_and_place(tmp_path: Path) -> None:
    """Another process in another folder, a second later by the clock, writes the same bytes."""
    _write(tmp_path / "a.h5")
    code = (
        "import time; time.sleep(1.1)\nfrom pathlib import Path\nfrom tests.store.test_store import _write\n"
        f"_write(Path({str(tmp_path / 'elsewhere' / 'b.h5')!r}))"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TZ": "Asia/Tokyo"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, check=True)
    assert _md5(tmp_path / "a.h5") == _md5(tmp_path / "elsewhere" / "b.h5")


def test_reading_leaves_the_file_as_it_is(tmp_path: Path) -> None:
    """Rows are read-only: a store linked into a cache can't be written through."""
    _write(tmp_path / "a.h5")
    rows = reader.rows(layout.describe(tmp_path / "a.h5"))
    with pytest.raises(ValueError, match="read-only"):
        rows[0] = 0


def test_a_flipped_bit_is_found_and_named(tmp_path: Path) -> None:
    """One flipped bit in one row fails validation, which names the block of rows; a good store passes."""
    path = tmp_path / "a.h5"
    _write(path)
    store = layout.describe(path)
    reader.validate(store)
    content = bytearray(path.read_bytes())
    content[store.offset + 200 * 15 * 4] ^= 1
    path.write_bytes(content)
    with pytest.raises(PipelineError, match=r"a\.h5: rows 192 to 255 .*CRC-32"):
        reader.validate(store)


def test_a_failed_write_leaves_the_old_store(tmp_path: Path) -> None:
    """Where a row cannot be computed, the old file stands and nothing lies beside it."""
    path = tmp_path / "a.h5"
    _write(path)
    before = _md5(path)
    with pytest.raises(PipelineError, match="broken"):
        writer.write(path, _broken, clips=_clips(300), row_shape=ROW, params=PARAMS, verb="write")
    assert _md5(path) == before
    assert list(tmp_path.iterdir()) == [path]


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


@pytest.mark.parametrize(("rows", "block"), [(1, 64), (500_000, 64), (1_000_000, 123), (100_000_000, 12208)])
def test_checksums_fit_an_attribute(rows: int, block: int) -> None:
    """However many rows there are, their checksums stay below the 64 KiB that HDF5 allows."""
    assert layout.rows_per_block(rows) == block
    assert -(-rows // block) * 4 <= 32768


def test_memory_does_not_grow_with_the_store(tmp_path: Path) -> None:
    """Writing 16 times as many rows, 256 MB of them, takes at most 40 MB more memory."""
    code = """if True:
        import resource, sys
        from pathlib import Path
        import numpy as np
        from pipeline.store import writer
        def rows(start, stop):
            return np.ones((stop - start, 1000), np.float32), None
        clips = [f"x/{n:06}" for n in range(int(sys.argv[2]))]
        writer.write(Path(sys.argv[1]), rows, clips=clips, row_shape=(1000,), params={}, verb="write")
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    """
    env = {**os.environ, "PIPELINE_JOBS": "1"}
    run = partial(subprocess.run, cwd=ROOT, env=env, check=True, capture_output=True, text=True)
    small, large = (
        int(run([sys.executable, "-c", code, str(tmp_path / "m.h5"), clips]).stdout.split()[-1])
        for clips in ("4000", "64000")
    )
    assert large - small < 40
