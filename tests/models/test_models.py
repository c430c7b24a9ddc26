"""The architectures of the models."""

import math
import sys
from typing import Any

import pytest

from pipeline import params
from pipeline.errors import PipelineError
from pipeline.models import Model
from pipeline.models.bcresnet import BCResNet
from pipeline.models.cnn import CNN
from pipeline.models.dscnn import DSCNN
from pipeline.models.resnet import ResNet
from pipeline.models.rnn import RNN
from pipeline.models.tcresnet import TCResNet
from tests.learning.make import SPEECH
from tests.project import ROOT

BCRESNET = BCResNet(width=1.0, subbands=5, dropout=0.1)


def _network(model: Model, frames: int = 98, bins: int = 40, num_labels: int = 8) -> Any:
    import keras

    inputs = keras.Input((frames, bins))
    return keras.Model(inputs, model.logits(inputs, num_labels))


def _multiply_adds(network: Any) -> int:
    """Return how many multiplications one clip takes in convolutions, dense layers and LSTMs."""
    from keras import Model as Network
    from keras import layers

    count = 0
    for layer in network.layers:
        if isinstance(layer, Network):
            count += _multiply_adds(layer)
        elif isinstance(layer, layers.Dense):
            count += math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:-1])
        elif isinstance(layer, (layers.DepthwiseConv1D, layers.DepthwiseConv2D)):
            count += math.prod(layer.kernel.shape[:-2]) * math.prod(layer.output.shape[1:])
        elif isinstance(layer, (layers.Conv1D, layers.Conv2D)):
            count += math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:-1])
        elif isinstance(layer, layers.LSTM):
            weights = math.prod(layer.cell.kernel.shape) + math.prod(layer.cell.recurrent_kernel.shape)
            count += weights * layer.input.shape[1]
    return count


def _trainable(network: Any) -> int:
    return sum(math.prod(weight.shape) for weight in network.trainable_weights)


def _short(count: int) -> str:
    """Return `count` as text such as 9.1 k, 54 k, 318 k, 1.5 M or 107 M."""
    unit, scaled = ("M", count / 1e6) if count >= 1e6 else ("k", count / 1e3)
    return f"{scaled:.1f} {unit}" if scaled < 9.95 else f"{scaled:.0f} {unit}"


DEFAULT_RNN = RNN(units=256, dropout=0.1)
DEFAULT_CNN = CNN(filters=[32, 64, 64], pool=[[2, 2], [2, 2], [1, 1]], units=32, dropout=0.1)
TC = {"TC-ResNet8": [24, 32, 48], "TC-ResNet14": [24, 24, 32, 32, 48, 48]}


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("row", "model", "shape"),
    [
        *(
            (row, model, shape)
            for model in (DEFAULT_RNN, DEFAULT_CNN)
            for row, shape in (
                ("101 x 40, log-mel", (101, 40)),
                ("134 x 257, STFT", (134, 257)),
                ("138 x 39, MFCC", (138, 39)),
            )
        ),
        (
            "97, 25 (1 s)",
            SPEECH.model_copy(update={"weights": None, "padding": 25, "units": 128}),
            (97, 32),
        ),
        *(
            (
                f"{name} {width}",
                TCResNet(width=width, stem=16, blocks=TC[name], kernel=9, dropout=0.5),
                (98, 40),
            )
            for name, width in [("TC-ResNet8", 1.0), ("TC-ResNet8", 1.5)]
            + [("TC-ResNet14", width) for width in (1.0, 1.5, 2.0)]
        ),
        *((str(width), BCResNet(width=width, subbands=5, dropout=0.1), (98, 40)) for width in (1, 2, 3, 8)),
        *(
            (str(width), ResNet(width=width, stem=32, blocks=[32, 64, 128], dropout=0.3), (101, 40))
            for width in (0.5, 1.0, 1.5, 2.0)
        ),
        *(
            (f"{channels} {blocks}", DSCNN(channels=channels, blocks=blocks, dropout=0.2), (98, 40))
            for channels, blocks in ((64, 4), (172, 4), (276, 5))
        ),
    ],
)
def test_the_documented_size_is_right(row: str, model: Model, shape: tuple[int, int]) -> None:
    """The table in the model's file has the network's trainable parameters and multiply-adds."""
    network = _network(model, *shape)
    expected = f"{row} {_short(_trainable(network))} {_short(_multiply_adds(network))}"
    lines = str(sys.modules[type(model).__module__].__doc__).splitlines()
    assert expected in [" ".join(line.split()) for line in lines]


