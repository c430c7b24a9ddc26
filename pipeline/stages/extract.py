"""data/archive/<dataset> → data/raw, data/tables.zip: unpack the audio files, and the tables."""

from pathlib import Path

from pipeline import params
from pipeline.corpus.archive import Unpacking, unpack
from pipeline.errors import run


def main() -> None:
    """Unpack the archive of the chosen data set."""
    path = Path("data/archive", params.read("dataset", str))
    unpack(path, Path("data/raw"), Path("data/tables.zip"), params.read("extract", Unpacking))


if __name__ == "__main__":
    run(main)
