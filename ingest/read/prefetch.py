"""Computes results ahead of their consumer, in order and with a bound on their number."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def prefetch(
    pool: Executor, work: Callable[[_Item], _Result], items: Iterable[_Item], most: int
) -> Iterator[_Result]:
    """The results of a function for each item, in the order of the items.

    Args:
        pool: runs the function.
        work: the function; an exception is raised here when its result is due.
        items: consumed one by one, not before they are needed.
        most: how many results may be computed ahead of the consumer, at least 1.
    """
    waiting: deque[Future[_Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
