"""The errors that CIES raises on purpose.

    CiesError                 exit code 1
    |- UsageError             2   the request itself is wrong
    |  |- UnknownCondition
    |- GalleryError           4   the gallery is missing, locked, damaged or incompatible
    |  |- GalleryMissing
    |  |- GalleryLocked
    |  |- GalleryMismatch
    |  |- GalleryDamaged
    |  |- GalleryExpired
    |- ModelError             5   a model cannot be loaded, or does not support the request
    |- DataError              5   a data set is missing, incomplete or changed

Each message is one sentence that names the file or option and says what to do. The command line
prints it and exits with the code; no other module exits.
"""

from __future__ import annotations


class CiesError(Exception):
    """An error that the user can do something about."""

    exit_code = 1


class UsageError(CiesError):
    """The request itself is wrong, such as an unreadable query or a bad value."""

    exit_code = 2


class UnknownCondition(UsageError):
    """The gallery has no vectors under this condition."""


class GalleryError(CiesError):
    """The gallery cannot be used as requested."""

    exit_code = 4


class GalleryMissing(GalleryError):
    """There is no gallery at this path."""


class GalleryLocked(GalleryError):
    """Another process is writing to the gallery."""


class GalleryMismatch(GalleryError):
    """The gallery has another model, method, geometry or format."""


class GalleryExpired(GalleryError):
    """The state in which a gallery was opened is no longer stored."""


class GalleryDamaged(GalleryError):
    """A file of the gallery is not what was written; ``cies repair`` removes the damage."""


class ModelError(CiesError):
    """A model cannot be loaded, or does not support the request."""

    exit_code = 5


class DataError(CiesError):
    """The data of a benchmark are missing, incomplete or changed."""

    exit_code = 5
