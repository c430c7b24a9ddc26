import numpy as np
import pytest

from pipeline.learning import evaluation


def test_scores_are_those_counted_by_hand() -> None:
    """Accuracy, macro F1, loss, precision and recall of five clips, one label never guessed."""
    targets = np.array([0, 0, 1, 1, 2])
    probabilities = np.array(
        [[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.1, 0.5, 0.4]]
    )
    scores = evaluation.score(targets, probabilities, ["go", "no", "yes"])
    assert scores["accuracy"] == pytest.approx(3 / 5)
    assert scores["labels"] == {
        "go": {"precision": 1.0, "recall": 0.5},
        "no": {"precision": 0.5, "recall": 1.0},
        "yes": {"precision": 0.0, "recall": 0.0},
    }
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert scores["loss"] == pytest.approx(-np.log([0.7, 0.3, 0.7, 0.8, 0.4]).mean())
    assert scores["clips"] == 5


def test_the_interval_is_that_of_speakers_not_clips() -> None:
    """Speakers of one clip give the binomial interval; of ten clips alike, one as wide as that of a tenth of
    the clips; where all are right there is none.
    """
    right = np.random.default_rng(0).random(400) < 0.9
    accuracy, deviation = right.mean(), np.sqrt(0.9 * 0.1 / 400)
    alone = evaluation.interval(right, [str(n) for n in range(400)])
    assert alone["low"] == pytest.approx(accuracy - 1.96 * deviation, abs=0.006)
    assert alone["high"] == pytest.approx(accuracy + 1.96 * deviation, abs=0.006)
    alike = evaluation.interval(np.repeat(right, 10), [str(n // 10) for n in range(4000)])
    assert alike == alone
    assert evaluation.interval(np.ones(5, np.bool_), list("aabbc")) == {"low": 1.0, "high": 1.0}


def test_the_interval_holds_what_it_promises() -> None:
    """Of 100 samples of 60 unlike speakers 89 to 99 % of the intervals hold the true accuracy."""
    generator = np.random.default_rng(1)
    held = 0
    for seed in range(100):
        skill = generator.beta(8, 2, size=60)
        right = generator.random((60, 6)) < skill[:, None]
        speakers = [str(n) for n in range(60) for _ in range(6)]
        bounds = evaluation.interval(right.ravel(), speakers, seed=seed)
        held += bounds["low"] <= 0.8 <= bounds["high"]
    assert 89 <= held <= 99
