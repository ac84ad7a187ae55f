"""Every error CIES raises on purpose, in one tree.

    CiesError                 exit code 1
    |- UsageError             2   the request itself is wrong
    |  |- UnknownCondition
    |- GalleryError           4   the gallery is missing, locked, or built otherwise
    |  |- GalleryMissing
    |  |- GalleryLocked
    |  |- GalleryMismatch
    |- ModelError             5   a model cannot be had, or cannot do what is asked
    |- DataError              5   a data set is missing, incomplete, or not as published

Each message is one sentence that names the file or option and the way out. The command line
prints it and leaves with the code; nothing below the command line ever exits.
"""

from __future__ import annotations


class CiesError(Exception):
    """Something went wrong that the user can do something about."""

    exit_code = 1


class UsageError(CiesError):
    """The request itself is wrong: an unreadable query, a bad value."""

    exit_code = 2


class UnknownCondition(UsageError):
    """The gallery was not embedded under this condition."""


class GalleryError(CiesError):
    """The gallery cannot be used as asked."""

    exit_code = 4


class GalleryMissing(GalleryError):
    """There is no gallery at this place."""


class GalleryLocked(GalleryError):
    """Another process is writing to the gallery."""


class GalleryMismatch(GalleryError):
    """The gallery was built by another model, method or format."""


class ModelError(CiesError):
    """A model cannot be had, or cannot do what is asked of it."""

    exit_code = 5


class DataError(CiesError):
    """A benchmark's data are missing, incomplete, or not as published."""

    exit_code = 5
