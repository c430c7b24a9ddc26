"""`python -m pipeline store`: describe what a store contains, or validate that it is intact."""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import params
from pipeline.commands import parser
from pipeline.corpus import clips, recordings
from pipeline.corpus.audio import Audio
from pipeline.errors import PipelineError
from pipeline.records import again
from pipeline.store.current import differences
from pipeline.store.layout import Store, describe, digests
from pipeline.store.reader import rows

BYTES_AT_A_TIME = 64 << 20


def main(arguments: Sequence[str]) -> None:
    """Describe or validate a store, as text or as JSON. Raises PipelineError if it is damaged."""
    options = parser("store")
    options.add_argument("command", choices=["describe", "validate"])
    options.add_argument("file", type=Path, help="a store, such as data/features/stft.h5")
    options.add_argument("--json", action="store_true", help="print JSON")
    options.add_argument(
        "--clips", type=Path, default=Path("data/clips.csv"), help="the table whose clips the store must have"
    )
    args = options.parse_args(arguments)
    if args.command == "describe":
        summary = summarise(describe(args.file))
        print(json.dumps(summary, indent=2) if args.json else _as_text(summary))
        return
    problems = validate(args.file, args.clips)
    if args.json:
        print(json.dumps({"path": str(args.file), "problems": problems}, indent=2))
    elif not problems:
        print(f"{args.file}: layout, ids, parameters, checksums and values are correct")
    if problems:
        raise PipelineError("\n".join(problems))


def validate(path: Path, table: Path) -> list[str]:
    """Return one message for each problem of the store at `path`.

    The store must have the clips of clips.csv, which is at `table`, and the parameters of params.yaml. Each
    row must have been computed from the data that is now beside clips.csv: a feature from its row of
    waveforms.h5, a waveform from its file in raw. Data that is missing is not compared.
    """
    try:
        store, content = describe(path), params.load()
        problems = differences(store, content, _expected_feature(store, content))
        problems += _problems_in_ids(store, [clip.clip for clip in clips.read(table)])
        if not problems:
            problems += _problems_in_sources(store, table.parent)
    except PipelineError as error:
        return [str(error)]
    return problems or list(_problems_in_values(store))


def _expected_feature(store: Store, content: dict[str, Any]) -> str | None:
    """Return the feature that the file's name promises, or else the one that the store claims to contain."""
    name = store.path.stem
    return name if name in content.get("features", {}) else store.feature


def _problems_in_ids(store: Store, ids: list[str]) -> list[str]:
    problems = []
    if store.clips != ids:
        pairs = enumerate(zip_longest(store.clips, ids, fillvalue="nothing"))
        row, (stored, listed) = next((row, pair) for row, pair in pairs if pair[0] != pair[1])
        problems.append(
            f"{store.path} has {len(store.clips)} ids and clips.csv {len(ids)}: row {row} is {stored} in the"
            f" store and {listed} in the table: run dvc repro"
        )
    return problems


def _problems_in_sources(store: Store, folder: Path) -> Iterator[str]:
    for row, (source, now, path) in enumerate(zip(store.sources, *_sources(store, folder), strict=True)):
        if source != now:
            yield (
                f"{store.path}: row {row}, {store.clips[row]}, was computed from other data than {path} has"
                f" now: {again(store.path)}"
            )


def _sources(store: Store, folder: Path) -> tuple[Iterable[Any], Iterable[Path]]:
    """Return the digest of the data that each row should come from, and the path of that data."""
    waveforms, raw = folder / "waveforms.h5", folder / "raw"
    if store.feature and waveforms.exists():
        current = describe(waveforms)
        if current.clips == store.clips:
            return current.checksums, repeat(waveforms, len(store.clips))
        raise PipelineError(f"{store.path} and {waveforms} contain different clips: {again(store.path)}")
    if store.feature is None and raw.exists():
        audio = params.read("audio", Audio)
        digested = (_digest(raw, clip, audio) for clip in store.clips)
        return digested, [raw / recordings.file(clip) for clip in store.clips]
    return store.sources, repeat(folder, len(store.clips))


def _digest(raw: Path, clip: str, audio: Audio) -> Any:
    try:
        return digests([recordings.content(raw, clip, audio.duration, audio.truncated)])[0]
    except FileNotFoundError:
        raise PipelineError(f"{raw / recordings.file(clip)} is missing: run dvc repro") from None


def summarise(store: Store) -> dict[str, Any]:
    """Return shape, dtype, bytes, parameters, and statistics of the values.

    The statistics (min, max, mean, std) are of all finite values.
    """
    low, high, total, squares, num_finite = np.inf, -np.inf, 0.0, 0.0, 0
    for _, values in _blocks(store):
        finite = values[np.isfinite(values)].astype(np.float64)
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
            total, squares = total + float(finite.sum()), squares + float(np.square(finite).sum())
        num_finite += finite.size
    mean = total / max(num_finite, 1)
    return {
        "path": str(store.path),
        "shape": list(store.shape),
        "dtype": store.dtype.name,
        "bytes": store.path.stat().st_size,
        "params": store.params,
        "values": {
            "min": low if num_finite else None,
            "max": high if num_finite else None,
            "mean": mean,
            "std": float(np.sqrt(max(squares / max(num_finite, 1) - mean**2, 0))),
            "not_finite": int(np.prod(store.shape)) - num_finite,
        },
    }


def _problems_in_values(store: Store) -> Iterator[str]:
    for start, values in _blocks(store):
        for row in np.flatnonzero(digests(values) != store.checksums[start : start + len(values)]):
            yield (
                f"{store.path}: row {start + row}, {store.clips[start + row]}, has changed since it was"
                f" written: its checksum is another: {again(store.path)}"
            )
        for row in np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1)):
            yield (
                f"{store.path}: row {start + row}, {store.clips[start + row]}, has infinite values or NaN:"
                f" {again(store.path)}"
            )


def _blocks(store: Store) -> Iterator[tuple[int, Any]]:
    values = rows(store)
    length = max(1, BYTES_AT_A_TIME // values[:1].nbytes)
    for start in range(0, len(values), length):
        yield start, values[start : start + length]


def _as_text(summary: dict[str, Any]) -> str:
    parameters = json.dumps(summary["params"], indent=2).replace("\n", "\n    ")
    ranges = "  ".join(
        f"{name} {value:.6g}" for name, value in summary["values"].items() if value is not None
    )
    shape = " x ".join(f"{length:,}" for length in summary["shape"])
    return (
        f"{summary['path']}: {shape} {summary['dtype']}, {summary['bytes']:,} bytes\n"
        f"  values: {ranges}\n  made with: {parameters}"
    )
