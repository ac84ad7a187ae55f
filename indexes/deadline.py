"""A time limit over a whole operation, whatever it waits for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")


#: Seconds between two looks whether to give up.
_LOOK = 0.1


def within(seconds: float, work: Callable[[], _T], stopped: threading.Event | None = None) -> _T:
    """The result of some work, if it ends in time.

    A time limit of a socket starts again with every byte, and looking up a name has none. The work
    is therefore done in a thread of its own. If it does not end in time the thread is left
    behind, and its result is dropped; it does not keep the program from ending.

    Args:
        seconds: how long to wait.
        work: called once, in another thread.
        stopped: once it is set, the result is not waited for any more.

    Raises:
        TimeoutError: if the work takes longer, or is not waited for.
        Exception: what the work raises.
    """
    outcome: list[Any] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again below
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    if stopped is None:
        thread.join(seconds)
    else:
        ends = time.monotonic() + seconds
        while thread.is_alive() and not stopped.is_set() and (left := ends - time.monotonic()) > 0:
            thread.join(min(_LOOK, left))
    if failure:
        raise failure[0]
    if not outcome:
        raise TimeoutError(f"it did not end within {seconds:g} s")
    result: _T = outcome[0]
    return result
