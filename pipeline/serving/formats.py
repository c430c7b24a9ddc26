"""Load a model of any format, and run it: waveforms → probabilities."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline import kerasfile
from pipeline.errors import PipelineError
from pipeline.progress import quietly
from pipeline.records import check_file, first_line
from pipeline.serving import micro
from pipeline.serving.description import EXTRA, METADATA, Description

# (clips, samples) float32 → (clips, labels) float32.
Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
AGAIN = "run dvc repro -f export, or copy it again"
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
    run, metadata = loader(path, threads)
    description = Description.of(metadata, path)
    return Loaded(partial(_run, run, path, description), description)


def _run(
    run: Run, path: Path, description: Description, waveforms: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Run a model that may not be what its description says."""
    try:
        probabilities = run(waveforms)
    except Exception as error:  # noqa: BLE001 - a forged model makes its library raise any kind of error
        samples = description.audio.samples
        raise PipelineError(
            f"{path} fails on waveforms of {samples} samples, which it says that it takes:"
            f" {first_line(error)}: {AGAIN}"
        ) from None
    expected = len(waveforms), len(description.labels)
    if probabilities.shape != expected:
        raise PipelineError(
            f"{path} returns probabilities of the shape {probabilities.shape}, expected {expected}, clips and"
            f" labels: {AGAIN}"
        )
    return probabilities


def _litert(path: Path, threads: int) -> tuple[Run, Any]:
    from ai_edge_litert.interpreter import Interpreter

    check_file(path)
    with _named(path, "a LiteRT model"):
        with quietly():
            interpreter = Interpreter(str(path), num_threads=threads)
            interpreter.allocate_tensors()
        signatures = interpreter.get_signature_list()
    if signatures.get(SIGNATURE, {}).get("inputs") != [INPUT]:
        raise PipelineError(
            f"{path} takes features, not waveforms: choose models/export/model.tflite, or another file that"
            " takes waveforms"
        )
    runner = interpreter.get_signature_runner(SIGNATURE)
    return lambda waveforms: np.copy(runner(**{INPUT: waveforms})[OUTPUT]), _zipped(path)


def _onnx(path: Path, threads: int) -> tuple[Run, Any]:
    import onnxruntime

    check_file(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    with _named(path, "an ONNX model"):
        # Otherwise it prints some errors, and tries the same again.
        session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
        metadata = session.get_modelmeta().custom_metadata_map
    return lambda waveforms: session.run([OUTPUT], {INPUT: waveforms})[0], metadata.get(METADATA)


def _saved_model(path: Path, threads: int) -> tuple[Run, Any]:
    del threads
    metadata = _text(path / EXTRA / METADATA)
    Description.of(metadata, path)  # before TensorFlow is imported
    tf = _tensorflow()
    with _named(path, "a SavedModel"):
        with quietly():
            loaded = tf.saved_model.load(str(path))
        signature = loaded.signatures[SIGNATURE]

    def run(waveforms: NDArray[np.float32], *, _owner: Any = loaded) -> NDArray[np.float32]:
        # A signature does not keep the model alive that it belongs to.
        return np.asarray(signature(tf.constant(waveforms))[OUTPUT])

    return run, metadata


def _micro(path: Path, threads: int) -> tuple[Run, Any]:
    del threads
    with _named(path, "a model for micro-controllers"):
        run = micro.load(path)
    return run, _text(path / METADATA)


def _keras(path: Path, threads: int) -> tuple[Run, Any]:
    del threads
    metadata = Description.of(_zipped(path), path)
    tf = _tensorflow()

    from pipeline.features import Feature

    sound = metadata.audio
    layer = Feature.restore(metadata.feature.params).layer(sound.sample_rate, sound.samples)
    network = kerasfile.load(path)

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def probabilities(waveforms: Any) -> Any:
        return tf.nn.softmax(network(layer(waveforms), training=False))

    return lambda waveforms: np.asarray(probabilities(tf.constant(waveforms))), metadata.model_dump()


@contextmanager
def _named(path: Path, kind: str) -> Iterator[None]:
    """Turn any error of a library that loads the model at `path` into one that names it."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged model makes its library raise any kind of error
        raise PipelineError(f"{path} is not {kind}: {first_line(error)}: {AGAIN}") from None


def _zipped(path: Path) -> bytes | None:
    """Return the description in the zip archive at `path`, or None if there is none."""
    try:
        return kerasfile.entry(path, METADATA)
    except PipelineError:
        return None


def _text(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _tensorflow() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quietly():
        import tensorflow as tf
    return tf
