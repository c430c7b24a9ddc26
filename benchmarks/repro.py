"""`dvc repro` after a change of features.mfcc.n_mfcc: where its seconds go, in a clone of the project.

The stage alone is timed by a second process of the same command; Python's start by one that imports what
the stage imports; what remains is DVC's: its own start, hashing, copying into the cache, the lock file.
"""

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import ROOT, arguments, machine

IMPORTS = "import librosa.filters, pipeline.stages.featurize, pipeline.features.mfcc"


def run(*command: str) -> tuple[float, str]:
    """Return the seconds and the output of a command that must succeed."""
    start = time.perf_counter()
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return time.perf_counter() - start, result.stdout


def main() -> None:
    """Change the parameter back and forth to values never seen, and time each part in turn."""
    args = arguments(str(__doc__), rounds=5)
    print(machine())
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as name:
        run("git", "clone", "-q", str(ROOT), name)
        os.chdir(name)
        text = Path("params.yaml").read_text(encoding="utf-8")
        text = text.replace("dataset: demo", "dataset: own", 1)
        text = text.replace("url: null", f"url: {args.archive.absolute()}", 1)
        Path("params.yaml").write_text(text, encoding="utf-8")
        run("dvc", "repro", "featurize@mfcc")
        parts: dict[str, list[float]] = {}
        for number in range(args.rounds):
            changed = re.sub(r"n_mfcc: \d+", f"n_mfcc: {20 + number}", text)
            Path("params.yaml").write_text(changed, encoding="utf-8")
            whole, _ = run("dvc", "repro", "featurize@mfcc")
            shutil.rmtree("data/kept")  # or the stage would find its rows known
            alone, output = run(sys.executable, "-m", "pipeline.stages.featurize", "mfcc")
            found = re.search(r"clips in ([\d.]+) s", output)
            assert found, output
            start, _ = run(sys.executable, "-c", IMPORTS)
            nothing, _ = run("dvc", "repro", "featurize@mfcc")
            for part, seconds in {
                "dvc repro, the change": whole,
                "of which the stage's process": alone,
                "of which Python's start and imports": start,
                "of which rows computed and written, workers' start too": float(found[1]),
                "DVC: the rest of dvc repro": whole - alone,
                "dvc repro, nothing to do": nothing,
            }.items():
                parts.setdefault(part, []).append(seconds)
    print("| part | median s |\n|---|---|")
    for part, each in parts.items():
        print(f"| {part} | {statistics.median(each):.2f} |")


if __name__ == "__main__":
    main()
