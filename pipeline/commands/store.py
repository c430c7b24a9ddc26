"""`python -m pipeline.store describe FILE` and `validate FILE`: what a store holds, whether it is sound."""

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import repeat, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import params
from pipeline.corpus import clips
from pipeline.errors import PipelineError, run
from pipeline.store.layout import Store, describe, differences, digests
from pipeline.store.reader import rows

BYTES_AT_A_TIME = 64 << 20
AGAIN = "delete it and run dvc repro, or dvc checkout"


def main() -> None:
    """Describe or validate a store, as text or as JSON; end with status 1 where it is not sound."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.store", description=__doc__)
    parser.add_argument("command", choices=["describe", "validate"])
    parser.add_argument("file", type=Path, help="a store, such as data/features/stft.h5")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--clips", type=Path, default=Path("data/clips.csv"), help="whose ids the store must have"
    )
    args = parser.parse_args()
    if args.command == "describe":
        summary = summarise(describe(args.file))
        print(json.dumps(summary, indent=2) if args.json else _as_text(summary))
        return
    found = validate(args.file, args.clips)
    if args.json:
        print(json.dumps({"path": str(args.file), "faults": found}, indent=2))
    elif not found:
        print(f"{args.file}: layout, ids, parameters, checksums and values hold")
    if found:
        raise PipelineError("\n".join(found))


def validate(path: Path, table: Path) -> list[str]:
    """Return a line for each thing that is wrong with the store at `path`.

    The clips must be those of clips.csv, at `table`, and the parameters those of params.yaml. Each row must
    have been computed from what is there now, beside clips.csv: a feature's from waveforms.h5, a waveform
    from its file in raw. What is not there is not compared.
    """
    try:
        store, content = describe(path), params.load()
        found = differences(store, content, _expected(store, content))
        found += _faults_in_ids(store, [clip.clip for clip in clips.read(table)])
        if not found:
            found += _faults_in_sources(store, table.parent)
    except PipelineError as error:
        return [str(error)]
    return found or list(_faults_in_values(store))


def _expected(store: Store, content: dict[str, Any]) -> str | None:
    """Return the feature that the file's name promises, if it is one's; else what it holds is not told."""
    name = store.path.stem
    return name if name in content.get("features", {}) else store.feature


def _faults_in_ids(store: Store, ids: list[str]) -> list[str]:
    found = []
    if store.clips != ids:
        pairs = enumerate(zip_longest(store.clips, ids, fillvalue="nothing"))
        row, (has, wanted) = next((row, pair) for row, pair in pairs if pair[0] != pair[1])
        found.append(
            f"{store.path}: its {len(store.clips)} ids are not the {len(ids)} of clips.csv: the first that is"
            f" not, of row {row}, is {has}, not {wanted}: run dvc repro"
        )
    if sorted({clip.partition("/")[0] for clip in store.clips}) != store.labels:
        found.append(f"{store.path}: the labels are not those of its ids: {AGAIN}")
    return found


def _faults_in_sources(store: Store, folder: Path) -> Iterator[str]:
    for row, (source, now, path) in enumerate(zip(store.sources, *_sources(store, folder), strict=True)):
        if source != now:
            yield (
                f"{store.path}: row {row}, {store.clips[row]}, was not computed from what {path} holds now:"
                f" {AGAIN}"
            )


def _sources(store: Store, folder: Path) -> tuple[Iterable[Any], Iterable[Path]]:
    """Return the digests of what each row should come from, and where that is."""
    waveforms, raw = folder / "waveforms.h5", folder / "raw"
    if store.feature and waveforms.exists():
        found = describe(waveforms)
        if found.clips == store.clips:
            return found.checksums, repeat(waveforms, len(store.clips))
        raise PipelineError(f"{store.path} and {waveforms} hold different clips: {AGAIN}")
    if store.feature is None and raw.exists():
        files = [raw / clip for clip in store.clips]
        return (_digest(file) for file in files), files
    return store.sources, repeat(folder, len(store.clips))


def _digest(file: Path) -> Any:
    try:
        return digests([file.read_bytes()])[0]
    except FileNotFoundError:
        raise PipelineError(f"{file} is missing: run dvc repro") from None


def summarise(store: Store) -> dict[str, Any]:
    """Return shape, dtype, bytes, parameters, value ranges and the number of clips of each label.

    The ranges are over all finite values: smallest, largest, mean and standard deviation.
    """
    low, high, total, squares, number = np.inf, -np.inf, 0.0, 0.0, 0
    for _, values in _blocks(store):
        finite = values[np.isfinite(values)].astype(np.float64)
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
            total, squares = total + float(finite.sum()), squares + float(np.square(finite).sum())
        number += finite.size
    mean = total / max(number, 1)
    return {
        "path": str(store.path),
        "shape": list(store.shape),
        "dtype": store.dtype.name,
        "bytes": store.path.stat().st_size,
        "params": store.params,
        "values": {
            "min": low if number else None,
            "max": high if number else None,
            "mean": mean,
            "std": float(np.sqrt(max(squares / max(number, 1) - mean**2, 0))),
            "not_finite": int(np.prod(store.shape)) - number,
        },
        "labels": dict(sorted(Counter(clip.partition("/")[0] for clip in store.clips).items())),
    }


def _faults_in_values(store: Store) -> Iterator[str]:
    for start, values in _blocks(store):
        for row in np.flatnonzero(digests(values) != store.checksums[start : start + len(values)]):
            yield (
                f"{store.path}: row {start + row}, {store.clips[start + row]}, has another checksum than when"
                f" it was written: {AGAIN}"
            )
        for row in np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1)):
            yield (
                f"{store.path}: row {start + row}, {store.clips[start + row]}, has infinite values or NaN:"
                f" {AGAIN}"
            )


def _blocks(store: Store) -> Iterator[tuple[int, Any]]:
    values = rows(store)
    length = max(1, BYTES_AT_A_TIME // values[:1].nbytes)
    for start in range(0, len(values), length):
        yield start, values[start : start + length]


def _as_text(summary: dict[str, Any]) -> str:
    labels = "\n".join(f"    {label:<20} {count:>7,}" for label, count in summary["labels"].items())
    made = json.dumps(summary["params"], indent=2).replace("\n", "\n    ")
    ranges = "  ".join(
        f"{name} {value:.6g}" for name, value in summary["values"].items() if value is not None
    )
    shape = " x ".join(f"{length:,}" for length in summary["shape"])
    return (
        f"{summary['path']}: {shape} {summary['dtype']}, {summary['bytes']:,} bytes\n"
        f"  values: {ranges}\n  made with: {made}\n  clips of each label:\n{labels}"
    )


if __name__ == "__main__":
    run(main)
