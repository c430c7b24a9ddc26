"""Export a trained model: waveform in, probabilities out, in formats that run without this project.

The feature's layer, the network and a softmax become one graph without variables, and each format is
converted from it:

===============  ====================  ====================================================
format           path                  content
===============  ====================  ====================================================
`saved_model`    `saved_model/`        float32; a second signature takes bytes of a WAV file
`litert`         `model.tflite`        float32
`litert_int8`    `model_int8.tflite`   the network in int8, the front end in float32
`onnx`           `model.onnx`          float32
`micro`          `micro/`              the front end in float32, the network in int8, each
                                       also as a C array
===============  ====================  ====================================================
"""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from pipeline.corpus.audio import Sound
from pipeline.features import FRONT_END, Feature
from pipeline.params import Section
from pipeline.progress import quietly
from pipeline.serving import micro
from pipeline.serving.description import EXTRA, Description, append
from pipeline.serving.formats import INPUT, OUTPUT, SIGNATURE

Format = Literal["saved_model", "litert", "litert_int8", "onnx", "micro"]
# Formats in which the network computes in float32, and so like Keras.
EXACT: tuple[Format, ...] = ("saved_model", "litert", "onnx")
PATHS: dict[Format, str] = {
    "saved_model": "saved_model",
    "litert": "model.tflite",
    "litert_int8": "model_int8.tflite",
    "onnx": "model.onnx",
    "micro": "micro",
}
# The version of ONNX's operators. onnxruntime has known it since 2023.
OPSET = 18
# The second signature of a SavedModel, and its input.
WAV = "wav"
# The name of the front end's output in the files for micro-controllers.
FEATURE = "feature"


class CannotConvertError(Exception):
    """Why a model cannot be converted to a format."""


class Export(Section):
    """`export`: which formats are written, and what int8 may cost."""

    formats: list[Format] = Field(max_length=100)
    calibration_clips: int = Field(ge=1, le=100_000)
    max_int8_loss: float = Field(ge=0, le=1)

    @field_validator("formats")
    @classmethod
    def _no_format_twice(cls, formats: list[Format]) -> list[Format]:
        if len(set(formats)) < len(formats):
            raise ValueError(f"must name each format once, is {', '.join(formats)}")
        return formats


