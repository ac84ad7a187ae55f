"""Conditional image search: find the pictures that are alike in the respect you name.

>>> import cies
>>> cies.ingest("photos.cies", ["photos"], ["color", "shape"])
>>> g = cies.open("photos.cies")
>>> hits = g.search("photos/mug.jpg", condition="color", k=5)
>>> [hit.path for hit in hits]

Heavy libraries are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cies.api import create, ingest, load_encoder, open
    from cies.encoder import Encoder
    from cies.exchange import import_vectors
    from cies.gallery_search import GalleryVectors, PictureGroup, SearchableGallery
    from cies.training import train_composer
    from indexes.errors import (
        CiesError,
        DataError,
        GalleryDamaged,
        GalleryError,
        GalleryExpired,
        GalleryLocked,
        GalleryMismatch,
        GalleryMissing,
        ModelError,
        UnknownCondition,
        UsageError,
    )
    from indexes.store.gallery import Gallery
    from ingest.conditions import Condition
    from query.composers.modification import Modification
    from query.engine import Engine
    from query.hits import Hit, Hits

    __version__: str

#: What the first line of the packages beside this one begins with.
_OWN = b"# Part of CIES"


def _check_packages() -> None:
    """Check that Python imports this project's packages, not others of the same name.

    Raises:
        ImportError: if they conflict; the message names the package and what to do.
    """
    home = Path(__file__).parent.parent
    for name in ("configs", "eval", "indexes", "ingest", "query"):
        spec = find_spec(name)
        found = Path(spec.origin).parent.parent if spec and spec.origin else None
        if found != home:
            raise ImportError(
                f"Python finds another package named '{name}' in {found} instead of the one of "
                f"CIES in {home}; remove it, or install CIES in an environment of its own."
            )
        with (home / name / "__init__.py").open("rb") as file:
            own = file.read(len(_OWN)) == _OWN
        if not own:
            raise ImportError(
                f"Another distribution has put its package '{name}' over the one of CIES in "
                f"{home}; install CIES again in an environment of its own."
            )


_check_packages()

#: The module of each public name.
_HOMES = {
    name: module
    for module, names in {
        "cies.api": "create ingest load_encoder open",
        "cies.encoder": "Encoder",
        "cies.exchange": "import_vectors",
        "cies.training": "train_composer",
        "cies.gallery_search": "GalleryVectors PictureGroup SearchableGallery",
        "indexes.errors": "CiesError DataError GalleryDamaged GalleryError GalleryExpired "
        "GalleryLocked GalleryMismatch GalleryMissing ModelError UnknownCondition UsageError",
        "indexes.store.gallery": "Gallery",
        "ingest.conditions": "Condition",
        "query.composers.modification": "Modification",
        "query.engine": "Engine",
        "query.hits": "Hit Hits",
    }.items()
    for name in names.split()
}

__all__ = [
    "CiesError",
    "Condition",
    "DataError",
    "Encoder",
    "Engine",
    "Gallery",
    "GalleryDamaged",
    "GalleryError",
    "GalleryExpired",
    "GalleryLocked",
    "GalleryMismatch",
    "GalleryMissing",
    "GalleryVectors",
    "Hit",
    "Hits",
    "ModelError",
    "Modification",
    "PictureGroup",
    "SearchableGallery",
    "UnknownCondition",
    "UsageError",
    "create",
    "import_vectors",
    "ingest",
    "load_encoder",
    "open",
    "train_composer",
]


def _version() -> str:
    """The version of the installed distribution."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("cies")
    except PackageNotFoundError:  # the files are used without having been installed
        return "0+unknown"


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in _HOMES:
        raise AttributeError(f"module 'cies' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
