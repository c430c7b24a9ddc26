"""Damages files at random, as bad disks, interrupted copies, editors and forgers do.

`make fuzz` runs the tests that use this on many more, and other, cases than the suite does.
"""

import os
import random
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

# How many times as many cases as in the suite.
FACTOR = int(os.environ.get("FUZZ_FACTOR", "1"))

# What replaces a word of a text file.
WORDS = (
    b"NaN", b"inf", b"-1", b"0", b"1e999", b"9" * 30, b"", b"null", b"true", b"[]", b'"', b"\xff", b"\0",
    b"../../x", b"<script>", b"1.5", b"test", b";", b"\n", b"\r", b"[" * 3000,
)  # fmt: skip
# What replaces a number of a binary file.
NUMBERS = (b"\xff" * 4, b"\x7f" * 4, bytes(4), bytes(2) + b"\xff" * 6)


def fuzz(cases: int) -> Callable[[Callable[..., None]], Any]:
    """Return a decorator for a test with an argument `generator`, a random.Random, in addition to fixtures.

    The test is called for so many `cases`. Hypothesis makes a failing case as small as possible. The suite
    always has the same cases.
    """

    def decorate(test: Callable[..., None]) -> Any:
        limited = settings(
            max_examples=cases * FACTOR,
            deadline=None,
            derandomize=FACTOR == 1,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        return pytest.mark.fuzz(limited(given(generator=st.randoms(use_true_random=False))(test)))

    return decorate


def damaged(content: bytes, generator: random.Random) -> bytes:
    """Return a text with a few bits flipped, cut, with a word replaced, or with lines mixed up."""
    changed = bytearray(content)
    match generator.choice(("bits", "bits", "cut", "words", "words", "words", "lines", "hole")):
        case "bits":
            return flipped(content, generator)
        case "cut":
            del changed[generator.randrange(len(changed)) :]
        case "words":
            word = generator.choice(list(re.finditer(rb"[^,;\s{}\[\]:\"]+", content)))
            changed[word.start() : word.end()] = generator.choice(WORDS)
        case "lines":
            lines = content.splitlines(keepends=True)
            generator.shuffle(lines)
            changed = bytearray(b"".join(lines[generator.randrange(2) :]))
        case "hole":
            start = generator.randrange(len(changed))
            del changed[start : start + generator.randrange(1, 40)]
    return bytes(changed)


def damaged_binary(content: bytes, generator: random.Random) -> bytes:
    """Return a binary file damaged one to three times, often in the header at its beginning.

    Each time, it is cut, a piece is removed or repeated, bits are flipped, or a byte or a number is replaced.
    """
    changed = bytearray(content)
    for _ in range(generator.randrange(1, 4)):
        first, last = sorted(generator.randrange(len(changed) + 1) for _ in range(2))
        header = min(len(changed) + 1, generator.choice((64, 256)))
        place = generator.choice((first, generator.randrange(header)))
        match generator.choice(("cut", "hole", "repeat", "bits", "byte", "number", "number")):
            case "cut":
                del changed[last:]
            case "hole":
                del changed[first : min(last, first + generator.choice((100, 600)))]
            case "repeat":
                changed[place:place] = changed[first:last]
            case "bits" if changed:
                changed = bytearray(flipped(bytes(changed), generator))
            case "byte":
                changed[place : place + 1] = bytes([generator.randrange(256)])
            case "number":
                number = generator.choice(NUMBERS)
                changed[place : place + len(number)] = number
    return bytes(changed)


def flipped(content: bytes, generator: random.Random, where: range | None = None) -> bytes:
    """Return `content` with one to eight bits flipped, at places in `where` if it is given."""
    changed = bytearray(content)
    where = where or range(len(content))
    for _ in range(generator.choice((1, 1, 2, 8))):
        changed[generator.choice(where)] ^= 1 << generator.randrange(8)
    return bytes(changed)
