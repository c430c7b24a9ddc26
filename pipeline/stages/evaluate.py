"""models/model.keras + the test clips → results: metrics, predictions, and what plots are made of."""

import json
from pathlib import Path

from pipeline import params
from pipeline.corpus import clips
from pipeline.errors import run
from pipeline.files import replacing, write_csv
from pipeline.learning import batches, evaluation, runtime


def main() -> None:
    """Predict the test clips with the trained model and write how well that went."""
    feature = params.read("feature", str)
    test = batches.side("test", store=Path(f"data/features/{feature}.h5"), split=Path("data/split.csv"))
    runtime.start(seed=0)
    import keras

    model = keras.models.load_model("models/model.keras")
    probabilities = evaluation.predict(model, test)
    scores = evaluation.score(test.targets, probabilities, test.labels)
    best = probabilities.argmax(axis=1)
    speakers = {clip.clip: clip.speaker for clip in clips.read(Path("data/clips.csv"))}
    scores["accuracy_95"] = evaluation.interval(best == test.targets, [speakers[clip] for clip in test.clips])
    with replacing(Path("results/metrics.json")) as part:
        part.write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    write_csv(
        Path("results/predictions.csv"),
        ["clip", "truth", "prediction", "probability"],
        (
            (clip, test.labels[truth], test.labels[guess], f"{row[guess]:.6f}")
            for clip, truth, guess, row in zip(test.clips, test.targets, best, probabilities, strict=True)
        ),
    )
    points = evaluation.precision_recall(test.targets, probabilities, test.labels)
    write_csv(
        Path("results/precision_recall.csv"),
        ["label", "recall", "precision"],
        ((label, f"{recall:.6f}", f"{precision:.6f}") for label, recall, precision in points),
    )
    write_csv(Path("results/layers.csv"), ["layer", "kind", "output", "parameters"], evaluation.layers(model))
    low, high = scores["accuracy_95"]["low"], scores["accuracy_95"]["high"]
    print(
        f"test: accuracy {scores['accuracy']:.3f} ({low:.3f} to {high:.3f} at 95 %), macro F1"
        f" {scores['macro_f1']:.3f}, {len(best)} clips"
    )


if __name__ == "__main__":
    run(main)
