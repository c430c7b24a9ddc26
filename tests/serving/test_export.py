"""Exported models: each says what Keras says, describes itself, and is the same bytes each time."""

import ast
import hashlib
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from pipeline.models import Model
from pipeline.serving import Predictor, formats, micro
from pipeline.serving.export import EXACT, PATHS, Format, portable
from tests.learning.make import MODELS, SPEECH
from tests.project import ROOT
from tests.serving import device, make

pytestmark = pytest.mark.tensorflow

ALL: dict[str, Model] = {**MODELS, "speech": SPEECH}
SMALL = MODELS["dscnn"]


class Exported(NamedTuple):
    """A trained network and its artefacts, in all formats."""

    name: str
    folder: Path
    expected: NDArray[np.float32]  # (clips, labels): Keras's probabilities of `make.waveforms`


@pytest.fixture(scope="module", params=ALL)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Each model, trained on the feature that it takes."""
    folder = tmp_path_factory.mktemp(request.param)
    feature = make.FEATURES["logmel"].model_copy(update={"n_mels": 32} if request.param == "speech" else {})
    formats_ = [name for name in PATHS if (request.param, name) != ("rnn", "micro")]
    net = make.export(folder, ALL[request.param], feature, *formats_)
    return Exported(request.param, folder, make.expected(net, feature, make.waveforms()))


def _apart(name: Format, folder: Path, expected: NDArray[np.float32]) -> float:
    """Return how far the probabilities of a format are from those expected, at most."""
    found = formats.load(folder / PATHS[name], threads=1).run(make.waveforms())
    return float(np.abs(found - expected).max())


def test_every_model_says_what_keras_says(exported: Exported) -> None:
    """SavedModel, LiteRT and ONNX are within 1e-4 of Keras on the stored feature, int8 within 0.1.

    The deep network of `speech` is not calibrated by so few clips, so its int8 is only run.
    """
    assert np.ptp(exported.expected, axis=0).max() > 0.3  # the clips differ
    for name in PATHS:
        if (exported.name, name) == ("rnn", "micro"):
            continue
        apart = _apart(name, exported.folder, exported.expected)
        if name in EXACT:
            assert apart < 1e-4, name
        elif exported.name != "speech":
            assert apart < 0.1, name


def test_a_micro_controller_computes_the_same(exported: Exported) -> None:
    """The front end is within 1e-3 of LiteRT's, and the network's int8 are those of LiteRT's reference."""
    if exported.name == "rnn":
        pytest.skip("an unrolled LSTM is too large for micro-controllers")
    folder, clips = exported.folder / PATHS["micro"], make.waveforms()[:, None]
    front_end, network = ((folder / name).read_bytes() for name in (micro.FRONT_END, micro.NETWORK))
    here = micro.Model(front_end)
    features = np.stack([here(clip) for clip in clips])
    assert np.abs(device.run(front_end, clips) - features).max() < 1e-3
    there = micro.Model(network, reference=True)
    assert there.input["dtype"] == there.output["dtype"] == np.int8
    inputs = micro.quantized(features, there.input)
    expected = micro.quantized(np.stack([there(feature) for feature in features]), there.output)
    np.testing.assert_array_equal(device.run(network, inputs), expected)


def test_batches_of_any_size_are_classified(folder: Path) -> None:
    """One clip, some, and then one again have the same probabilities as in the whole batch."""
    clips = make.waveforms()
    for name in ("saved_model", "litert", "litert_int8", "onnx"):
        run = formats.load(folder / PATHS[name], threads=2).run
        whole = run(clips)
        for size in (1, 5, 1):
            np.testing.assert_allclose(run(clips[:size]), whole[:size], atol=1e-6, err_msg=name)