@pytest.mark.tensorflow
@pytest.mark.parametrize("shape", [(134, 257), (138, 39)])
def test_the_rnn_is_the_notebooks(shape: tuple[int, int]) -> None:
    """An LSTM(256) whose inputs are dropped with a chance of 0.1, as in the notebook, then a dense layer."""
    reference = params.read_plugin("models.rnn", Model)
    assert reference == DEFAULT_RNN
    network = _network(reference, *shape)
    lstm, dense = network.layers[1:]
    assert (lstm.units, lstm.dropout, lstm.recurrent_dropout, lstm.return_sequences) == (256, 0.1, 0, False)
    assert dense.kernel.shape == (256, 8)
    assert network.count_params() == 4 * (shape[1] + 256 + 1) * 256 + 257 * 8


@pytest.mark.tensorflow
def test_the_rnn_drops_inputs_before_the_fused_lstm(monkeypatch: pytest.MonkeyPatch) -> None:
    """In training, all frames lose the same bins, and the fused LSTM gets what is left of the inputs."""
    import keras
    import numpy as np
    from keras.src import backend

    fused: list[Any] = []
    own = backend.lstm
    cell = RNN(units=4, dropout=0.5)
    network = _network(cell, 6, 10)
    lstm = network.layers[1]

    def recorded(inputs: Any, *args: Any, **options: Any) -> Any:
        fused.append(inputs)
        return own(inputs, *args, **options)

    monkeypatch.setattr(backend, "lstm", recorded)
    lstm(np.ones((3, 6, 10), np.float32), training=True)
    lstm(np.ones((3, 6, 10), np.float32), training=False)
    training, inference = (keras.ops.convert_to_numpy(inputs) for inputs in fused)
    assert set(np.unique(training)) == {0, 2}
    np.testing.assert_array_equal(training, np.repeat(training[:, :1], 6, axis=1))
    np.testing.assert_array_equal(inference, np.ones((3, 6, 10)))


@pytest.mark.tensorflow
@pytest.mark.parametrize("shape", [(134, 257), (138, 39)])
def test_the_cnn_is_the_notebooks(shape: tuple[int, int]) -> None:
    """The section in params.yaml gives the notebook's layers, in its order, and its 58,088 weights."""
    reference = params.read_plugin("models.cnn", Model)
    assert reference == DEFAULT_CNN
    network = _network(reference, *shape)
    kinds = [(type(layer).__name__, layer.name) for layer in network.layers[2:]]
    assert [kind for kind, _ in kinds] == [
        "Conv2D", "Dropout", "MaxPooling2D",
        "Conv2D", "Dropout", "MaxPooling2D",
        "Conv2D", "Dropout",
        "GlobalAveragePooling2D", "Dense", "Dense",
    ]  # fmt: skip
    layer = {name: network.get_layer(name) for _, name in kinds}
    frames, bins = shape
    assert layer["conv1"].output.shape[1:] == (frames - 2, bins - 2, 32)
    assert [layer[f"conv{n}"].padding for n in (1, 2, 3)] == ["valid"] * 3
    assert [layer[f"conv{n}"].activation.__name__ for n in (1, 2, 3)] == ["relu"] * 3
    assert [layer[f"dropout{n}"].rate for n in (1, 2, 3)] == [0.1] * 3
    assert (layer["dense"].units, layer["dense"].activation.__name__) == (32, "linear")
    assert network.count_params() == 58_088


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("width", "blocks", "thousands"),
    [
        (1.0, [24, 32, 48], 66),
        (1.5, [24, 32, 48], 145),
        (1.0, [24, 24, 32, 32, 48, 48], 137),
        (1.5, [24, 24, 32, 32, 48, 48], 305),
    ],
)
def test_tcresnet_has_the_size_in_the_paper(width: float, blocks: list[int], thousands: int) -> None:
    """TC-ResNet8 and 14, at widths 1 and 1.5, have as many weights as in the paper's table 1, within 2 %."""
    model = TCResNet(width=width, stem=16, blocks=blocks, kernel=9, dropout=0.5)
    assert _trainable(_network(model, 98, 40, 12)) / 1000 == pytest.approx(thousands, rel=0.02)


