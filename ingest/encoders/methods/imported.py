"""Imported: vectors that another program made. CIES has no model for them."""

from __future__ import annotations

import re

from indexes.errors import UsageError
from indexes.store.records import IMPORTED
from ingest.encoders.base import BaseEncoder, EncoderSpec
from ingest.encoders.options import EncoderChoice

#: Allowed names of what made the vectors; option values contain them.
_NAME = re.compile(r"[\w@][\w@.+/-]{0,99}")


def imported_spec(name: str, dimension: int) -> EncoderSpec:
    """What a gallery stores about imported vectors.

    Args:
        name: what made them, as the user calls it.
        dimension: their length.

    Raises:
        UsageError: if the name holds characters that an option value could not have.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"Vectors cannot be named {name!r}; give --name of letters, digits and . _ - + / @."
        )
    return EncoderSpec(IMPORTED, name, "1", {"length": dimension})


class ImportedEncoder:
    """The place of an encoder where there is none."""

    @classmethod
    def load(cls, choice: EncoderChoice) -> BaseEncoder:
        """Refuse.

        Raises:
            UsageError: always; the message says what to do instead.
        """
        if choice.stored is None:
            raise UsageError(
                "The method imported has no model of its own; import vectors that exist with "
                "`cies import`."
            )
        raise UsageError(
            f"The vectors of {choice.model} were imported, and CIES has no model that makes them, "
            "so that a new picture or a text cannot be embedded; ask with a picture of the "
            "gallery, or import the vector of the new one with `cies import`."
        )
