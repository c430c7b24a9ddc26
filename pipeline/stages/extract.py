"""data/archive/<dataset> → data/raw, data/tables.zip, data/left_out.csv: unpack the archive."""

from pathlib import Path

from pipeline import params
from pipeline.corpus import paths
from pipeline.corpus.archive import Unpacking, unpack
from pipeline.errors import escaped, run


def main() -> None:
    """Unpack the archive of the chosen data set. Print and list what is left out."""
    path = Path("data/archive", params.read("dataset", params.Name))
    contents = unpack(path, Path("data/raw"), Path("data/tables.zip"), params.read("extract", Unpacking))
    paths.LEFT_OUT.write(Path("data/left_out.csv"), map(paths.LeftOut, contents.left_out))
    if text := contents.left_out_text():
        print(escaped(text))


if __name__ == "__main__":
    run(main)
