"""Read a .keras file: what it says of itself, its precision, and its network.

The file is a zip archive. It may be cut short, changed, or made by somebody else, so whatever is wrong with
it is one error. Nothing in it is run: Keras refuses to load Python code (`safe_mode`).
"""

import zipfile
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.records import again, check_file, first_line, parse_json

METADATA, CONFIG = "metadata.json", "config.json"
# The metadata and the config of a model have a few kilobytes. A forged zip archive may promise gigabytes.
LARGEST = 64 << 20


def entry(path: Path, name: str, *, remedy: str | None = None) -> bytes:
    """Return the content of the file `name` in the zip archive at `path`.

    `remedy` says what to do with a damaged file, in place of `again`. Raises PipelineError if the archive is
    missing or damaged, or has no such file, or one above 64 MiB.
    """
    check_file(path)
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                info = archive.getinfo(name)
                if info.file_size <= LARGEST:
                    return archive.read(info)
                problem = f"its {name} has {info.file_size} bytes, expected at most {LARGEST}"
        except KeyError:
            problem = f"it has no {name}"
        except Exception as error:  # noqa: BLE001 - zipfile raises many kinds of error for damaged archives
            is_zip = zipfile.is_zipfile(file)
            problem = first_line(error) if is_zip else "it is no zip archive, or its end is missing"
    raise PipelineError(f"Keras cannot load {path}: {problem}: {remedy or again(path)}")


def description(path: Path, *, remedy: str | None = None) -> dict[str, Any]:
    """Return the metadata of the .keras file at `path`, with the description that it was saved with.

    Raises PipelineError as `entry`, or if the metadata is not a JSON object.
    """
    content = entry(path, METADATA, remedy=remedy)
    return parse_json(content, dict[str, Any], f"{path}: {METADATA}", remedy=remedy or again(path))


def precision(path: Path, *, remedy: str | None = None) -> str:
    """Return the precision of the layers in the .keras file at `path`, as in `train.precision`.

    This reads only the file's config, without TensorFlow. Raises PipelineError as `entry`.
    """
    config = entry(path, CONFIG, remedy=remedy)
    names = ("mixed_bfloat16", "mixed_float16")
    return next((name for name in names if f'"{name}"'.encode() in config), "float32")


def load(path: Path, *, remedy: str | None = None) -> Any:
    """Return the network in the .keras file at `path`, a Keras model. TensorFlow is imported.

    Raises:
        PipelineError: the file is missing or damaged; Keras cannot load it; it contains Python code, such as
            a Lambda layer; it is not a model; or it has weights that are not finite.
    """
    check_file(path)
    with path.open("rb"):
        pass  # what forbids this is no fault of the file
    import keras
    import numpy as np

    try:
        network = keras.models.load_model(path, safe_mode=True)
        if not isinstance(network, keras.Model):
            raise TypeError(f"it contains a {type(network).__name__}, expected a model")  # noqa: TRY301
        for weight in network.weights:
            if not np.isfinite(keras.ops.convert_to_numpy(weight)).all():
                raise ValueError(f"its weights {weight.path} are not finite")  # noqa: TRY301
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - a forged file makes Keras raise any kind of error
        problem = first_line(error)
        if "safe_mode" in str(error):  # Keras advises to turn it off
            problem = "it contains Python code, such as a Lambda layer, which is not run"
        raise PipelineError(f"Keras cannot load {path}: {problem}: {remedy or again(path)}") from None
    return network
