"""A model's description of itself: its labels, the sound that it takes, its parameters, and licences.

Every exported format carries this as JSON, and so does `models/model.keras`. A .keras file is a zip archive,
and contains it in metadata.json. So does a .tflite file, which LiteRT allows to have a zip archive at its
end: `unzip -p model.tflite metadata.json` prints it. A folder contains a file metadata.json.
"""

import json
import zipfile
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, ValidationError

from pipeline.corpus.audio import Sound
from pipeline.errors import PipelineError
from pipeline.records import Name

METADATA, LABELS = "metadata.json", "labels.txt"
# The folder in a SavedModel for files that TensorFlow does not read.
EXTRA = "assets.extra"
REMEDY = "expected a model of this project, such as models/export/model.tflite"


class Named(BaseModel):
    """A section of params.yaml: its name and its parameters."""

    name: str
    params: dict[str, Any]


class Licence(BaseModel):
    """The licence of a part of the model."""

    part: str
    licence: str
    source: str


class Description(BaseModel):
    """A model's description of itself."""

    labels: Annotated[list[Name], Field(min_length=2)]
    audio: Sound
    feature: Named
    model: Named
    train: dict[str, Any]
    licences: list[Licence]

    @classmethod
    def of(cls, metadata: Any, path: Path, *, remedy: str = REMEDY) -> Self:
        """Return the description in `metadata`, JSON in bytes or its content, which the model at `path` has.

        `remedy` says what to do if there is none. Raises PipelineError if there is none.
        """
        try:
            if isinstance(metadata, (bytes, str)):
                return cls.model_validate_json(metadata)
            return cls.model_validate(metadata)
        except ValidationError:
            raise PipelineError(
                f"{path} does not say what its labels and its sample rate are: {remedy}"
            ) from None

    def texts(self) -> dict[str, str]:
        """Return the content of the files that describe the model, by their names."""
        content = json.dumps(self.model_dump(), indent=2, ensure_ascii=False)
        return {METADATA: content + "\n", LABELS: "".join(f"{label}\n" for label in self.labels)}

    def write(self, folder: Path) -> None:
        """Write these files into `folder`."""
        for name, text in self.texts().items():
            (folder / name).write_text(text, encoding="utf-8")


def append(description: Description, path: Path) -> None:
    """Append the description to the .tflite file at `path`, as a zip archive whose bytes have no date."""
    with zipfile.ZipFile(path, "a") as archive:
        for name, text in description.texts().items():
            archive.writestr(zipfile.ZipInfo(name), text)
