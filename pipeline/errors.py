"""The error for a mistake in the user's input, and how a command ends with it."""

import errno
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

# A full disk, an exceeded quota, a file larger than the system or the user's limit allows.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = "change its permissions, or run the command as the user who owns it"
# After Ctrl-C that had no effect. Python has left the deleted object by then.
SECONDS_UNTIL_AGAIN = 0.05
# What to do about errors of the system that the user can correct.
REMEDIES = {
    errno.ENOSPC: "free some space and run the command again",
    errno.EDQUOT: "free some space, or raise the quota, and run the command again",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f), or use another file system",
    errno.EACCES: FORBIDDEN,
    errno.EPERM: FORBIDDEN,
    errno.EROFS: "make the file system writable, or clone the project to another one",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EISDIR: "it is a folder, expected a file: move it away",
    errno.ENOTDIR: "a part of this path is a file, expected a folder: move it away",
    errno.ENOTEMPTY: "another command writes to this folder: wait until it ends, and run this one again",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close other programs, which have too many files open",
    errno.EIO: "the disk or the network failed: check it, and run the command again",
    errno.ESTALE: "the network file system failed: run the command again",
}


class PipelineError(Exception):
    """Something is wrong with the user's input.

    The message names it, and says what was found, what was expected, and what to do next.
    """


def escaped(text: str) -> str:
    r"""Return `text` with escapes such as \x1b for control characters, other than tabs and ends of lines.

    A name in an archive, or the answer of a server, could otherwise command the terminal.
    """
    return re.sub(r"[\0-\x08\x0b-\x1f\x7f-\x9f]", lambda match: f"\\x{ord(match[0]):02x}", text)


class _Interrupts:
    """How Ctrl-C takes effect, which is the handler of SIGINT."""

    pending = False  # it was pressed while it could not take effect
    raised = False

    @classmethod
    def defer(cls, *_: object) -> None:
        cls.pending = True

    @classmethod
    def take_effect(cls, *_: object) -> None:
        cls.pending, cls.raised = False, True
        raise KeyboardInterrupt

    @classmethod
    def can_take_effect(cls) -> bool:
        return signal.getsignal(signal.SIGINT) in (signal.default_int_handler, cls.take_effect)


def defer_interrupts() -> None:
    """Let Ctrl-C take effect only when `run` is called, which is when all imports are done.

    An import that is interrupted may raise any exception, or end the process with a message of its own.
    """
    if _Interrupts.can_take_effect():
        signal.signal(signal.SIGINT, _Interrupts.defer)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Ctrl-C take effect only at the end of the block, which should be short."""
    is_main = threading.current_thread() is threading.main_thread()  # only it may set a handler
    if not is_main or not _Interrupts.can_take_effect():
        yield
        return
    before = signal.signal(signal.SIGINT, _Interrupts.defer)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if _Interrupts.pending:
        _Interrupts.take_effect()


def run(main: Callable[[], None]) -> None:
    """Call `main`. If the user can correct its error, exit with status 1 and only a message.

    The user can correct a PipelineError and an OSError of `REMEDIES`. Other exceptions pass through. Ctrl-C
    ends the process as usual, with one line in place of a traceback.
    """
    sys.excepthook = _print_exception
    sys.unraisablehook = _interrupt_again
    if signal.getsignal(signal.SIGINT) in (_Interrupts.defer, signal.default_int_handler):
        signal.signal(signal.SIGINT, _Interrupts.take_effect)
    if _Interrupts.pending:
        _Interrupts.take_effect()
    _prefer_utf8()
    try:
        try:
            main()
        except Exception:
            if _Interrupts.raised:  # a library has turned it into an error of its own
                raise KeyboardInterrupt from None
            raise
        finally:
            _flush()
            if _Interrupts.can_take_effect():
                # Python's end waits for threads. Ctrl-C would print a traceback of that.
                signal.signal(signal.SIGINT, signal.SIG_DFL)
    except PipelineError as error:
        sys.exit(f"\n{escaped(str(error))}\n")
    except BrokenPipeError:  # the reader, such as `head`, has enough
        sys.exit(1)
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0)
        if remedy is None:
            raise
        path = error.filename or "standard output, or an open file"
        sys.exit(f"\n{escaped(str(path))}: {error.strerror}: {remedy}\n")


def _print_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    kept = str(error) or "finished outputs are kept"
    print(f"\ninterrupted: {kept}; run the same command again to go on from there", file=sys.stderr)


def _interrupt_again(unraisable: "UnraisableHookArgs") -> None:
    """Repeat a Ctrl-C that came while Python deleted an object: Python prints such exceptions and goes on."""
    if unraisable.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(unraisable)
        return
    again = threading.Timer(SECONDS_UNTIL_AGAIN, os.kill, (os.getpid(), signal.SIGINT))
    again.daemon = True
    again.start()


def _prefer_utf8() -> None:
    """Name files in UTF-8, whatever the locale is, and escape what standard output cannot show."""
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"  # which Python reads when it starts; the workers have it too
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - the same command
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _flush() -> None:
    """Write out what was printed, because an error in that is no traceback here, but one when Python ends."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
