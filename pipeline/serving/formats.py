"""Load a model of any format, and run it: waveforms → probabilities."""

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from pipeline.errors import PipelineError
from pipeline.files import read_zipped_json
from pipeline.progress import quietly
from pipeline.serving import micro
from pipeline.serving.description import EXTRA, METADATA, Description

# (clips, samples) float32 → (clips, labels) float32.
Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
# The name of the signature, of its input and of its output, in every format that has such names.
SIGNATURE, INPUT, OUTPUT = "serving_default", "waveforms", "probabilities"


class Loaded(NamedTuple):
    """A loaded model."""

    run: Run
    description: Description


def load(path: Path, threads: int) -> Loaded:
    """Return the model at `path`: a .tflite, .onnx or .keras file, a SavedModel's folder, or `micro`.

    TensorFlow is imported only for the last two.

    Args:
        path: of the model.
        threads: how many threads run the model. TensorFlow chooses that itself.

    Raises:
        PipelineError: there is no such file, it is not a model, or it does not describe itself.
    """
    if not path.exists():
        raise PipelineError(
            f"{path} is missing: correct the path, or run dvc repro. If export did not write it, add its"
            " format to params.yaml: export.formats, or see in results/export.json why it cannot be written"
        )
    loaders = {".tflite": _litert, ".onnx": _onnx, ".keras": _keras}
    loader: Callable[[Path, int], tuple[Run, Any]]
    if path.is_dir():
        loader = _micro if (path / micro.NETWORK).exists() else _saved_model
    elif path.suffix in loaders:
        loader = loaders[path.suffix]
    else:
        raise PipelineError(
            f"{path} is not a model: expected a file that ends in .tflite, .onnx or .keras, or the folder of"
            " a SavedModel or of the files for micro-controllers"
        )
    try:
        run, metadata = loader(path, threads)
        return Loaded(run, Description.model_validate(metadata))
    except (zipfile.BadZipFile, KeyError, FileNotFoundError, ValidationError):
        raise PipelineError(
            f"{path} does not say what its labels and its sample rate are: expected a model of this project,"
            " such as models/export/model.tflite"
        ) from None


def _litert(path: Path, threads: int) -> tuple[Run, Any]:
    from ai_edge_litert.interpreter import Interpreter

    try:
        with quietly():
            interpreter = Interpreter(str(path), num_threads=threads)
            interpreter.allocate_tensors()
        signatures = interpreter.get_signature_list()
    except (ValueError, RuntimeError) as error:
        raise PipelineError(f"{path} is not a LiteRT model: {error}: export it again") from None
    if signatures.get(SIGNATURE, {}).get("inputs") != [INPUT]:
        raise PipelineError(
            f"{path} takes features, not waveforms: choose models/export/model.tflite, or another file that"
            " takes waveforms"
        )
    runner = interpreter.get_signature_runner(SIGNATURE)
    return lambda waveforms: np.copy(runner(**{INPUT: waveforms})[OUTPUT]), read_zipped_json(path, METADATA)


def _onnx(path: Path, threads: int) -> tuple[Run, Any]:
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidProtobuf

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except (Fail, InvalidArgument, InvalidProtobuf) as error:
        raise PipelineError(f"{path} is not an ONNX model: {error}: export it again") from None
    metadata = session.get_modelmeta().custom_metadata_map
    return lambda waveforms: session.run([OUTPUT], {INPUT: waveforms})[0], json.loads(metadata[METADATA])


def _saved_model(path: Path, threads: int) -> tuple[Run, Any]:
    del threads
    metadata = json.loads((path / EXTRA / METADATA).read_text(encoding="utf-8"))
    tf = _tensorflow()
    with quietly():
        loaded = tf.saved_model.load(str(path))
    signature = loaded.signatures[SIGNATURE]

    def run(waveforms: NDArray[np.float32], *, _owner: Any = loaded) -> NDArray[np.float32]:
        # A signature does not keep the model alive that it belongs to.
        return np.asarray(signature(tf.constant(waveforms))[OUTPUT])

    return run, metadata


def _micro(path: Path, threads: int) -> tuple[Run, Any]:
    del threads
    return micro.load(path), json.loads((path / METADATA).read_text(encoding="utf-8"))


def _keras(path: Path, threads: int) -> tuple[Run, Any]:
    del threads
    metadata = Description.model_validate(read_zipped_json(path, METADATA))
    tf = _tensorflow()
    import keras

    from pipeline.features import Feature

    sound = metadata.audio
    layer = Feature.restore(metadata.feature.params).layer(sound.sample_rate, sound.samples)
    network = keras.models.load_model(path)

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def probabilities(waveforms: Any) -> Any:
        return tf.nn.softmax(network(layer(waveforms), training=False))

    return lambda waveforms: np.asarray(probabilities(tf.constant(waveforms))), metadata.model_dump()


def _tensorflow() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quietly():
        import tensorflow as tf
    return tf
