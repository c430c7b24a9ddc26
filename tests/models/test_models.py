"""The models' architectures."""

import math
import sys
from typing import Any

import pytest

from pipeline.errors import PipelineError
from pipeline.models import Model
from pipeline.models.bcresnet import Bcresnet
from pipeline.models.cnn import Cnn
from pipeline.models.dscnn import Dscnn
from pipeline.models.resnet import Resnet
from pipeline.models.rnn import Rnn
from pipeline.models.tcresnet import Tcresnet
from pipeline.models.transfer import Transfer
from tests.project import ROOT

BCRESNET = Bcresnet(width=1.0, subbands=5, dropout=0.1)


def _network(model: Model, frames: int = 98, bins: int = 40, labels: int = 8) -> Any:
    import keras

    inputs = keras.Input((frames, bins))
    return keras.Model(inputs, model.logits(inputs, labels))


def _multiply_adds(network: Any) -> int:
    """Return how many multiplications a clip takes in convolutions and dense layers."""
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


def _short(number: float) -> str:
    """Return 9.1 k, 54 k, 318 k, 1.5 M, 107 M: two digits, three where there are as many."""
    unit, scaled = ("M", number / 1e6) if number >= 1e6 else ("k", number / 1e3)
    return f"{scaled:.1f} {unit}" if scaled < 9.95 else f"{scaled:.0f} {unit}"


RNN = Rnn(units=256, dropout=0.1)
CNN = Cnn(filters=[32, 64, 64], pool=[[4, 2]] * 3, padding="same", units=64, dropout=0.1)
NOTEBOOKS = Cnn(filters=[32, 64, 64], pool=[[2, 2], [2, 2], [1, 1]], padding="valid", units=64, dropout=0.0)
TC = {"TC-ResNet8": [24, 32, 48], "TC-ResNet14": [24, 24, 32, 32, 48, 48]}


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("row", "model", "shape"),
    [
        ("134 x 257, STFT", RNN, (134, 257)),
        ("138 x 39, MFCC", RNN, (138, 39)),
        ("the notebook's", NOTEBOOKS, (134, 257)),
        ("padding same, maxima of 4 x 2, as here", CNN, (134, 257)),
        *(
            (
                f"{name} {width}",
                Tcresnet(width=width, stem=16, blocks=TC[name], kernel=9, dropout=0.5),
                (98, 40),
            )
            for name, width in [("TC-ResNet8", 1.0), ("TC-ResNet8", 1.5)]
            + [("TC-ResNet14", width) for width in (1.0, 1.5, 2.0)]
        ),
        *((str(width), Bcresnet(width=width, subbands=5, dropout=0.1), (98, 40)) for width in (1, 2, 3, 8)),
        *(
            (str(width), Resnet(width=width, stem=32, blocks=[32, 64, 128], dropout=0.3), (101, 40))
            for width in (0.5, 1.0, 1.5, 2.0)
        ),
        *(
            (f"{channels} {blocks}", Dscnn(channels=channels, blocks=blocks, dropout=0.2), (98, 40))
            for channels, blocks in ((64, 4), (172, 4), (276, 5))
        ),
        *(
            (
                backbone,
                Transfer(
                    backbone=backbone, weights=None, image=96, frozen_epochs=5, fine_tuning=0.1, dropout=0.2
                ),
                (98, 40),
            )
            for backbone in ("MobileNetV3Small", "MobileNetV2", "EfficientNetB0")
        ),
    ],
)
def test_the_documented_size_is_the_networks(row: str, model: Model, shape: tuple[int, int]) -> None:
    """Trainable parameters and multiply-adds are those that the model's file tells."""
    network = _network(model, *shape)
    expected = f"{row} {_short(_trainable(network))} {_short(_multiply_adds(network))}"
    lines = str(sys.modules[type(model).__module__].__doc__).splitlines()
    assert expected in [" ".join(line.split()) for line in lines]


@pytest.mark.tensorflow
def test_the_rnn_has_one_lstm_and_one_dense_layer() -> None:
    """257 bins, 256 units: 4 gates of (257 + 256 + 1) x 256 weights, and 257 x 8 of the logits."""
    network = _network(Rnn(units=256, dropout=0.1), 134, 257)
    assert network.count_params() == 4 * (257 + 256 + 1) * 256 + 257 * 8


@pytest.mark.tensorflow
def test_the_cnn_has_three_convolutions_and_two_dense_layers() -> None:
    """134 x 257 become 2 x 32 after three maxima of 4 x 2; every weight is counted."""
    convolutions = (9 + 1) * 32 + (9 * 32 + 1) * 64 + (9 * 64 + 1) * 64
    dense = (2 * 32 * 64 + 1) * 64 + 65 * 8
    cnn = Cnn(filters=[32, 64, 64], pool=[[4, 2]] * 3, padding="same", units=64, dropout=0.1)
    assert _network(cnn, 134, 257).count_params() == convolutions + dense


