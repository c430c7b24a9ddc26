import numpy as np
import pytest

from pipeline import evaluation


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
