"""Save a Keras model so that equal models are equal files, and see whether one fits a store."""

import json
import re
import zipfile
from pathlib import Path
from typing import Any

from pipeline.files import atomic_write
from pipeline.kerasfile import CONFIG, METADATA
from pipeline.store.layout import Store


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
                elif name == CONFIG:
                    content = _number_shared_objects(content)
                new.writestr(zipfile.ZipInfo(name), content)


def misfit(network: Any, described: dict[str, Any], store: Store, labels: list[str]) -> str | None:
    """Return why `network` cannot be used on the clips of `store`, or None if it can.

    Args:
        network: a Keras model, as `kerasfile.load` returns it.
        described: its description, as `kerasfile.description` returns it.
        store: a feature.
        labels: of the task, sorted.
    """
    shapes = network.input_shape, network.output_shape
    expected = (None, *store.shape[1:]), (None, len(labels))
    if shapes != expected:
        return (
            f"takes {_by(shapes[0])} (frames, bins) and returns {_by(shapes[1])} logits, expected"
            f" {_by(expected[0])}, the shape of {store.path}, and {len(labels)}, the number of labels"
        )
    missing = {"labels", "feature"} - described.keys()
    if missing:
        return f"does not say its {' and '.join(sorted(missing))}, as every model of this pipeline does"
    known = described["labels"]
    if known != labels:
        names = ", ".join(map(str, known)) if isinstance(known, list) else repr(known)
        return f"was trained on the labels {names}, expected {', '.join(labels)}"
    feature = described["feature"]
    taken = feature.get("params") if isinstance(feature, dict) else feature
    stored = store.params["feature"].get("params")
    if taken != stored:
        return f"was trained on a feature with {taken}, {store.path} has {stored}"
    return None


def _by(shape: Any) -> str:
    """Return a shape without its first dimension, the clips."""
    return " x ".join(map(str, shape[1:])) if isinstance(shape, tuple) else str(shape)


def _number_shared_objects(config: bytes) -> bytes:
    numbers: dict[bytes, int] = {}
    return re.sub(
        rb'(?<="shared_object_id": )\d+',
        lambda address: str(numbers.setdefault(address[0], len(numbers) + 1)).encode(),
        config,
    )
