"""models/model.keras and the test clips → results: metrics, predictions, and the tables behind the plots."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import kerasfile, params
from pipeline.corpus import clips
from pipeline.corpus.members import SILENCE, UNKNOWN
from pipeline.errors import PipelineError, run
from pipeline.learning import evaluation, runtime, saving
from pipeline.learning.batches import Subset, load_subset
from pipeline.learning.noise import SNRS
from pipeline.records import again, read_json, write_json
from pipeline.report import results
from pipeline.report.results import InNoise, LabelScore, Layer, Log, Point, Prediction
from pipeline.store.current import open_waveforms
from pipeline.store.layout import Store

MODEL = Path("models/model.keras")
RESULTS = Path("results")
CLIPS = Path("data/clips.csv")
SPLIT = Path("data/split.csv")


def main() -> None:
    """Predict the test clips with the trained model and score the predictions."""
    feature = params.read("feature", params.Name)
    test = load_subset("test", store=Path(f"data/features/{feature}.h5"), split=SPLIT)
    waveforms = open_waveforms(Path("data/waveforms.h5"), test.store, [*test.rows, *test.noise])
    log = read_json(RESULTS / "train/metrics.json", Log)
    recorded = clips.read(CLIPS, ids=waveforms.clips)
    speakers = {clip.clip: clip.speaker for clip in recorded}
    _check_labels(test, {clip.clip: clip.label for clip in recorded})
    description = kerasfile.description(MODEL)
    runtime.start(seed=0, precision=kerasfile.precision(MODEL))
    model = kerasfile.load(MODEL)
    problem = saving.misfit(model, description, test.store, test.labels)
    if problem:
        raise PipelineError(f"{MODEL} {problem}: {again(MODEL)}")
    probabilities = evaluation.predict(model, test)
    best = probabilities.argmax(axis=1)
    scores = evaluation.score(test.targets, probabilities)
    in_noise = _score_in_noise(model, test, waveforms)
    interval = evaluation.interval(best == test.targets, [speakers[clip] for clip in test.clips])
    metrics = {
        **scores,
        **evaluation.score_words(test.targets, best, test.labels),
        **({"noisy": float(np.mean(list(in_noise.values())))} if in_noise else {}),
        "low_95": interval["low"],
        "high_95": interval["high"],
        "epoch": log.best.epoch,
    }
    # NumPy's exp and log depend on the processor in the last digits.
    metrics = {name: round(value, 6) for name, value in metrics.items()}
    write_json(RESULTS / "metrics.json", metrics)
    by_label = evaluation.score_labels(test.targets, probabilities, test.labels)
    results.LABELS.write(RESULTS / "labels.csv", map(LabelScore._make, by_label))
    results.PREDICTIONS.write(
        RESULTS / "predictions.csv",
        (
            Prediction(clip, test.labels[truth], test.labels[guess], row[guess])
            for clip, truth, guess, row in zip(test.clips, test.targets, best, probabilities, strict=True)
        ),
    )
    points = evaluation.precision_recall(test.targets, probabilities, test.labels)
    results.PRECISION_RECALL.write(RESULTS / "precision_recall.csv", map(Point._make, points))
    results.NOISE.write(RESULTS / "noise.csv", map(InNoise._make, in_noise.items()))
    results.LAYERS.write(RESULTS / "layers.csv", map(Layer._make, evaluation.layers(model)))
    print(
        f"test: accuracy {scores['accuracy']:.3f} ({interval['low']:.3f} to {interval['high']:.3f} at 95 %),"
        f" macro F1 {scores['macro_f1']:.3f}, {scores['clips']} clips"
    )
    for snr, accuracy in in_noise.items():
        print(f"test in noise at {snr:>2} dB: accuracy {accuracy:.3f}")


def _check_labels(test: Subset, recorded: Mapping[str, str]) -> None:
    """Raise PipelineError if a clip has another label in split.csv than in clips.csv."""
    for clip, target in zip(test.clips, test.targets.tolist(), strict=True):
        label = test.labels[target]
        if label not in (recorded[clip], UNKNOWN, SILENCE):
            raise PipelineError(
                f"{SPLIT}: the label of {clip} is {label}, but {recorded[clip]} in {CLIPS}:"
                f" {again(f'{SPLIT} {CLIPS}')}"
            )


def _score_in_noise(model: Any, test: Subset, waveforms: Store) -> dict[int, float]:
    """Return the accuracy at each signal-to-noise ratio, or nothing if the test split has no noise."""
    if not len(test.noise):
        print("the test split has no noise, so there are no scores in noise: see clips.recordings")
        return {}
    return {
        snr: float(
            (evaluation.predict_in_noise(model, test, waveforms, snr).argmax(axis=1) == test.targets).mean()
        )
        for snr in SNRS
    }


if __name__ == "__main__":
    run(main)
