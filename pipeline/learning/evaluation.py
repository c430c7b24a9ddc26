"""Score a model's predictions."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.members import SILENCE, UNKNOWN
from pipeline.learning.batches import Subset, batches
from pipeline.learning.noise import noisy_features
from pipeline.store.layout import Store

# Clips predicted at once. It changes only the last bits of a result.
BATCH_SIZE = 64
RESAMPLES = 10_000


def predict(model: Any, subset: Subset) -> NDArray[np.float64]:
    """Return the probability of each label for each clip of `subset`: (clips, labels), each row sums to 1."""
    return _softmax(model.predict(batches(subset, BATCH_SIZE), verbose=0))


def predict_in_noise(model: Any, subset: Subset, waveforms: Store, snr: float) -> NDArray[np.float64]:
    """Return the same for the clips in noise of their split, at a signal-to-noise ratio of `snr` dB.

    `waveforms` is the store of all clips' waveforms.
    """
    return _softmax(
        np.concatenate([model.predict_on_batch(batch) for batch in noisy_features(subset, waveforms, snr)])
    )


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    from scipy.special import softmax

    probabilities: NDArray[np.float64] = softmax(logits.astype(np.float64), axis=1)
    return probabilities


def score(targets: NDArray[np.int64], probabilities: NDArray[np.float64]) -> dict[str, Any]:
    """Return accuracy, macro F1, loss (mean cross-entropy in nats) and the number of clips.

    Args:
        targets: (clips,), index of each clip's label.
        probabilities: (clips, labels).
    """
    from sklearn import metrics

    labels, predictions = range(probabilities.shape[1]), probabilities.argmax(axis=1)
    macro_f1 = metrics.f1_score(targets, predictions, labels=labels, average="macro", zero_division=0)
    return {
        "accuracy": float(metrics.accuracy_score(targets, predictions)),
        "macro_f1": float(macro_f1),
        "loss": float(metrics.log_loss(targets, probabilities, labels=labels)),
        "clips": len(targets),
    }


def score_words(targets: NDArray[np.int64], guesses: NDArray[np.int64], labels: list[str]) -> dict[str, Any]:
    """Return the scores of a task with unknown clips or silence, and nothing for another task.

    `words_accuracy` is the accuracy on the clips of words. `unknown_as_word` and `silence_as_word` are how
    many of the other clips were taken for a word.

    Args:
        targets: (clips,), index into `labels`.
        guesses: (clips,), the predicted index.
        labels: the labels' names.
    """
    is_word = np.array([label not in (UNKNOWN, SILENCE) for label in labels])
    if is_word.all():
        return {}
    of_word = is_word[targets]
    scores: dict[str, Any] = {"words_accuracy": float((guesses == targets)[of_word].mean())}
    for name, label in (("unknown_as_word", UNKNOWN), ("silence_as_word", SILENCE)):
        if label in labels:
            scores[name] = int(is_word[guesses[targets == labels.index(label)]].sum())
    return scores


def score_labels(
    targets: NDArray[np.int64], probabilities: NDArray[np.float64], labels: list[str]
) -> list[tuple[str, float, float, float, int]]:
    """Return name, precision, recall, F1 and the number of clips of each label. Undefined scores are 0.

    Args:
        targets: (clips,), index into `labels`.
        probabilities: (clips, labels).
        labels: the labels' names.
    """
    from sklearn import metrics

    columns = metrics.precision_recall_fscore_support(
        targets, probabilities.argmax(axis=1), labels=range(len(labels)), zero_division=0
    )
    return [
        (label, float(precision), float(recall), float(f1), int(clips))
        for label, precision, recall, f1, clips in zip(labels, *columns, strict=True)
    ]


def interval(
    right: NDArray[np.bool_], speakers: list[str], *, level: float = 0.95, seed: int = 0
) -> dict[str, float]:
    """Return the confidence interval of the accuracy as `low` and `high`, by bootstrap over speakers.

    Speakers are drawn with replacement, each with all of their clips, because clips of one person are alike.
    The bounds are percentiles of the accuracies of 10,000 draws (Efron & Tibshirani 1993, chapter 13). They
    say how other speakers would have scored, not how another training or another split would have.

    Args:
        right: (clips,), whether each clip was predicted right.
        speakers: the speaker of each clip.
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
    """Return points (label, recall, precision) of each label's curve: this label against all others.

    The points of a label are in the order of rising recall, because the threshold falls: the probability from
    which a clip counts as having the label. At the last point every clip counts. A label without a clip has
    no points.

    Args:
        targets: (clips,), index into `labels`.
        probabilities: (clips, labels).
        labels: the labels' names.
    """
    from sklearn import metrics

    points = []
    for index, label in enumerate(labels):
        if (targets == index).any():
            precision, recall, _ = metrics.precision_recall_curve(
                targets == index, probabilities[:, index], drop_intermediate=True
            )
            points += [
                (label, float(x), float(y)) for x, y in zip(recall[::-1], precision[::-1], strict=True)
            ]
    return points


def layers(model: Any) -> list[tuple[str, str, str, int]]:
    """Return name, kind, output shape of one clip, and number of parameters of each step of a model."""
    return [
        (
            step.name,
            type(step).__name__,
            " x ".join(str(length) for length in step.output.shape[1:]),
            step.count_params() if hasattr(step, "count_params") else 0,
        )
        for step in model.operations
    ]
