"""The network: its normalisation, and the models that it refuses."""

import dataclasses
from typing import Literal

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.learning import network
from pipeline.learning.batches import Subset
from pipeline.models.cnn import CNN
from pipeline.store import reader
from tests.learning.make import MODELS, PARAMS, TRAIN, build, make_rows, make_subsets

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def subsets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Subset]:
    return make_subsets(tmp_path_factory.mktemp("subsets"))


def test_moments_are_those_of_the_training_clips(subsets: dict[str, Subset]) -> None:
    """Mean and variance of each bin are those that NumPy computes over only the training clips."""
    values = make_rows()[subsets["train"].rows].astype(np.float64)
    mean, variance, log = network.measure(subsets["train"], TRAIN)
    np.testing.assert_allclose(mean, values.mean(axis=(0, 1)), rtol=1e-5)
    np.testing.assert_allclose(variance, values.var(axis=(0, 1)), rtol=1e-4)
    assert not log  # the feature does not declare magnitudes


@pytest.mark.parametrize("scale", ["feature", "bin"])
@pytest.mark.parametrize("normalize", ["log", "linear", "none"])
def test_magnitudes_are_normalised_as_the_settings_say(
    subsets: dict[str, Subset],
    normalize: Literal["log", "linear", "none"],
    scale: Literal["feature", "bin"],
) -> None:
    """The model gets logarithms or magnitudes, standardised by bin or as a whole, or the stored values."""
    import keras

    params = {**PARAMS, "feature": {**PARAMS["feature"], "scale": "magnitude"}}
    store = dataclasses.replace(subsets["train"].store, params=params)
    train = dataclasses.replace(subsets["train"], store=store)
    net = build(MODELS["rnn"], train, TRAIN.model_copy(update={"normalize": normalize, "scale": scale}))
    values = np.array(reader.rows(train.store)[train.rows], np.float64)
    expected = np.log(np.maximum(values, network.MIN_MAGNITUDE)) if normalize == "log" else values
    if normalize != "none":
        expected = expected - expected.mean(axis=(0, 1))
        axes = (0, 1) if scale == "bin" else (0, 1, 2)
        expected = expected / np.sqrt((expected**2).mean(axis=axes))
    reaching = keras.Model(net.input, net.get_layer("lstm").input)
    np.testing.assert_allclose(reaching.predict(values, verbose=0), expected, rtol=1e-2, atol=1e-2)


def test_a_feature_too_small_for_the_model_is_refused(subsets: dict[str, Subset]) -> None:
    """A model with too many poolings for 12 frames is an error that names the model and the shape."""
    with pytest.raises(PipelineError, match="model cnn cannot take a feature of 12 frames x 40 bins"):
        build(
            CNN(filters=[4] * 6, pool=[[2, 2]] * 6, units=8, dropout=0),
            subsets["train"],
            TRAIN,
        )


def test_the_lstm_can_run_on_cudnn(subsets: dict[str, Subset]) -> None:
    """The LSTM of `rnn` meets the conditions under which Keras uses cuDNN on a GPU."""
    layer = build(MODELS["rnn"], subsets["train"], TRAIN).get_layer("lstm")
    assert layer.use_cudnn == "auto"
    assert (layer.activation.__name__, layer.recurrent_activation.__name__) == ("tanh", "sigmoid")
    assert (layer.recurrent_dropout, layer.unroll, layer.use_bias) == (0, False, True)