@pytest.mark.tensorflow
def test_the_notebooks_cnn_can_be_had() -> None:
    """Convolutions of 32, 64 and 64 without padding, 2 x 2 maxima between them, dense layers of 64 and 8."""
    cnn = Cnn(filters=[32, 64, 64], pool=[[2, 2], [2, 2], [1, 1]], padding="valid", units=64, dropout=0.0)
    network = _network(cnn, 138, 39)
    shapes = [layer.output.shape[1:] for layer in network.layers if layer.name[:4] in ("conv", "pool")]
    assert shapes == [(136, 37, 32), (68, 18, 32), (66, 16, 64), (33, 8, 64), (31, 6, 64)]
    assert network.get_layer("dense").kernel.shape == (31 * 6 * 64, 64)


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
def test_the_tcresnets_are_those_of_the_paper(width: float, blocks: list[int], thousands: int) -> None:
    """TC-ResNet8 and 14, at widths 1 and 1.5, have the weights of the paper's table 1, on 40 x 98."""
    model = Tcresnet(width=width, stem=16, blocks=blocks, kernel=9, dropout=0.5)
    assert _trainable(_network(model, 98, 40, 12)) / 1000 == pytest.approx(thousands, rel=0.02)


@pytest.mark.tensorflow
@pytest.mark.parametrize(("width", "thousands"), [(1, 9.2), (2, 27.3), (3, 54.2), (6, 188), (8, 321)])
def test_the_bcresnets_are_those_of_the_paper(width: float, thousands: float) -> None:
    """BC-ResNet-1 to -8 have the weights of the paper's table 2, on its 40 bins and 12 labels."""
    model = Bcresnet(width=width, subbands=5, dropout=0.1)
    assert _trainable(_network(model, 101, 40, 12)) / 1000 == pytest.approx(thousands, rel=0.03)


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("channels", "blocks", "kilobytes"), [(64, 4, 38.6), (172, 4, 189.2), (276, 5, 497.6)]
)
def test_the_dscnns_are_about_those_of_the_paper(channels: int, blocks: int, kilobytes: float) -> None:
    """DS-CNN-S, M and L fit in the memory of the paper's table 7: a byte a weight, and two feature maps."""
    model = Dscnn(channels=channels, blocks=blocks, dropout=0.2)
    assert _network(model, 49, 10, 12).count_params() / 1000 < kilobytes


@pytest.mark.tensorflow
def test_a_block_of_bcresnet_adds_over_time_what_all_bins_have_in_common() -> None:
    """With a silent identity, what the path over time adds to a frame is the same for each bin."""
    network = _network(BCRESNET)
    assert network.get_layer("stage1_2_frames").output.shape[1:] == (98, 8)
    added = network.get_layer("stage1_2_add")
    assert [tensor.shape[1:] for tensor in added.input] == [(98, 20, 8), (98, 1, 8), (98, 20, 8)]


@pytest.mark.tensorflow
def test_the_resnet_halves_the_image_where_channels_grow_and_adds_to_it() -> None:
    """101 x 40 is halved by the stem and the wider blocks; a block whose last scale is 0 passes its input."""
    import keras
    import numpy as np

    network = _network(Resnet(width=0.5, stem=8, blocks=[8, 16, 32], dropout=0.0), 101, 40)
    outputs = {name: network.get_layer(name).output for name in ("stem_relu", "block1_relu2", "block2_relu2")}
    shapes = [outputs[name].shape[1:] for name in outputs]
    assert shapes == [(51, 20, 4), (51, 20, 4), (26, 10, 8)]
    assert network.get_layer("block3_relu2").output.shape[1:] == (13, 5, 16)
    network.get_layer("block1_conv2_norm").gamma.assign(np.zeros(4))
    clips = np.random.default_rng(0).normal(size=(2, 101, 40))
    stem, block, _ = keras.Model(network.input, list(outputs.values())).predict(clips, verbose=0)
    assert stem.any()
    np.testing.assert_array_equal(block, stem)


def test_every_model_is_found_by_its_files_name() -> None:
    """Each file of the folder is a model that its name leads to, without importing TensorFlow."""
    names = [path.stem for path in (ROOT / "pipeline/models").glob("[a-z]*.py")]
    assert len(names) >= 6
    for name in names:
        assert issubclass(Model.named(name), Model)


def test_a_model_without_code_is_named() -> None:
    """A name without a file says which file is expected."""
    with pytest.raises(PipelineError, match=r"models\.vgg has no code: expected pipeline/models/vgg\.py"):
        Model.named("vgg")
