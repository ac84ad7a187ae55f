"""Knows the errors that mean memory ran out."""

from __future__ import annotations

import torch

#: How torch words it on a CPU and on Apple's GPUs, where it has no error class of its own.
_SIGNS = ("can't allocate memory", "out of memory")


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on whatever device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def release() -> None:
    """Give back what torch keeps for later use, so that a smaller piece finds room."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