@pytest.mark.tensorflow
@pytest.mark.parametrize(("width", "thousands"), [(1, 9.2), (2, 27.3), (3, 54.2), (6, 188), (8, 321)])
def test_bcresnet_has_the_size_in_the_paper(width: float, thousands: float) -> None:
    """BC-ResNet-1 to -8 have as many weights as in the paper's table 2, within 3 %."""
    model = BCResNet(width=width, subbands=5, dropout=0.1)
    assert _trainable(_network(model, 101, 40, 12)) / 1000 == pytest.approx(thousands, rel=0.03)


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("channels", "blocks", "kilobytes", "maps"),
    [
        (64, 4, 38.6, 2 * 25 * 5 * 64),
        (172, 4, 189.2, (25 * 10 + 13 * 5) * 172),
        (276, 5, 497.6, (25 * 10 + 13 * 5) * 276),
    ],
)
def test_dscnn_has_the_size_in_the_paper(channels: int, blocks: int, kilobytes: float, maps: int) -> None:
    """The weights of DS-CNN-S, M and L, one byte each, are the memory in the paper's table 7 less its maps.

    The paper counts a convolution and its normalisation as a kernel and a bias. Its memory also contains the
    two largest feature maps that are needed at once: `maps`, from the strides that it gives.
    """
    network = _network(DSCNN(channels=channels, blocks=blocks, dropout=0.2), 49, 10, 12)
    folded = [weight for weight in network.trainable_weights if weight.name != "gamma"]
    weights = sum(math.prod(weight.shape) for weight in folded)
    assert (weights + maps) / 1000 == pytest.approx(kilobytes, abs=0.1)


@pytest.mark.tensorflow
def test_a_bcresnet_block_adds_the_same_to_each_bin() -> None:
    """The path over time has one bin, whose values are added to all 20 bins."""
    network = _network(BCRESNET)
    assert network.get_layer("stage1_2_frames").output.shape[1:] == (98, 8)
    added = network.get_layer("stage1_2_add")
    assert [tensor.shape[1:] for tensor in added.input] == [(98, 20, 8), (98, 1, 8), (98, 20, 8)]


@pytest.mark.tensorflow
def test_the_resnet_halves_the_image_and_has_shortcuts() -> None:
    """The stem and the wider blocks halve 101 x 40. A block whose last scale is 0 returns its input."""
    import keras
    import numpy as np

    network = _network(ResNet(width=0.5, stem=8, blocks=[8, 16, 32], dropout=0.0), 101, 40)
    outputs = {name: network.get_layer(name).output for name in ("stem_relu", "block1_relu2", "block2_relu2")}
    shapes = [outputs[name].shape[1:] for name in outputs]
    assert shapes == [(51, 20, 4), (51, 20, 4), (26, 10, 8)]
    assert network.get_layer("block3_relu2").output.shape[1:] == (13, 5, 16)
    network.get_layer("block1_conv2_norm").gamma.assign(np.zeros(4))
    clips = np.random.default_rng(0).normal(size=(2, 101, 40))
    stem, block, _ = keras.Model(network.input, list(outputs.values())).predict(clips, verbose=0)
    assert stem.any()
    np.testing.assert_array_equal(block, stem)


def test_every_model_is_found_by_its_file_name() -> None:
    """The name of each file in pipeline/models gives its model."""
    names = [path.stem for path in (ROOT / "pipeline/models").glob("[a-z]*.py")]
    assert len(names) >= 6
    for name in names:
        assert issubclass(Model.by_name(name), Model)


def test_a_model_without_a_file_is_an_error() -> None:
    """The message says which file is expected."""
    with pytest.raises(PipelineError, match=r"vgg has no code: expected pipeline/models/vgg\.py"):
        Model.by_name("vgg")
