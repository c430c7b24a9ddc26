"""The section `train` of params.yaml, and what a model overrides."""

from typing import Any

import pytest

from pipeline import params
from pipeline.learning.settings import Train, divergence_advice
from tests.learning.make import NO_AUGMENT, TRAIN


def _read(**model_train: Any) -> tuple[Train | None, list[str]]:
    content = {"train": TRAIN.model_dump(), "models": {"cnn": {"units": 8, "train": model_train}}}
    return params.check(content, "train", Train, overrides="models.cnn.train")


def test_a_model_overrides_train() -> None:
    """The values under a model's `train` replace those of the section `train`, also within `augment`."""
    settings, problems = _read(epochs=7, augment={"mixup": 0.5})
    assert problems == []
    expected = {"epochs": 7, "augment": NO_AUGMENT.model_copy(update={"mixup": 0.5})}
    assert settings == TRAIN.model_copy(update=expected)


def test_a_problem_in_an_override_is_named_with_its_path() -> None:
    """The path is in the model's section, also for an unknown key."""
    _, problems = _read(epochs=0, augment={"mixup": -1.0}, batchsize=3)
    assert problems == [
        "params.yaml: models.cnn.train.epochs must be at least 1, is 0",
        "params.yaml: models.cnn.train.augment.mixup must be at least 0, is -1.0",
        (
            "params.yaml: models.cnn.train.batchsize is not a parameter; did you mean batch_size? Correct the"
            " name there, or delete its line"
        ),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight_decay": 0.1}, "has a weight_decay, which adam ignores"),
        ({"warmup": 0.1}, "has a warmup, which only schedule cosine uses"),
        ({"jit": True}, "has jit and deterministic true"),
    ],
)
def test_options_that_contradict_each_other_are_refused(change: dict[str, Any], message: str) -> None:
    """If one option would make another useless, the message says which."""
    _, problems = _read(**change)
    assert [message in problem for problem in problems] == [True]


def test_class_weights_may_be_weights_by_label() -> None:
    """Labels may be numbers in YAML, such as those of spoken digits. Any other value is a single problem."""
    settings, problems = _read(class_weights={"_unknown_": 2, 7: 0.5})
    assert settings is not None
    assert (settings.class_weights, problems) == ({"_unknown_": 2.0, "7": 0.5}, [])
    for wrong in ("balance", {"yes": 0}, {"yes": "x"}, {"yes": True}, 3, {True: 1}, {"yes": 10**400}):
        _, problems = _read(class_weights=wrong)
        assert len(problems) == 1
        assert "train.class_weights must be none, balanced, or weights above 0 by label" in problems[0]


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        ({}, "lower train.learning_rate, 0.01"),
        (
            {"optimizer": "sgd", "weight_decay": 500.0},
            "lower train.weight_decay, 500: times train.learning_rate, 0.01, it must be far below 1, is 5",
        ),
        ({"clip_norm": None}, "lower train.learning_rate, 0.01, or set train.clip_norm, null, to 1.0"),
        (
            {"precision": "mixed_float16"},
            "lower train.learning_rate, 0.01, or set train.precision, mixed_float16, to mixed_bfloat16",
        ),
    ],
)
def test_the_advice_after_a_divergence_names_its_cause(change: dict[str, Any], advice: str) -> None:
    """A lower learning rate is not advised if the decay of the weights is the cause."""
    settings = TRAIN.model_copy(update={"clip_norm": 1.0, **change})
    assert divergence_advice(settings) == f"params.yaml: {advice}"
