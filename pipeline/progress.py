"""Show the progress of long work: as a bar on a terminal, as plain lines in a log.

`quietly` hides what libraries print in the meantime.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import NoReturn, Self, TextIO

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Shows progress over `total` units, such as `clips` or `B`. Use it as a context manager.

    On a terminal it is a tqdm bar. In a log, which a bar's carriage returns would make unreadable, it prints
    one line every ten seconds and one at the end.

    Args:
        total: how many units there are; 0 if that is not known yet.
        unit: the name of a unit.
        verb: what is done, such as `decode`. Each line begins with it.
        log: where to print lines; by default to standard output.
    """

    def __init__(self, total: int, unit: str, verb: str, log: TextIO | None = None) -> None:
        self.total = total
        self._unit = unit
        self._verb = verb
        self._log = log
        self._done = self._first = 0
        self._start = self._last = time.monotonic()
        self._bar: tqdm[NoReturn] | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=self.total, unit=f" {self._unit}", desc=self._verb, unit_scale=self._unit == "B"
            )
        return self

    def update(self, units: int) -> None:
        """Count `units` more units as done."""
        self._done += units
        if self._bar is not None:
            self._bar.update(units)
        elif time.monotonic() - self._last > SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            of_total = f" of {self.total:,}" if self.total else ""
            self._print(f"{self._done:,}{of_total} {self._unit}, {self._rate()}")

    def note(self, text: str) -> None:
        """Print `text` on a line of its own."""
        tqdm.write(f"{self._verb}: {text}")

    def restart(self, done: int, total: int) -> None:
        """Count again, from `done` units that were done before, of `total`, which is 0 if it is not known."""
        self.total = total
        self._done = self._first = done
        self._start = time.monotonic()
        if self._bar is not None:
            self._bar.reset(total=total or None)
            self._bar.initial = self._bar.n = done
            self._bar.refresh()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif kind is None:
            seconds = time.monotonic() - self._start
            self._print(f"{self._done - self._first:,} {self._unit} in {seconds:.1f} s, {self._rate()}")

    def _print(self, text: str) -> None:
        print(f"{self._verb}: {text}", file=self._log, flush=True)

    def _rate(self) -> str:
        rate = (self._done - self._first) / max(time.monotonic() - self._start, 1e-3)
        return f"{rate:,.{0 if rate >= 10 else 1}f} {self._unit}/s"


@contextmanager
def quietly() -> Iterator[None]:
    """Hide what libraries write to standard error while the block runs. If it raises, show it after all."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as hidden:
        os.dup2(hidden.fileno(), 2)
        try:
            yield
        except BaseException:
            hidden.seek(0)
            os.write(stderr, hidden.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
