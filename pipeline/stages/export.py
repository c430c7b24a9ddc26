"""models/model.keras → models/export, results/export.json: the model in formats that run by themselves."""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import kerasfile, params
from pipeline.errors import PipelineError, run
from pipeline.features import Feature, NoLayerError
from pipeline.files import atomic_write
from pipeline.learning import evaluation, runtime, saving, timings
from pipeline.learning.batches import Subset, load_subset
from pipeline.needs import need_memory
from pipeline.records import again, write_json
from pipeline.serving import formats, speed
from pipeline.serving.description import Description
from pipeline.serving.export import EXACT, PATHS, CannotConvertError, Export, Exporter, Format, size
from pipeline.store.current import open_waveforms
from pipeline.store.layout import Rows
from pipeline.store.reader import rows

MODEL = Path("models/model.keras")
FOLDER = Path("models/export")
RESULT = Path("results/export.json")
# The largest difference of a probability between float32 formats and Keras. If the feature is stored as
# float16, values between two of its numbers may be rounded to the other one.
MAX_DIFFERENCE, MAX_DIFFERENCE_FLOAT16 = 1e-4, 1e-3
DIGITS = 6


def main() -> None:
    """Export the model, and compare each format with Keras on every test clip."""
    settings = params.read("export", Export)
    feature = params.read("feature", params.Name)
    load = partial(load_subset, store=Path(f"data/features/{feature}.h5"), split=Path("data/split.csv"))
    test, train = load("test"), load("train")
    waveforms = open_waveforms(Path("data/waveforms.h5"), test.store, [*test.rows, *train.rows])
    described = kerasfile.description(MODEL)
    description = Description.of(described, MODEL, remedy=again(MODEL))
    results: dict[str, Any] = {}
    with atomic_write(FOLDER) as part:
        part.mkdir()
        description.write(part)
        if settings.formats:
            precision = kerasfile.precision(MODEL)
            runtime.start(seed=0, precision=precision)
            network = kerasfile.load(MODEL)
            problem = saving.misfit(network, described, test.store, test.labels)
            if problem:
                raise PipelineError(f"{MODEL} {problem}: {again(MODEL)}")
            try:
                exporter = _exporter(network, description, rows(waveforms), train, settings)
            except NoLayerError as error:
                print(f"nothing is exported: {error}")
                results["reason"] = str(error)
            else:
                # In mixed precision the network computes other values than in float32.
                expected = evaluation.predict(network if precision == "float32" else exporter.network, test)
                is_float16 = test.store.dtype.itemsize == 2
                bound = MAX_DIFFERENCE_FLOAT16 if is_float16 else MAX_DIFFERENCE
                trained = Trained(rows(waveforms), test, expected, bound)
                for name in settings.formats:
                    results[name] = _written(exporter, name, part / PATHS[name], trained, settings)
    write_json(RESULT, results)
    _measure(results)


@dataclass(frozen=True)
class Trained:
    """The trained model's predictions of the test clips."""

    waveforms: Rows  # of all clips
    test: Subset
    probabilities: NDArray[np.float64]  # (test clips, labels)
    max_difference: float = MAX_DIFFERENCE  # that a format in float32 may have


def _exporter(
    network: Any, description: Description, waveforms: Rows, train: Subset, settings: Export
) -> Exporter:
    # The clips are sorted by label, so these are of all labels.
    count = min(settings.calibration_clips, len(train.rows))
    need_memory(waveforms[:1].nbytes * count, "export", "lower params.yaml: export.calibration_clips")
    chosen = train.rows[np.linspace(0, len(train.rows) - 1, count).astype(int)]
    feature = Feature.restore(description.feature.params)
    return Exporter(network, feature, description, waveforms[chosen])


def _written(
    exporter: Exporter, name: Format, path: Path, trained: Trained, settings: Export
) -> dict[str, Any]:
    """Write one format; return its scores and its size, or the reason why it cannot be written."""
    try:
        exporter.write(name, path)
    except CannotConvertError as error:
        print(f"{name} cannot be written: {error}")
        return {"reason": str(error)}
    scores = _compared(name, path, trained, settings, recurrent=exporter.recurrent)
    return {**scores, "bytes": size(path)}


def _compared(
    name: Format, path: Path, trained: Trained, settings: Export, *, recurrent: bool = False
) -> dict[str, Any]:
    """Return how far the format's probabilities of the test clips are from the model's, and its accuracy.

    Raises PipelineError if they are too far, or if int8 gets more clips wrong than allowed and than chance
    explains. A recurrent network in int8 may get any number wrong, because its errors add up over time.
    """
    test, expected = trained.test, trained.probabilities
    model = formats.load(path, threads=1).run
    step = evaluation.BATCH_SIZE
    batches = [test.rows[start : start + step] for start in range(0, len(test.rows), step)]
    probabilities = np.concatenate([model(trained.waveforms[batch]) for batch in batches])
    differences = np.abs(probabilities - expected).max(axis=1)
    worst = int(differences.argmax())
    if name in EXACT and not differences[worst] <= trained.max_difference:
        raise PipelineError(
            f"{name} is not what was trained: a probability of the clip {test.clips[worst]} differs by"
            f" {differences[worst]:.2g} from that of {MODEL}, expected at most {trained.max_difference:g}: if"
            " the feature is your own, compare its `graph` with its `kernel`; else remove the format from"
            " params.yaml: export.formats"
        )
    right, was_right = (guess.argmax(axis=1) == test.targets for guess in (probabilities, expected))
    lost, gained = was_right & ~right, right & ~was_right
    more, changed = int(lost.sum() - gained.sum()), int(lost.sum() + gained.sum())
    allowed = settings.max_int8_loss * len(right)
    warning = {}
    if name not in EXACT and more > allowed:
        message = (
            f"{name} gets {more} more of {len(right)} test clips wrong than {MODEL}, such as"
            f" {test.clips[int(lost.argmax())]}; export.max_int8_loss allows {allowed:.1f}"
        )
        # The standard error of the difference, by the sign test.
        if recurrent or more <= allowed + 2 * math.sqrt(changed):
            print(f"warning: {message}")
            warning = {"warning": message}
        else:
            raise PipelineError(
                f"{message}, and chance does not explain that: raise params.yaml: export.calibration_clips or"
                " export.max_int8_loss, or remove the format from export.formats"
            )
    # Rounded up, so that 0 means equal.
    difference = math.ceil(float(differences[worst]) * 10**DIGITS) / 10**DIGITS
    return {"max_difference": difference, "accuracy": round(float(right.mean()), DIGITS), **warning}


def _measure(results: dict[str, Any]) -> None:
    """Print a table of the formats, with their speeds on this machine, and record the speeds."""
    written = {name: scores for name, scores in results.items() if "bytes" in scores}
    if not written:
        return
    speeds = speed.measure({name: FOLDER / PATHS[name] for name in written})  # type: ignore[index]
    timings.note_speeds(MODEL, speeds)
    print(f"{'format':<12} {'bytes':>10}  accuracy  difference  one clip (median, 95 %)   clips/s")
    for name, scores in written.items():
        measured = speeds[name]
        times = f"{measured.median_ms:8.2f} ms, {measured.p95_ms:.2f} ms {measured.clips_per_second:12,.0f}"
        print(
            f"{name:<12} {scores['bytes']:>10,}  {scores['accuracy']:8.3f}  {scores['max_difference']:10.6f}"
            f"  {times}"
        )


if __name__ == "__main__":
    run(main)
