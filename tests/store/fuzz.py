"""Describe a store again and again, each time damaged at random: python -m tests.store.fuzz STORE FIRST LAST

It runs in a process of its own, because HDF5 may crash on garbage, or take all memory. It prints how often a
damaged store was refused, was described as before, and was described otherwise; and its memory in MiB.
"""

import json
import random
import struct
import sys
from collections import Counter
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.store.layout import Store, describe
from pipeline.store.reader import rows
from tests.damage import flipped

# What replaces a number in HDF5's structures.
NUMBERS = (0, 1, 10**10, (1 << 32) - 1, 1 << 62, (1 << 64) - 1)


def damage(content: bytes, generator: random.Random, store: Store) -> bytes:
    """Return `content` cut, or with bits flipped or a number replaced outside of the rows."""
    end = store.offset + rows(store).nbytes
    where = generator.choice((range(store.offset), range(end, len(content)), range(end, len(content))))
    match generator.choice(("bits", "bits", "bits", "number", "cut")):
        case "bits":
            return flipped(content, generator, where)
        case "cut":
            return content[: generator.randrange(len(content))]
        case _:
            start, length = generator.choice(where), generator.choice((1, 2, 4, 8))
            number = struct.pack("<Q", generator.choice(NUMBERS))[:length]
            return (content[:start] + number + content[start + length :])[: len(content)]


def main(path: Path, first: int, last: int) -> None:
    """Damage the store at `path` with each seed from `first` to `last`, and print a summary as JSON."""
    store, content = describe(path), path.read_bytes()
    place = store.shape, store.dtype, store.offset
    tally: Counter[str] = Counter()
    other = path.with_name(f"damaged {first}.h5")
    for seed in range(first, last + 1):
        print(seed, file=sys.stderr, flush=True)  # the last line names the one that crashed
        other.write_bytes(damage(content, random.Random(seed), store))  # noqa: S311
        try:
            found = describe(other)
        except PipelineError as error:
            assert "\n" not in str(error), (seed, str(error))  # noqa: PT017
            tally["refused"] += 1
            continue
        # Ids, checksums and parameters are compared with other files. The rows must be where they are.
        assert (found.shape, found.dtype, found.offset) == place, seed
        tally["same" if found.clips == store.clips and found.params == store.params else "other"] += 1
    tally["MiB"] = _peak()
    print(json.dumps(tally))


def _peak() -> int:
    """Return the most memory that this process had, in MiB. `getrusage` would count its parent's too."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) >> 10


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
