"""Damages files at random, as bad disks, interrupted copies, editors and forgers do."""

import random
import re

# What replaces a word of a text file.
WORDS = (
    b"NaN", b"inf", b"-1", b"0", b"1e999", b"9" * 30, b"", b"null", b"true", b"[]", b'"', b"\xff", b"\0",
    b"../../x", b"<script>", b"1.5", b"test", b";", b"\n", b"\r", b"[" * 3000,
)  # fmt: skip


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