class Exporter:
    """Writes a model in several formats.

    Args:
        network: a Keras model: features (clips, frames, bins) → logits (clips, labels).
        feature: that the network takes.
        description: of the model, which each artefact carries.
        calibration: waveforms (clips, samples) of training clips, by which the ranges of int8 are chosen.

    Raises NoLayerError if the feature cannot be computed inside a model.

    Attributes:
        network: the network as it is exported.
        recurrent: whether it has recurrent layers.
    """

    def __init__(
        self, network: Any, feature: Feature, description: Description, calibration: NDArray[np.float32]
    ) -> None:
        import keras

        self.network = portable(network)
        self.recurrent = '"unroll"' in json.dumps(self.network.get_config(), default=str)
        sound = description.audio
        layer = feature.layer(sound.sample_rate, sound.samples)
        # Micro-controllers have no float16.
        exact = feature.model_copy(update={"dtype": "float32"})
        self._exact_layer = exact.layer(sound.sample_rate, sound.samples)
        self._description = description
        self._calibration = calibration
        waveforms = keras.Input((sound.samples,), name=INPUT)
        softmax = keras.layers.Softmax(name=OUTPUT)
        model = keras.Model(waveforms, softmax(self.network(layer(waveforms))))
        self._frozen = _frozen(model, (None, sound.samples))

    def write(self, name: Format, path: Path) -> None:
        """Write the format `name` to `path`, a file or a folder.

        Raises CannotConvertError if the converter of this format does not know something in the model.
        """
        from tensorflow.lite.python.convert_phase import ConverterError

        writers: dict[Format, Callable[[Path], None]] = {
            "saved_model": self._saved_model,
            "litert": self._litert,
            "litert_int8": self._litert_int8,
            "onnx": self._onnx,
            "micro": self._micro,
        }
        try:
            with quietly():
                writers[name](path)
        except ConverterError as error:
            raise CannotConvertError(_first_line(error)) from None

    def _litert(self, path: Path) -> None:
        with _converter(self._frozen) as converter:
            path.write_bytes(converter.convert())
        append(self._description, path)

    def _litert_int8(self, path: Path) -> None:
        import tensorflow as tf

        with _converter(self._frozen) as converter:
            front_end = [name for name in _tensors(converter.convert()) if FRONT_END in name]
            _calibrate(converter, self._calibration)
            # This class also looks for the operations that lose most in int8, by running these clips.
            quantizer = tf.lite.experimental.QuantizationDebugger(
                converter=converter,
                debug_options=tf.lite.experimental.QuantizationDebugOptions(denylisted_nodes=front_end),
                debug_dataset=lambda: iter([[self._calibration[:1]]]),
            )
            path.write_bytes(quantizer.get_nondebug_quantized_model())
        append(self._description, path)

    def _onnx(self, path: Path) -> None:
        import onnx
        import tf2onnx

        frozen = self._frozen
        try:
            model, _ = tf2onnx.convert.from_graph_def(
                frozen.graph.as_graph_def(),
                input_names=[frozen.inputs[0].name],
                output_names=[frozen.outputs[0].name],
                opset=OPSET,
            )
            # tf2onnx writes an operation that it does not know as it is.
            onnx.checker.check_model(model)
        except (ValueError, RuntimeError, onnx.checker.ValidationError) as error:
            raise CannotConvertError(_first_line(error)) from None
        _rename(model.graph, {frozen.inputs[0].name: INPUT, frozen.outputs[0].name: OUTPUT})
        _renumber(model.graph)
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = "clips"
        onnx.helper.set_model_props(model, self._description.texts())
        path.write_bytes(model.SerializeToString(deterministic=True))

    def _saved_model(self, path: Path) -> None:
        import tensorflow as tf

        sound, frozen = self._description.audio, self._frozen
        labels = np.array(self._description.labels)

        def outputs(waveforms: Any) -> dict[str, Any]:
            probabilities = tf.reshape(frozen(waveforms)[0], (-1, len(labels)))
            return {OUTPUT: probabilities, "label": tf.gather(labels, tf.argmax(probabilities, axis=1))}

        def of_wav(wav: Any) -> dict[str, Any]:
            return outputs(_decode_wav(wav, sound)[None])

        signatures = {
            SIGNATURE: tf.function(outputs, [tf.TensorSpec((None, sound.samples), tf.float32, INPUT)]),
            WAV: tf.function(of_wav, [tf.TensorSpec((), tf.string, WAV)]),
        }
        _save(path, signatures)
        # This file contains a random number, and nothing that is needed to load the model.
        (path / "fingerprint.pb").unlink()
        (path / EXTRA).mkdir()
        self._description.write(path / EXTRA)

    def _micro(self, path: Path) -> None:
        import keras

        if self.recurrent:
            raise CannotConvertError("a recurrent network is unrolled, and then too large for such a device")
        one_clip = (1, *self._exact_layer.input_shape[1:])
        with _converter(_frozen(self._exact_layer, one_clip), output=FEATURE) as converter:
            front_end = converter.convert()
        features = self._exact_layer.predict(self._calibration, verbose=0)
        feature = keras.Input(batch_shape=(1, *features.shape[1:]), name=FEATURE)
        softmax = keras.layers.Softmax(name=OUTPUT)
        network = keras.Model(feature, softmax(self.network(feature)))
        with _converter(_frozen(network, feature.shape), name=FEATURE) as converter:
            _calibrate(converter, features)
            _in_int8(converter)
            micro.write(path, front_end, converter.convert(), self._description)


def portable(network: Any) -> Any:
    """Return the network with layers that every format has: in float32, and recurrent ones unrolled."""
    config = network.get_config()
    rewritten = _rewritten(config)
    if rewritten == config:
        return network
    copy = type(network).from_config(rewritten)
    copy.set_weights(network.get_weights())
    return copy


