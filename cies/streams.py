"""Standard output and error of a command: what cannot be written is said, never a traceback.

Python's own streams raise an error deep inside whatever printed, or only when the interpreter
exits: for a full disk, a closed output, or a name that the terminal's encoding does not have.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from contextlib import suppress
from typing import Any

from indexes.errors import CiesError

_ERRORS = "cies-output"


class ReaderGoneError(BaseException):
    """The program that read our output has ended, as ``head`` does; no error for the user."""


class OutputError(CiesError):
    """Standard output cannot be written."""


class _Output(io.TextIOWrapper):
    """Standard output."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            raise _failure(error) from None

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise _failure(error) from None


class _Messages(io.TextIOWrapper):
    """Standard error. A message that cannot be written is lost; the command goes on."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def _failure(error: OSError) -> BaseException:
    if isinstance(error, BrokenPipeError):
        return ReaderGoneError()
    reason = "it is closed" if error.errno == 9 else (error.strerror or str(error)).lower()
    return OutputError(
        f"Cannot write to standard output: {reason}; send it elsewhere, such as to a file on "
        "another disk."
    )


def open_streams() -> None:
    """Replace Python's standard streams, once, before anything is printed.

    A file name that is not UTF-8 reaches a pipe as its original bytes; on a terminal these are
    escaped. Characters that the encoding does not have are escaped.
    """
    codecs.register_error(_ERRORS, _replaced)
    codecs.register_error(_ERRORS + "-terminal", _escaped)
    _open_closed_descriptors()
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)))
    sys.stdout = _opened(_Output, sys.stdout, 1)
    sys.stderr = _opened(_Messages, sys.stderr, 2)


def close_output(code: int) -> int:
    """Write what is left of the output.

    Args:
        code: the exit code of the command.

    Returns:
        The exit code: 1 if a successful command could not write its output.
    """
    try:
        sys.stdout.flush()
        return code
    except ReaderGoneError:
        discard_output()
        return code
    except OutputError as error:
        discard_output()
        print(f"Error: {error}", file=sys.stderr)
        return code or error.exit_code


def discard_output() -> None:
    """Send what is left of the output nowhere, so that Python does not fail on it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _open_closed_descriptors() -> None:
    """Occupy closed standard descriptors; the next file that is opened would get their numbers."""
    for number, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            # Standard output is opened for reading, so that a command that prints fails.
            opened = os.open(os.devnull, flags)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)


def _opened(kind: type[io.TextIOWrapper], present: Any, number: int) -> Any:
    """A stream of a kind in place of a standard one; one that something replaced is kept."""
    if present is not None and not _is_standard(present, number):
        return present
    terminal = os.isatty(number)
    return kind(
        io.BufferedWriter(io.FileIO(number, "wb", closefd=False)),
        encoding=getattr(present, "encoding", None) or "utf-8",
        errors=_ERRORS + ("-terminal" if terminal else ""),
        line_buffering=terminal or number == 2,
    )


def _is_standard(stream: Any, number: int) -> bool:
    try:
        return type(stream) is io.TextIOWrapper and stream.fileno() == number
    except (OSError, ValueError):
        return False


def _replaced(error: UnicodeError) -> tuple[str | bytes, int]:
    """An error handler: original bytes as they are, other characters escaped."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    first = error.object[error.start]
    if "\udc80" <= first <= "\udcff":
        return bytes([ord(first) - 0xDC00]), error.start + 1
    return first.encode("ascii", "backslashreplace"), error.start + 1


def _escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    """An error handler: original bytes and other characters escaped."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    first = error.object[error.start]
    if "\udc80" <= first <= "\udcff":
        return f"\\x{ord(first) - 0xDC00:02x}".encode("ascii"), error.start + 1
    return first.encode("ascii", "backslashreplace"), error.start + 1
