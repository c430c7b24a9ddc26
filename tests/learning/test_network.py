"""The network: its normalisation, and the models that it refuses."""

import dataclasses
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import psutil
import pytest

from pipeline.errors import PipelineError
from pipeline.learning import network
from pipeline.learning.batches import Subset
from pipeline.models import Model
from pipeline.models.cnn import CNN
from pipeline.models.dscnn import DSCNN
from pipeline.models.resnet import ResNet
from pipeline.models.tcresnet import TCResNet
from pipeline.store import reader
from tests.learning.make import MODELS, PARAMS, TRAIN, build, make_rows, make_subsets

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def subsets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Subset]:
    return make_subsets(tmp_path_factory.mktemp("subsets"))


def keras_layer() -> Any:
    import keras

    return keras.layers.Layer


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


@pytest.mark.parametrize(
    ("model", "weights"),
    [
        (CNN(filters=[65_536] * 64, pool=[[1, 1]] * 64, units=1, dropout=0), "38,6"),
        (DSCNN(channels=65_536, blocks=64, dropout=0), "4,29"),
        (ResNet(width=1, stem=65_536, blocks=[65_536] * 64, dropout=0), "38,6"),
        (TCResNet(width=1, stem=65_536, blocks=[65_536] * 64, kernel=10_000, dropout=0), "42,9"),
    ],
)
def test_weights_that_no_memory_holds_are_refused(
    subsets: dict[str, Subset], monkeypatch: pytest.MonkeyPatch, model: Model, weights: str
) -> None:
    """They are refused before Keras allocates them, with both numbers."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=8 * 10**9))
    add_weight = keras_layer().add_weight
    with pytest.raises(PipelineError, match=rf"with {weights}.* weights .* memory, but 8\.\d GB are free"):
        build(model, subsets["train"], TRAIN)
    assert keras_layer().add_weight is add_weight


def test_a_batch_that_no_memory_holds_is_refused(
    subsets: dict[str, Subset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outputs of layers count, for each clip of a batch. An epoch has no more clips than there are."""
    weights, outputs = 77_858, 35_042

    def available(clips: int) -> None:
        size = 4 * 4 * weights + 2 * clips * outputs
        monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=size - 4 * weights))

    train, model = subsets["train"], ResNet(width=1, stem=32, blocks=[32, 64], dropout=0)
    clips = len(train.rows)
    available(clips)
    net = build(model, train, TRAIN.model_copy(update={"batch_size": 1_000_000}))
    assert (net.count_params(), clips) == (weights, 72)
    available(clips - 1)
    with pytest.raises(PipelineError, match=f"77,858 weights and {clips} clips in a batch, needs"):
        build(model, train, TRAIN.model_copy(update={"batch_size": 1_000_000}))
    build(model, train, TRAIN.model_copy(update={"batch_size": clips - 1}))


def test_the_lstm_can_run_on_cudnn(subsets: dict[str, Subset]) -> None:
    """The LSTM of `rnn` meets the conditions under which Keras uses cuDNN on a GPU."""
    layer = build(MODELS["rnn"], subsets["train"], TRAIN).get_layer("lstm")
    assert layer.use_cudnn == "auto"
    assert (layer.activation.__name__, layer.recurrent_activation.__name__) == ("tanh", "sigmoid")
    assert (layer.recurrent_dropout, layer.unroll, layer.use_bias) == (0, False, True)
