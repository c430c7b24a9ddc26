"""Time the parts of `dvc repro` after a change of features.mfcc.n_mfcc, in a copy of the project.

Each round changes the parameter to a new value. The stage's own process is timed by a second run of its
command, and the start of Python by a process that only imports the stage's modules. The rest is DVC: it
starts, hashes, copies into the cache, and writes the lock file.

    python -m benchmarks.repro --archive ZIP
"""

import re
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import arguments, machine, ratio
from pipeline.store.previous import FOLDER as KEPT
from tests.project import Project

IMPORTS = "import librosa.filters, pipeline.stages.featurize, pipeline.features.mfcc"
TARGET = "featurize@mfcc"
WHOLE = "`dvc repro` after the change"


def timed(project: Project, *command: str) -> tuple[float, str]:
    """Return the seconds and the output of a command in the copy."""
    start = time.perf_counter()
    output = project.run(*command)
    return time.perf_counter() - start, output


def main() -> None:
    """Change the parameter in each round, and time each part."""
    args = arguments(str(__doc__), rounds=5)
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        project = Project(Path(name) / "project")
        project.set_params({"dataset": "own", "datasets.own.url": str(args.archive.absolute())})
        project.run("dvc", "repro", TARGET)
        parts: dict[str, list[float]] = {}
        for number in range(args.rounds):
            project.set_params({"features.mfcc.n_mfcc": 20 + number})
            whole, _ = timed(project, "dvc", "repro", TARGET)
            shutil.rmtree(project.path / KEPT)  # or the second run would copy every row
            stage, output = timed(project, sys.executable, "-m", "pipeline.stages.featurize", "mfcc")
            rows = re.search(r"clips in ([\d.]+) s", output)
            assert rows, output
            start, _ = timed(project, sys.executable, "-c", IMPORTS)
            nothing, _ = timed(project, "dvc", "repro", TARGET)
            for part, seconds in {
                WHOLE: whole,
                "of which the stage's process": stage,
                "of which Python's start and imports": start,
                "of which computing and writing rows, with the start of the workers": float(rows[1]),
                "DVC: the rest of `dvc repro`": whole - stage,
                "`dvc repro`, nothing to do": nothing,
            }.items():
                parts.setdefault(part, []).append(seconds)
    print("| part | median s | share of `dvc repro` |\n|---|---|---|")
    for part, values in parts.items():
        print(f"| {part} | {statistics.median(values):.2f} | {ratio(values, parts[WHOLE]):.0%} |")


if __name__ == "__main__":
    main()
