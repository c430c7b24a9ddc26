"""params.yaml → data/archive/<dataset>: the archive as published, verified."""

from pathlib import Path

from pipeline import params
from pipeline.corpus import archive, demo
from pipeline.errors import run


def main() -> None:
    """Fetch the chosen data set's archive, or speak the demo's."""
    name = params.read("dataset", str)
    path = Path("data/archive", name)
    if name == "demo":
        demo.write(params.read(f"datasets.{name}", demo.Demo), path)
        return
    source = params.read(f"datasets.{name}", archive.Archive)
    sha256 = archive.fetch(source, path, name=name)
    if source.sha256 is None:
        print(
            f"{path}: sha256 {sha256}: set params.yaml: datasets.{name}.sha256 to it, and it will be checked"
        )


if __name__ == "__main__":
    run(main)
