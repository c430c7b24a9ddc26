import numpy as np
import pytest

from pipeline.learning import evaluation


def test_scores_are_those_counted_by_hand() -> None:
    """Scores of five clips, whole and by label, are those counted by hand; one label is never predicted."""
    targets = np.array([0, 0, 1, 1, 2])
    probabilities = np.array(
        [[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.1, 0.5, 0.4]]
    )
    scores = evaluation.score(targets, probabilities)
    assert scores["accuracy"] == pytest.approx(3 / 5)
    assert evaluation.score_labels(targets, probabilities, ["go", "no", "yes"]) == [
        ("go", 1.0, 0.5, pytest.approx(2 / 3), 2),
        ("no", 0.5, 1.0, pytest.approx(2 / 3), 2),
        ("yes", 0.0, 0.0, 0.0, 1),
    ]
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert scores["loss"] == pytest.approx(-np.log([0.7, 0.3, 0.7, 0.8, 0.4]).mean())
    assert scores["clips"] == 5


def test_words_are_scored_apart_from_unknown_clips_and_silence() -> None:
    """The accuracy on words, and the numbers of other clips taken for a word, are those counted by hand.

    A task without such classes has none of these scores.
    """
    labels = ["_silence_", "_unknown_", "no", "yes"]
    targets = np.array([2, 2, 2, 3, 3, 1, 1, 1, 0, 0])
    guesses = np.array([2, 2, 3, 3, 1, 2, 3, 0, 0, 1])
    assert evaluation.score_words(targets, guesses, labels) == {
        "words_accuracy": 3 / 5,
        "unknown_as_word": 2,
        "silence_as_word": 0,
    }
    assert evaluation.score_words(targets[:8], guesses[:8], [*labels[1:], "zoo"]).keys() == {
        "words_accuracy",
        "unknown_as_word",
    }
    assert evaluation.score_words(targets, guesses, list("abcd")) == {}


def test_the_interval_is_over_speakers_and_not_over_clips() -> None:
    """Speakers with one clip each give the binomial interval, and so do speakers with ten equal clips each.

    If every clip is right, the interval is a point.
    """
    right = np.random.default_rng(0).random(400) < 0.9
    accuracy, deviation = right.mean(), np.sqrt(0.9 * 0.1 / 400)
    alone = evaluation.interval(right, [str(n) for n in range(400)])
    assert alone["low"] == pytest.approx(accuracy - 1.96 * deviation, abs=0.006)
    assert alone["high"] == pytest.approx(accuracy + 1.96 * deviation, abs=0.006)
    alike = evaluation.interval(np.repeat(right, 10), [str(n // 10) for n in range(4000)])
    assert alike == alone
    assert evaluation.interval(np.ones(5, np.bool_), list("aabbc")) == {"low": 1.0, "high": 1.0}


def test_the_interval_contains_the_true_accuracy_as_often_as_it_says() -> None:
    """For 60 different speakers, 89 to 99 of 100 intervals contain the true accuracy."""
    generator = np.random.default_rng(1)
    held = 0
    for seed in range(100):
        skill = generator.beta(8, 2, size=60)
        right = generator.random((60, 6)) < skill[:, None]
        speakers = [str(n) for n in range(60) for _ in range(6)]
        bounds = evaluation.interval(right.ravel(), speakers, seed=seed)
        held += bounds["low"] <= 0.8 <= bounds["high"]
    assert 89 <= held <= 99
