"""`python -m pipeline crossval`: how good a configuration is, and how certain that is.

The clips are dealt into folds, and no speaker is in two of them. Each fold is the test set once, the next
fold is the validation set, and the model of params.yaml is trained on the others. So every clip is tested
once, and the deviation over the folds says how far off a single test set can be.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import params
from pipeline.commands import parser
from pipeline.corpus import clips, members, splits
from pipeline.corpus.clips import Clip, Naming
from pipeline.corpus.members import Member
from pipeline.errors import PipelineError
from pipeline.learning import evaluation, network, noise, runtime
from pipeline.learning.batches import Subset, limit, select_rows
from pipeline.learning.fit import fit
from pipeline.learning.settings import Train
from pipeline.models import Model
from pipeline.records import write_json
from pipeline.store.current import open_current
from pipeline.store.reader import verify

CLIPS = Path("data/clips.csv")


def main(arguments: Sequence[str]) -> None:
    """Train and test on each fold; print mean and deviation, and write them to results/crossval.json."""
    options = parser("crossval")
    options.add_argument("--folds", type=int, default=5, help="at least 3; the default is 5")
    num_folds = options.parse_args(arguments).folds
    if num_folds < 3:
        raise PipelineError(f"--folds must be at least 3 (train, val, test), is {num_folds}")
    feature, name = params.read("feature", params.Name), params.read("model", params.Name)
    model = params.read_plugin(f"models.{name}", Model)
    settings = params.read("train", Train, overrides=f"models.{name}.train")
    if settings.teacher is not None:
        raise PipelineError(
            f"params.yaml: train.teacher is {settings.teacher!r}, must be null: a teacher was trained on"
            " clips that a fold tests"
        )
    store = open_current(Path(f"data/features/{feature}.h5"), feature)
    rows = clips.read(CLIPS, ids=store.clips)
    clips.check(CLIPS, rows, params.read("clips", Naming))
    joined = members.read(Path("data/split.csv"), ids=store.clips)
    fold_of = _folds(rows, joined, num_folds)
    verify(store, np.flatnonzero(fold_of >= 0).tolist())
    strategy = runtime.start(
        settings.seed, deterministic=settings.deterministic, precision=settings.precision
    )
    scores = []
    for test in range(num_folds):
        val = (test + 1) % num_folds
        subsets = [
            select_rows(store, joined, np.flatnonzero(chosen).tolist())
            for chosen in (~np.isin(fold_of, (test, val, -1)), fold_of == val, fold_of == test)
        ]
        speakers = [rows[row].speaker for row in subsets[2].rows]
        scores.append(_score(strategy, model, settings, subsets, speakers))
        print(
            f"{feature} → {name}, fold {test + 1} of {num_folds}: test accuracy {scores[-1]['accuracy']:.4f}"
        )
    summary = summarise(scores)
    result = {"feature": feature, "model": name, "folds": scores, **summary}
    write_json(Path("results/crossval.json"), result)
    print(
        f"{feature} → {name}: test accuracy {summary['accuracy']['mean']:.4f}, deviation over the folds"
        f" {summary['accuracy']['deviation']:.4f}; macro F1 {summary['macro_f1']['mean']:.4f}:"
        " results/crossval.json"
    )


def _folds(rows: list[Clip], joined: list[Member], num_folds: int) -> NDArray[np.int64]:
    """Return the fold of each clip: (clips,). Clips that have no part in the task have the fold -1."""
    used = [row for row, member in enumerate(joined) if member.label or member.noise]
    clips_of_task = [rows[row]._replace(label=joined[row].label) for row in used]
    fold_of = np.full(len(rows), -1)
    fold_of[used] = splits.folds(clips_of_task, num_folds, params.read("split", splits.Split))
    return fold_of


def _score(
    strategy: Any, model: Model, settings: Train, subsets: list[Subset], speakers: list[str]
) -> dict[str, Any]:
    """Train on the first of `subsets`, choose the epoch on the second, and return the scores on the third."""
    import keras

    train, val, test = subsets
    train = limit(train, settings.clips_per_label, settings.seed)
    keras.utils.set_random_seed(settings.seed)
    moments = network.measure(train, settings)
    added = noise.load(settings.augment.noise, train, Path("data/waveforms.h5"))
    with strategy.scope():
        net = network.build(model, train, settings, moments)
    with tempfile.TemporaryDirectory() as logs:
        fit(net, model, (train, val), settings, moments=moments, logs=Path(logs), noise=added)
    probabilities = evaluation.predict(net, test)
    interval = evaluation.interval(probabilities.argmax(axis=1) == test.targets, speakers)
    keras.backend.clear_session()
    return {
        **evaluation.score(test.targets, probabilities),
        "low_95": interval["low"],
        "high_95": interval["high"],
    }


def summarise(folds: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return `mean` and `deviation` of accuracy, macro F1 and loss over folds.

    The deviation is that of a sample: the sum of squares is divided by n - 1.
    """
    return {
        metric: {
            "mean": float(np.mean([fold[metric] for fold in folds])),
            "deviation": float(np.std([fold[metric] for fold in folds], ddof=1)),
        }
        for metric in ("accuracy", "macro_f1", "loss")
    }
