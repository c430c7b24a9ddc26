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
    """Return `content` with a few bits flipped, cut, with a word replaced, or with lines mixed up."""
    changed = bytearray(content)
    match generator.choice(("bits", "bits", "cut", "words", "words", "words", "lines", "hole")):
        case "bits":
            return flipped(content, generator, range(len(content)))
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


def flipped(content: bytes, generator: random.Random, where: range) -> bytes:
    """Return `content` with one to eight bits flipped at places in `where`."""
    changed = bytearray(content)
    for _ in range(generator.choice((1, 1, 2, 8))):
        changed[generator.choice(where)] ^= 1 << generator.randrange(8)
    return bytes(changed)
