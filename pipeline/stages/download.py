"""params.yaml → data/archive/<dataset>: download the archive and verify it, or create the demo's."""

from pathlib import Path

from pipeline import params
from pipeline.corpus import demo, download
from pipeline.errors import run


def main() -> None:
    """Fetch the archive of the chosen data set. For `demo`, create it."""
    name = params.read("dataset", params.Name)
    path = Path("data/archive", name)
    if name == "demo":
        demo.write(params.read(f"datasets.{name}", demo.Demo), path)
        return
    source = params.read(f"datasets.{name}", download.Archive)
    sha256 = download.fetch(source, path, name=name)
    if source.sha256 is None:
        print(
            f"{path} has the sha256 {sha256}: set params.yaml: datasets.{name}.sha256 to this value, and the"
            " next download is checked"
        )


if __name__ == "__main__":
    run(main)
