"""`python -m pipeline.commands.crossval --folds 5`: how good a configuration is, and how sure that is.

The clips fall into folds, no speaker in two. Each fold is the test set once, the next one the validation
set, and the model of params.yaml is trained on the others. So every clip is tested once, and the folds'
deviation tells how far one test set can be off.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import params
from pipeline.corpus import clips, splits
from pipeline.errors import PipelineError, run
from pipeline.files import replacing
from pipeline.learning import batches, evaluation, fit, runtime
from pipeline.learning.batches import Side
from pipeline.learning.fit import Train
from pipeline.models import Model
from pipeline.store.layout import checked


def main() -> None:
    """Train and test on each fold; print mean and deviation, and write them to results/crossval.json."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.commands.crossval", description="mean and deviation"
    )
    parser.add_argument("--folds", type=int, default=5, help="default 5; 3 at least")
    number = parser.parse_args().folds
    if number < 3:
        raise PipelineError(f"--folds must be at least 3 (train, val, test), is {number}")
    feature, name = params.read("feature", str), params.read("model", str)
    model = params.read(f"models.{name}", Model.named(name))
    how = params.read("train", Train, over=f"models.{name}.train")
    known = clips.read(Path("data/clips.csv"))
    fold = splits.folds(known, number, params.read("split", splits.Split))
    store = checked(Path(f"data/features/{feature}.h5"), feature)
    if store.clips != [clip.clip for clip in known]:
        raise PipelineError(f"{store.path} and data/clips.csv hold different clips: run dvc repro")
    strategy = runtime.start(how.seed, deterministic=how.deterministic)
    found = []
    for test in range(number):
        val = (test + 1) % number
        sides = [
            batches.part(store, np.flatnonzero(chosen).tolist())
            for chosen in ((fold != test) & (fold != val), fold == val, fold == test)
        ]
        found.append(_score(strategy, model, how, sides, [known[row].speaker for row in sides[2].rows]))
        print(f"{feature} → {name}, fold {test + 1} of {number}: test accuracy {found[-1]['accuracy']:.4f}")
    summary = summarise(found)
    result = {"feature": feature, "model": name, "folds": found, **summary}
    with replacing(Path("results/crossval.json")) as part:
        part.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(
        f"{feature} → {name}: test accuracy {summary['accuracy']['mean']:.4f}, deviation of the folds"
        f" {summary['accuracy']['deviation']:.4f}; macro F1 {summary['macro_f1']['mean']:.4f}:"
        " results/crossval.json"
    )


def _score(strategy: Any, model: Model, how: Train, sides: list[Side], speakers: list[str]) -> dict[str, Any]:
    """Return the scores on the last of `sides`, trained on the first and watched on the second."""
    import keras

    train, val, test = sides
    keras.utils.set_random_seed(how.seed)
    with strategy.scope():
        network = fit.build(model, train, how)
    with tempfile.TemporaryDirectory() as logs:
        fit.fit(network, model, (train, val), how, Path(logs))
    probabilities = evaluation.predict(network, test)
    scores = evaluation.score(test.targets, probabilities, test.labels)
    right = probabilities.argmax(axis=1) == test.targets
    keras.backend.clear_session()
    return {**scores, "accuracy_95": evaluation.interval(right, speakers)}


def summarise(found: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return `mean` and `deviation` (a sample's: over n - 1) of accuracy, macro F1 and loss over folds."""
    return {
        metric: {
            "mean": float(np.mean([each[metric] for each in found])),
            "deviation": float(np.std([each[metric] for each in found], ddof=1)),
        }
        for metric in ("accuracy", "macro_f1", "loss")
    }


if __name__ == "__main__":
    run(main)
