"""The environment of a measurement: versions of the libraries, and the machine."""

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
def versions(libraries: tuple[str, ...] = _LIBRARIES) -> dict[str, str]:
    """Installed libraries to their versions, without importing them."""
    found = {}
    for name in libraries:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, str]:
    """The machine of a run, for its document."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": str(os.cpu_count()),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "not set"),
    }


def environment(*libraries: str) -> dict[str, str]:
    """Versions of some libraries and the machine, for the document of a benchmark of speed."""
    about = machine()
    return {
        "python": about["python"],
        **versions(libraries),
        "cores": about["cores"],
        "OMP_NUM_THREADS": about["OMP_NUM_THREADS"],
        "machine": about["system"],
    }