@pytest.mark.parametrize("name", ["mfcc", "stft", "logmel float16"])
def test_every_feature_is_in_the_model(name: str, tmp_path: Path) -> None:
    """So it is for the other features, in every format. Values of float16 may be rounded to another one."""
    kind, _, dtype = name.partition(" ")
    feature = make.FEATURES[kind].model_copy(update={"dtype": dtype or "float32"})
    net = make.export(tmp_path, SMALL, feature, *PATHS)
    expected = make.expected(net, feature, make.waveforms())
    for format_ in PATHS:
        bound = (1e-3 if dtype else 1e-4) if format_ in EXACT else 0.1
        assert _apart(format_, tmp_path, expected) < bound, format_
    # The front end runs on a micro-controller.
    device.run((tmp_path / "micro" / micro.FRONT_END).read_bytes(), make.waveforms()[:1, None])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small model in all formats."""
    folder = tmp_path_factory.mktemp("export")
    make.export(folder, SMALL, make.FEATURES["logmel"], *PATHS)
    return folder


def test_each_format_describes_itself(folder: Path) -> None:
    """Labels, sound, parameters and licences are in each artefact, where its format has room for them."""
    wanted = make.description(SMALL, make.FEATURES["logmel"])
    for name in ("saved_model", "litert", "litert_int8", "onnx"):
        assert formats.load(folder / PATHS[name], 1).description == wanted
    assert json.loads((folder / "micro/metadata.json").read_text()) == wanted.model_dump()
    with zipfile.ZipFile(folder / "model.tflite") as archive:
        assert archive.read("labels.txt") == b"go\nstop\nyes\n"
    assert wanted.licences[0].licence == "MIT"
    assert wanted.model.params["channels"] == 8


def test_the_pretrained_weights_have_their_licence() -> None:
    """A model with Google's weights names their licence and where they are from."""
    licences = {licence["part"]: licence for licence in SPEECH.licences()}
    assert licences["pretrained weights"]["licence"] == "Apache-2.0"
    assert "kaggle.com/models/google/speech-embedding" in licences["pretrained weights"]["source"]
    assert len(SPEECH.model_copy(update={"weights": None}).licences()) == 1


def test_only_the_network_is_in_int8(folder: Path) -> None:
    """In the int8 file, convolutions have int8 weights, and the front end has float32 values."""
    from ai_edge_litert.interpreter import Interpreter

    tensors = Interpreter(str(folder / "model_int8.tflite")).get_tensor_details()
    front_end = [tensor for tensor in tensors if "front_end" in tensor["name"]]
    assert len(front_end) > 20
    assert {tensor["dtype"] for tensor in front_end} <= {np.float32, np.int32}
    kernels = [tensor for tensor in tensors if "pointwise" in tensor["name"] and len(tensor["shape"]) == 4]
    assert kernels
    assert {tensor["dtype"] for tensor in kernels} == {np.int8}


