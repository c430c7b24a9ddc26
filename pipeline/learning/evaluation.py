"""How good a model's predictions are."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.learning.batches import Side, batches

# Clips predicted at once: no result depends on it beyond the last bits.
BATCH_SIZE = 64
RESAMPLES = 10_000


def predict(model: Any, side: Side) -> NDArray[np.float64]:
    """Return the probability of each label for each clip of `side`, (clips, labels), rows summing to 1."""
    from scipy.special import softmax

    logits = model.predict(batches(side, BATCH_SIZE), verbose=0)
    probabilities: NDArray[np.float64] = softmax(logits.astype(np.float64), axis=1)
    return probabilities


def score(
    targets: NDArray[np.int64], probabilities: NDArray[np.float64], labels: list[str]
) -> dict[str, Any]:
    """Return accuracy, macro F1, loss (mean cross-entropy in nats), and each label's precision and recall.

    Args:
        targets: (clips,), index into `labels`.
        probabilities: (clips, labels).
        labels: the labels' names.
    """
    from sklearn import metrics

    predictions = probabilities.argmax(axis=1)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        targets, predictions, labels=range(len(labels)), zero_division=0
    )
    return {
        "accuracy": float(metrics.accuracy_score(targets, predictions)),
        "macro_f1": float(f1.mean()),
        "loss": float(metrics.log_loss(targets, probabilities, labels=range(len(labels)))),
        "clips": len(targets),
        "labels": {
            label: {"precision": float(precision[number]), "recall": float(recall[number])}
            for number, label in enumerate(labels)
        },
    }


def interval(
    right: NDArray[np.bool_], speakers: list[str], *, level: float = 0.95, seed: int = 0
) -> dict[str, float]:
    """Return the bounds, `low` and `high`, of the accuracy's confidence interval, by bootstrap over speakers.

    Speakers are drawn with replacement, each with all clips, as one person's clips are alike; the bounds are
    the percentiles of the accuracies of 10,000 draws (Efron & Tibshirani 1993, chapter 13). They tell how
    other speakers would have scored; not how another training or another split would have.

    Args:
        right: (clips,), whether each was predicted right.
        speakers: who speaks in each.
        level: the share of draws between the bounds.
        seed: of the draws.
    """
    _, who = np.unique(speakers, return_inverse=True)
    clips, hits = np.bincount(who), np.bincount(who, weights=right)
    share = np.full(len(clips), 1 / len(clips))
    times = np.random.default_rng(seed).multinomial(len(clips), share, size=RESAMPLES)
    low, high = np.quantile(times @ hits / (times @ clips), [(1 - level) / 2, (1 + level) / 2])
    return {"low": float(low), "high": float(high)}


def precision_recall(
    targets: NDArray[np.int64], probabilities: NDArray[np.float64], labels: list[str]
) -> list[tuple[str, float, float]]:
    """Return points (label, recall, precision) of each label's curve, one label against all others.

    A label's points are in the order of rising recall, as the probability from which a clip is said to have
    the label falls; the last precision is that of saying it of every clip. A label without a clip has none.

    Args:
        targets: (clips,), index into `labels`.
        probabilities: (clips, labels).
        labels: the labels' names.
    """
    from sklearn import metrics

    points = []
    for number, label in enumerate(labels):
        if (targets == number).any():
            precision, recall, _ = metrics.precision_recall_curve(
                targets == number, probabilities[:, number], drop_intermediate=True
            )
            points += [
                (label, float(x), float(y)) for x, y in zip(recall[::-1], precision[::-1], strict=True)
            ]
    return points


def layers(model: Any) -> list[tuple[str, str, str, int]]:
    """Return each step of a Keras model: its name, kind, a clip's shape after it, and its parameters."""
    return [
        (
            step.name,
            type(step).__name__,
            " x ".join(str(length) for length in step.output.shape[1:]),
            step.count_params() if hasattr(step, "count_params") else 0,
        )
        for step in model.operations
    ]
