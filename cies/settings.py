"""Where things are: the gallery a command means."""

from __future__ import annotations

from pathlib import Path

FOLDER = ".cies"


def find_gallery(given: Path | None) -> Path:
    """The gallery's folder: as given, else a ``.cies`` here or above, else the user's own.

    Args:
        given: from ``--gallery`` or ``CIES_GALLERY``.
    """
    if given is not None:
        return given
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / FOLDER / "manifest.lance").is_dir():
            return folder / FOLDER
    import platformdirs

    return Path(platformdirs.user_data_dir("cies", appauthor=False)) / "gallery"
