"""What a stage's last run left behind, so that the next one computes only what is new.

DVC deletes a stage's outputs before it runs the stage, and would stop sharing its runs if told not to
(`persist`). So each run links its outputs, which costs no space, into a folder that is no output:
data/kept/<stage>. It may be deleted at any time.
"""

import json
import os
import shutil
from importlib.metadata import version
from pathlib import Path

import pipeline
from pipeline.files import replacing
from pipeline.store.layout import digests

KEPT = Path("data/kept")
KEY = "made-by.json"
# Whose results are in the rows.
LIBRARIES = ("librosa", "numpy", "scipy", "soundfile", "soxr")


def find(stage: str) -> Path | None:
    """Return the folder of the outputs of `stage`, if the same code and libraries made them.

    All of the project's code counts: the stage's own is not known here, and copying too little does no harm.
    """
    folder = KEPT / stage
    try:
        made_by = json.loads((folder / KEY).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return folder if made_by == _made_by() else None


def keep(stage: str, outputs: list[Path]) -> None:
    """Keep `outputs` for the next run of `stage`, in place of those of its last."""
    with replacing(KEPT / stage) as part:
        part.mkdir()
        for output in outputs:
            try:
                os.link(output, part / output.name)
            except OSError:  # a file system without links
                shutil.copyfile(output, part / output.name)
        (part / KEY).write_text(json.dumps(_made_by()), encoding="utf-8")


def _made_by() -> dict[str, str]:
    code = sorted(Path(str(pipeline.__file__)).parent.rglob("*.py"))
    contents = b"".join(digests([path.read_bytes() for path in code if path.stat().st_size]).tolist())
    return {
        "pipeline": digests([contents])[0].tobytes().hex(),
        **{library: version(library) for library in LIBRARIES},
    }
