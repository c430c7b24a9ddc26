"""The models' architectures."""

import pytest

from pipeline.errors import PipelineError
from pipeline.models import Model
from pipeline.models.cnn import Cnn
from pipeline.models.rnn import Rnn
from tests.conftest import ROOT


def _parameters(model: Model, frames: int, bins: int) -> int:
    import keras

    inputs = keras.Input((frames, bins))
    count: int = keras.Model(inputs, model.logits(inputs, 8)).count_params()
    return count


@pytest.mark.tensorflow
def test_the_rnn_has_one_lstm_and_one_dense_layer() -> None:
    """257 bins, 256 units: 4 gates of (257 + 256 + 1) x 256 weights, and 257 x 8 of the logits."""
    assert _parameters(Rnn(units=256, dropout=0.1), 134, 257) == 4 * (257 + 256 + 1) * 256 + 257 * 8


@pytest.mark.tensorflow
def test_the_cnn_has_three_convolutions_and_two_dense_layers() -> None:
    """134 x 257 become 2 x 32 after three maxima of 4 x 2; every weight is counted."""
    convolutions = (9 + 1) * 32 + (9 * 32 + 1) * 64 + (9 * 64 + 1) * 64
    dense = (2 * 32 * 64 + 1) * 64 + 65 * 8
    cnn = Cnn(filters=[32, 64, 64], pool=[4, 2], units=64, dropout=0.1)
    assert _parameters(cnn, 134, 257) == convolutions + dense


def test_every_model_is_found_by_its_files_name() -> None:
    """Each file of the folder is a model that its name leads to, without importing TensorFlow."""
    names = [path.stem for path in (ROOT / "pipeline" / "models").glob("[a-z]*.py")]
    assert names
    for name in names:
        assert issubclass(Model.named(name), Model)


def test_a_model_without_code_is_named() -> None:
    """A name without a file says which file is expected."""
    with pytest.raises(PipelineError, match=r"models\.vgg has no code: expected pipeline/models/vgg\.py"):
        Model.named("vgg")
