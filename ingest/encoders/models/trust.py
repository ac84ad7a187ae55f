"""Which models may run Python code of their own: only commits that the user names. Imports nothing
heavy, and stores nothing.
"""

from __future__ import annotations

import re
from dataclasses import replace

from indexes.errors import UsageError
from ingest.encoders.models.find import ModelSource

_FORM = re.compile(r"(\w[\w.-]*/[\w.-]+)@([0-9a-f]{40})")

#: Hub models whose code may run in this process: name to commit.
_trusted: dict[str, str] = {}


def trust_remote_code(model: str) -> None:
    """Allow the code of one commit of one hub model to run in this process.

    Args:
        model: ``ORG/NAME@COMMIT``, the commit in full, so that only code that was read can run.

    Raises:
        UsageError: if it is anything else.
    """
    found = _FORM.fullmatch(model)
    if found is None:
        raise UsageError(
            f"--trust-remote-code is {model!r}; give ORG/NAME@COMMIT with the 40 digits of the "
            "commit whose code you have read."
        )
    _trusted[found[1]] = found[2]


def pinned(source: ModelSource) -> ModelSource:
    """The source at the commit whose code is trusted, if the user named no other revision."""
    if source.local or source.revision is not None or source.name not in _trusted:
        return source
    return replace(source, revision=_trusted[source.name])


def is_trusted(source: ModelSource) -> bool:
    """Whether the model's own code may run: only a commit that was named in full."""
    return (
        not source.local
        and source.revision is not None
        and source.revision == _trusted.get(source.name)
    )
