"""`python -m pipeline predict`: classify recordings with the exported model, without TensorFlow."""

import csv
import io
import json
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from pipeline.commands import parser
from pipeline.corpus.audio import Undecodable
from pipeline.corpus.paths import AUDIO_SUFFIXES, is_clip
from pipeline.errors import PipelineError
from pipeline.progress import Progress
from pipeline.serving.predictor import BATCH_SIZE, MODEL, Prediction, Predictor
from pipeline.serving.windows import Heard

STDIN = "-"
# A recording: its name, and the function that reads it.
Source = tuple[str, Callable[[], bytes]]


class Result(NamedTuple):
    """The output for a recording: lines, or the problem with it."""

    name: str
    lines: list["Line"]
    problem: str | None = None


class Line(NamedTuple):
    """One line of the output, as text and as JSON."""

    text: str
    record: dict[str, Any]


def main(arguments: Sequence[str]) -> None:
    """Print a line for each recording. Exit with status 1 if any cannot be read."""
    options = _options(arguments)
    sources = [source for path in options.paths for source in _sources(path)]
    predictor = Predictor(options.model)
    duration = predictor.description.audio.duration
    if options.window and not 0 < options.hop <= duration:
        raise PipelineError(f"--hop must be above 0 and at most {duration:g} seconds, is {options.hop:g}")
    results = _windows(predictor, sources, options) if options.window else _clips(predictor, sources)
    write = _writer(options, predictor.labels)
    bar = Progress(len(sources), "files", "predict", sys.stderr) if len(sources) > BATCH_SIZE else None
    failed = False
    with bar or nullcontext():
        for result in results:
            if result.problem is not None:
                failed = True
                tqdm.write(f"{result.name}: {result.problem}", file=sys.stderr)
            for line in result.lines:
                write(line)
            if bar:
                bar.update(1)
    if failed:
        sys.exit(1)


def _options(arguments: Sequence[str]) -> Namespace:
    options = parser("predict")
    options.add_argument("paths", nargs="+", metavar="PATH", help="an audio file, a folder, or - for stdin")
    options.add_argument(
        "--model",
        type=Path,
        default=MODEL,
        help=f"a .tflite, .onnx or .keras file, or a SavedModel; by default {MODEL}",
    )
    formats = options.add_mutually_exclusive_group()
    formats.add_argument("--json", action="store_true", help="print a JSON object for each line")
    formats.add_argument("--csv", action="store_true", help="print CSV")
    options.add_argument(
        "--window", action="store_true", help="listen to whole recordings, and print when which word is heard"
    )
    options.add_argument("--hop", type=float, default=0.1, help="seconds between windows; the default is 0.1")
    options.add_argument(
        "--threshold", type=float, default=0.5, help="the least probability of a word; the default is 0.5"
    )
    args = options.parse_args(arguments)
    if not 0 <= args.threshold <= 1:
        raise PipelineError(f"--threshold must be from 0 to 1, is {args.threshold:g}")
    return args


def _sources(path: str) -> Iterator[Source]:
    """Yield the recording at `path`, or the recordings in it if it is a folder, sorted.

    What cannot be searched is yielded, too, with a function that says why.
    """
    if path == STDIN:
        yield path, sys.stdin.buffer.read
        return
    if not Path(path).is_dir():
        yield path, Path(path).read_bytes
        return
    errors: list[OSError] = []
    found = False
    for folder, subfolders, names in os.walk(path, onerror=errors.append):
        subfolders.sort()
        for name in sorted(names):
            file = Path(folder, name)
            if is_clip(file.relative_to(path).parts):
                found = True
                yield str(file), file.read_bytes
    if not found and not errors:
        errors.append(OSError(0, f"contains no files that end in one of {', '.join(AUDIO_SUFFIXES)}", path))
    for error in errors:
        yield str(error.filename), partial(_fail, error)


def _fail(error: OSError) -> bytes:
    raise error


def _clips(predictor: Predictor, sources: list[Source]) -> Iterator[Result]:
    """Yield the prediction for each recording's beginning, as long as a training clip."""
    cut = 0
    for prediction in predictor.contents(sources):
        cut += prediction.is_cut
        lines = [] if prediction.problem else [_prediction(prediction, predictor.labels)]
        yield Result(prediction.path, lines, prediction.problem)
    if cut:
        duration = predictor.description.audio.duration
        tqdm.write(
            f"longer than {duration:g} s: {cut} of {len(sources)} recordings. Only their beginning was"
            " classified: add --window to listen to all of it",
            file=sys.stderr,
        )


def _prediction(prediction: Prediction, labels: list[str]) -> Line:
    ranked = [f"{label} {probability:.3f}" for label, probability in prediction.probabilities.items()]
    others = f"  ({', '.join(ranked[1:3])})" if ranked[1:] else ""
    return Line(
        f"{prediction.path}  {ranked[0]}{others}",
        {
            "file": prediction.path,
            "label": prediction.label,
            "probability": prediction.probability,
            "probabilities": {label: prediction.probabilities[label] for label in labels},
        },
    )


def _windows(predictor: Predictor, sources: list[Source], options: Namespace) -> Iterator[Result]:
    """Yield the words in each recording."""
    for name, read in sources:
        try:
            words = predictor.listen(read(), hop=options.hop, threshold=options.threshold)
        except OSError as error:
            yield Result(name, [], str(error.strerror or error))
        except Undecodable as reason:
            yield Result(name, [], str(reason))
        else:
            if not words:
                tqdm.write(
                    f"{name}: no word has a probability of {options.threshold:g}: lower --threshold",
                    file=sys.stderr,
                )
            yield Result(name, [_word(name, word) for word in words])


def _word(name: str, word: Heard) -> Line:
    text = f"{name}  {word.start:.2f} to {word.end:.2f} s  {word.label} {word.probability:.3f}"
    return Line(text, {"file": name, **word._asdict()})


def _writer(options: Namespace, labels: list[str]) -> Callable[[Line], None]:
    """Return the function that prints a line in the chosen format."""
    # On a terminal, tqdm prints it above the progress bar.
    show: Callable[[str], None] = tqdm.write if sys.stdout.isatty() else print
    if options.json:
        return lambda line: show(json.dumps(line.record, ensure_ascii=False))
    header = ["file", *Heard._fields] if options.window else ["file", "label", "probability", *labels]
    return _table(show, header) if options.csv else lambda line: show(line.text)


def _table(show: Callable[[str], None], header: Sequence[str]) -> Callable[[Line], None]:
    """Print `header` as CSV, and return the function that prints a line as a row."""
    buffer = io.StringIO()
    rows = csv.writer(buffer, lineterminator="")

    def write_row(cells: list[Any]) -> None:
        rows.writerow([f"{cell:.6f}" if isinstance(cell, float) else cell for cell in cells])
        show(buffer.getvalue())
        buffer.seek(0)
        buffer.truncate()

    def write(line: Line) -> None:
        record = dict(line.record)
        probabilities = record.pop("probabilities", {})
        write_row([*record.values(), *probabilities.values()])

    write_row(list(header))
    return write
