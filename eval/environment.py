"""What else decides the numbers: versions of the libraries, and the machine."""

from __future__ import annotations

import os
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

#: Libraries whose version can change a vector or a ranking.
_LIBRARIES = (
    "cies",
    "torch",
    "transformers",
    "tokenizers",
    "open-clip-torch",
    "sentence-transformers",
    "numpy",
    "faiss-cpu",
    "faiss-gpu",
    "pillow",
)


@cache
def versions() -> dict[str, str]:
    """Libraries that are installed to their versions, without importing them."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, str]:
    """What a run is made on, for its document."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": str(os.cpu_count()),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "not set"),
    }