def test_a_recurrent_network_is_unrolled_and_a_mixed_one_is_in_float32() -> None:
    """The exported copy of a network has the same weights; other networks are not copied."""
    import keras

    inputs = keras.Input((6, 4))
    keras.config.set_dtype_policy("mixed_bfloat16")
    hidden = keras.layers.LSTM(3, dropout=0.5)(inputs)
    keras.config.set_dtype_policy("float32")
    net = keras.Model(inputs, keras.layers.Activation("linear", dtype="float32")(hidden))
    copy = portable(net)
    lstm = copy.layers[1]
    assert lstm.unroll
    assert lstm.dtype_policy.name == "float32"
    for one, other in zip(net.get_weights(), copy.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    # Processors without BF16 cannot run `net`.
    assert np.asarray(copy(np.ones((2, 6, 4), np.float32))).shape == (2, 3)
    cell = keras.Model(inputs, keras.layers.RNN(keras.layers.GRUCell(3, dropout=0.5))(inputs))
    assert portable(cell).layers[1].unroll
    plain = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    assert portable(plain) is plain


def test_a_wav_file_can_be_sent_to_a_saved_model(folder: Path, tmp_path: Path) -> None:
    """The signature `wav` decodes 16 bits as `decode` does, of any length and number of channels.

    It refuses another sample rate, and says which one it takes.
    """
    import tensorflow as tf

    from pipeline.corpus.audio import decode

    loaded = tf.saved_model.load(str(folder / "saved_model"))
    run = formats.load(folder / "saved_model", 1).run
    for samples, channels in ((8000, 1), (3000, 1), (20000, 2)):
        sound = np.random.default_rng(samples).uniform(-0.5, 0.5, (samples, channels))
        soundfile.write(tmp_path / "x.wav", sound, 16000)
        content = (tmp_path / "x.wav").read_bytes()
        outputs = loaded.signatures["wav"](tf.constant(content))
        waveforms, _ = decode([content], **make.AUDIO)
        np.testing.assert_allclose(outputs["probabilities"], run(waveforms), atol=1e-6)
        label = outputs["label"].numpy()[0].decode()
        assert label == make.LABELS[int(outputs["probabilities"].numpy().argmax())]
    soundfile.write(tmp_path / "y.wav", np.zeros(8000), 8000)
    with pytest.raises(tf.errors.InvalidArgumentError, match="the sample rate must be 16000 Hz"):
        loaded.signatures["wav"](tf.constant((tmp_path / "y.wav").read_bytes()))


def test_equal_models_are_equal_files(tmp_path: Path) -> None:
    """Two processes, in which Python's sets have other orders, write the same bytes."""
    code = (
        "import sys; from pathlib import Path; from tests.learning.make import MODELS;"
        "from tests.serving import make; from pipeline.serving.export import PATHS;"
        "make.export(Path(sys.argv[1]), MODELS['dscnn'], make.FEATURES['logmel'], *PATHS)"
    )
    processes = []
    for seed in ("1", "7"):
        (tmp_path / seed).mkdir()
        command = [sys.executable, "-c", code, str(tmp_path / seed)]
        processes.append(subprocess.Popen(command, cwd=ROOT, env={"PYTHONHASHSEED": seed}))
    assert [process.wait() for process in processes] == [0, 0]
    assert _digests(tmp_path / "1") == _digests(tmp_path / "7")


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert len(files) > 10
    return {str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest() for path in files}


def test_a_format_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    """The message names an operation that only TensorFlow knows, or says that the network is recurrent."""
    import keras
    import tensorflow as tf

    from pipeline.serving.export import CannotConvertError

    feature = make.FEATURES["logmel"]
    net = make.network(SMALL, feature)

    class Odd(keras.layers.Layer):  # type: ignore[misc]
        def call(self, values: Any) -> Any:
            return tf.math.bessel_i0e(values)

    odd = keras.Model(net.input, Odd()(net.output))
    recurrent = make.exporter(MODELS["rnn"], feature)
    with pytest.raises(CannotConvertError, match="a recurrent network is unrolled, and then too large"):
        recurrent.write("micro", tmp_path / "micro")
    assert not (tmp_path / "micro").exists()
    exporter = make.exporter(SMALL, feature, odd)
    for name in ("litert", "onnx"):
        with pytest.raises(CannotConvertError, match=r"(?i)bessel"):
            exporter.write(name, tmp_path / PATHS[name])


def test_an_artefact_runs_without_this_project(folder: Path, tmp_path: Path) -> None:
    """The client in docs/serving.md classifies a file in an empty folder, with only numpy and LiteRT."""
    text = (ROOT / "docs/serving.md").read_text(encoding="utf-8")
    client = re.search(r"```python\n(# client\.py.*?)```", text, re.DOTALL)
    assert client
    code = client[1] + "print(sorted({name.partition('.')[0] for name in sys.modules}))"
    (tmp_path / "client.py").write_text(code, encoding="utf-8")
    (tmp_path / "model.tflite").write_bytes((folder / "model.tflite").read_bytes())
    for samples in (8000, 5000, 9000):
        sound = make.waveforms()[0].repeat(2)[:samples]
        soundfile.write(tmp_path / "x.wav", sound, 16000)
        command = [sys.executable, "-P", "client.py", "model.tflite", "x.wav"]
        result = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True, check=True)
        answer, modules = result.stdout.splitlines()
        assert not {"pipeline", "tensorflow", "keras", "soundfile"} & set(ast.literal_eval(modules))
        [prediction] = Predictor(folder / "model.tflite").files([tmp_path / "x.wav"])
        label, probability = answer.split()
        assert label == prediction.label
        assert float(probability) == pytest.approx(prediction.probability, abs=1e-6)
