"""Save a Keras model so that equal models are equal files."""

import json
import re
import zipfile
from pathlib import Path
from typing import Any

from pipeline.files import atomic_write, read_zipped_json

METADATA = "metadata.json"


def save(model: Any, path: Path, description: dict[str, Any] | None = None) -> None:
    """Write `model` to `path`, a .keras file whose bytes depend only on the model and its description.

    Keras writes the time into the file's metadata and into the zip archive around it, and memory addresses
    into its config to mark shared objects. The time is removed, and the addresses are numbered.

    Args:
        model: the Keras model.
        path: of the file.
        description: JSON that is added to the file's metadata. Keras ignores it.
    """
    with atomic_write(path) as part:
        dated = part.with_name("dated.keras")
        model.save(dated)
        with zipfile.ZipFile(dated) as old, zipfile.ZipFile(part, "w") as new:
            for name in sorted(old.namelist()):
                content = old.read(name)
                if name == METADATA:
                    metadata = {**json.loads(content), "date_saved": None, **(description or {})}
                    content = json.dumps(metadata).encode()
                elif name == "config.json":
                    content = _number_shared_objects(content)
                new.writestr(zipfile.ZipInfo(name), content)


def description(path: Path) -> dict[str, Any]:
    """Return the metadata of the .keras file at `path`, with the description that it was saved with."""
    metadata: dict[str, Any] = read_zipped_json(path, METADATA)
    return metadata


def precision(path: Path) -> str:
    """Return the precision of the layers in the .keras file at `path`, as in `train.precision`.

    This reads only the file's config, without TensorFlow.
    """
    with zipfile.ZipFile(path) as file:
        config = file.read("config.json").decode()
    return next((name for name in ("mixed_bfloat16", "mixed_float16") if f'"{name}"' in config), "float32")


def _number_shared_objects(config: bytes) -> bytes:
    numbers: dict[bytes, int] = {}
    return re.sub(
        rb'(?<="shared_object_id": )\d+',
        lambda address: str(numbers.setdefault(address[0], len(numbers) + 1)).encode(),
        config,
    )