def _rewritten(config: Any) -> Any:
    if isinstance(config, (list, tuple)):
        return type(config)(_rewritten(value) for value in config)
    if not isinstance(config, dict):
        return config
    changed = {key: _rewritten(value) for key, value in config.items()}
    if "unroll" in changed:
        changed["unroll"] = True
    if "recurrent_dropout" in changed:
        # Even outside of training, dropout of a recurrent layer is in the graph.
        changed |= {"dropout": 0.0, "recurrent_dropout": 0.0}
    if changed.get("class_name") == "DTypePolicy":
        changed["config"] = {"name": "float32"}
    return changed


def _frozen(model: Any, shape: tuple[int | None, ...]) -> Any:
    """Return `model` as a concrete function of an input of that shape, without variables.

    It returns a list with one output, whose name is lost.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    function = tf.function(lambda values: model(values, training=False))
    return convert_variables_to_constants_v2(function.get_concrete_function(tf.TensorSpec(shape, tf.float32)))


@contextmanager
def _converter(frozen: Any, *, name: str = INPUT, output: str = OUTPUT) -> Iterator[Any]:
    """Yield LiteRT's converter for a frozen function, with the names of its input and its output."""
    import tensorflow as tf

    named = tf.function(lambda values: {output: frozen(values)[0]})
    spec = tf.TensorSpec(frozen.inputs[0].shape, tf.float32, name)
    # The converter loses the names if it takes a function that it cannot save, such as one with gradients.
    with tempfile.TemporaryDirectory() as folder:
        _save(Path(folder), {SIGNATURE: named.get_concrete_function(spec)})
        yield tf.lite.TFLiteConverter.from_saved_model(folder, [SIGNATURE])


def _save(folder: Path, signatures: dict[str, Any]) -> None:
    """Write a SavedModel with these functions."""
    import tensorflow as tf

    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(tf.Module(), str(folder), signatures, options)


def _calibrate(converter: Any, clips: NDArray[np.float32]) -> None:
    """Make `converter` use int8 where it can, with ranges from `clips`."""
    import tensorflow as tf

    def inputs() -> Iterator[list[NDArray[np.float32]]]:
        for clip in clips:
            yield [clip[None]]

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = inputs


def _in_int8(converter: Any) -> None:
    """Make `converter` use nothing but int8, also for input and output."""
    import tensorflow as tf

    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8


def _tensors(model: bytes) -> list[str]:
    """Return the names of all tensors in a .tflite file."""
    from ai_edge_litert.interpreter import Interpreter

    return [tensor["name"] for tensor in Interpreter(model_content=model).get_tensor_details()]


def _decode_wav(content: Any, sound: Sound) -> Any:
    """Return the waveform (samples,) in the bytes of a WAV file, as `pipeline.corpus.audio.decode` does."""
    import tensorflow as tf

    recording, rate = tf.audio.decode_wav(content)
    tf.debugging.assert_equal(
        rate, sound.sample_rate, f"the sample rate must be {sound.sample_rate} Hz: resample the file"
    )
    mono = tf.reduce_mean(recording, axis=1)[: sound.samples]
    missing = sound.samples - tf.size(mono)
    fill = mono[-1:] if sound.padding == "edge" else tf.zeros(1)
    return tf.ensure_shape(tf.concat([mono, tf.repeat(fill, missing)], axis=0), (sound.samples,))


def _rename(graph: Any, names: dict[str, str]) -> None:
    """Rename nodes and values of an ONNX graph."""
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for named in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        named.name = names.get(named.name, named.name)


def _renumber(graph: Any) -> None:
    """Number constants and other numbered names of an ONNX graph by where they are used.

    tf2onnx numbers them in no fixed order, and of equal constants it keeps any one.
    """
    constants = {constant.name for constant in graph.initializer}
    names: dict[str, str] = {}
    for node in graph.node:
        for name in (node.name, *node.input, *node.output):
            stem, _, number = name.rpartition("__")
            if name in constants:
                names.setdefault(name, f"constant__{len(names)}")
            elif stem and number.isdecimal():
                names.setdefault(name, f"{stem}__{len(names)}")
    _rename(graph, names)
    ordered = sorted(graph.initializer, key=lambda constant: constant.name)
    del graph.initializer[:]
    graph.initializer.extend(ordered)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def size(path: Path) -> int:
    """Return the bytes of the file or the folder at `path`, as they are where the model runs."""
    if path.name == PATHS["micro"]:
        return micro.size(path)
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
