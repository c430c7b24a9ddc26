"""`python -m pipeline.store describe FILE` and `validate FILE`: what a store holds, whether it is sound."""

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import params
from pipeline.corpus import clips
from pipeline.errors import PipelineError, run
from pipeline.store.layout import Store, describe, differences, digests
from pipeline.store.reader import rows

BYTES_AT_A_TIME = 64 << 20


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
    store = describe(args.file)
    if args.command == "describe":
        summary = summarise(store)
        print(json.dumps(summary, indent=2) if args.json else _as_text(summary))
        return
    found = faults(store, [clip.clip for clip in clips.read(args.clips)], params.load())
    if args.json:
        print(json.dumps({"path": str(store.path), "clips": len(store.clips), "faults": found}, indent=2))
    elif not found:
        print(f"{store.path}: {len(store.clips):,} clips: layout, ids, parameters, checksums and values hold")
    if found:
        raise PipelineError("\n".join(found))


def summarise(store: Store) -> dict[str, Any]:
    """Return shape, dtype, bytes, parameters, value ranges and the number of clips of each label.

    The ranges are over all values: smallest, largest, mean and standard deviation.
    """
    low, high, total, squares = np.inf, -np.inf, 0.0, 0.0
    for _, values in _blocks(store):
        wide = values.astype(np.float64)
        low, high = min(low, float(wide.min())), max(high, float(wide.max()))
        total, squares = total + float(wide.sum()), squares + float(np.square(wide).sum())
    number = int(np.prod(store.shape))
    mean = total / number
    return {
        "path": str(store.path),
        "shape": list(store.shape),
        "dtype": store.dtype.name,
        "bytes": store.path.stat().st_size,
        "params": store.params,
        "values": {
            "min": low,
            "max": high,
            "mean": mean,
            "std": float(np.sqrt(max(squares / number - mean**2, 0))),
        },
        "labels": dict(sorted(Counter(clip.partition("/")[0] for clip in store.clips).items())),
    }


def faults(store: Store, ids: list[str], content: dict[str, Any]) -> list[str]:
    """Return a line for each thing that is wrong with `store`.

    Args:
        store: the store.
        ids: of the clips that it must hold, in this order.
        content: of params.yaml: what it must have been made with.
    """
    again = "delete it and run dvc repro, or dvc checkout"
    found = differences(store, content)
    for name, length in {
        "clip": len(store.clips),
        "checksum": len(store.checksums),
        "source": len(store.sources),
    }.items():
        if length != store.shape[0]:
            found.append(f"{store.path}: {name} has {length} entries, values {store.shape[0]} rows: {again}")
    end = store.offset + int(np.prod(store.shape)) * store.dtype.itemsize
    if store.path.stat().st_size < end:
        found.append(f"{store.path}: is cut short at byte {store.path.stat().st_size} of {end}: {again}")
    if store.clips != ids:
        odd = next((pair for pair in zip(store.clips, ids, strict=False) if pair[0] != pair[1]), ("", ""))
        found.append(
            f"{store.path}: its {len(store.clips)} ids are not the {len(ids)} of clips.csv, the first is"
            f" {odd[0]!r} for {odd[1]!r}: run dvc repro"
        )
    if sorted({clip.partition("/")[0] for clip in store.clips}) != store.labels:
        found.append(f"{store.path}: the labels are not those of its ids: {again}")
    return found or list(_faults_in_values(store))


def _faults_in_values(store: Store) -> Iterator[str]:
    for start, values in _blocks(store):
        for row in np.flatnonzero(digests(values) != store.checksums[start : start + len(values)]):
            yield (
                f"{store.path}: row {start + row}, {store.clips[start + row]}, has another checksum than when"
                " it was written: delete the file and run dvc repro, or dvc checkout"
            )
        for row in np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1)):
            yield f"{store.path}: row {start + row}, {store.clips[start + row]}, has infinite values or NaN"


def _blocks(store: Store) -> Iterator[tuple[int, Any]]:
    values = rows(store)
    length = max(1, BYTES_AT_A_TIME // values[:1].nbytes)
    for start in range(0, len(values), length):
        yield start, values[start : start + length]


def _as_text(summary: dict[str, Any]) -> str:
    labels = "\n".join(f"    {label:<20} {count:>7,}" for label, count in summary["labels"].items())
    made = json.dumps(summary["params"], indent=2).replace("\n", "\n    ")
    ranges = "  ".join(f"{name} {value:.6g}" for name, value in summary["values"].items())
    shape = " x ".join(f"{length:,}" for length in summary["shape"])
    return (
        f"{summary['path']}: {shape} {summary['dtype']}, {summary['bytes']:,} bytes\n"
        f"  values: {ranges}\n  made with: {made}\n  clips of each label:\n{labels}"
    )


if __name__ == "__main__":
    run(main)
