"""A search as it is typed: the options of ``cies search`` as values that JSON has.

The command line makes the question of them, or a running server does in its place.
"""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

#: The most bytes of a picture that is sent to another process; others are read by this one.
_MOST = 32 * 2**20

if TYPE_CHECKING:
    from query.question import Picture, Question


class TypedSearch(TypedDict):
    """The options of ``cies search`` that make up the question; see ``cies search --help``."""

    condition: list[str]
    text: str | None
    by: list[str]
    unlike: list[str]
    feedback: str
    combine: str
    crop: str | None
    method: list[str]
    fuse: bool
    rerank: int | None
    rerank_model: str | None
    fill: bool
    modify: str | None
    composer: str | None
    caption: str
    must: list[str] | None
    must_not: list[str] | None
    weight: list[str]
    verify: int
    lvlm: str
    rewriter: str
    rewriter_model: str
    rewriter_timeout: float
    k: int
    where: str | None
    exclude_same: str | None
    min_percentile: float
    offset: int | None
    sort: str
    show: list[str] | None
    group_dupes: bool
    alike_above: float | None


def question_of(
    typed: TypedSearch,
    pictures: Sequence[Picture],
    like: Sequence[Picture],
    dislike: Sequence[Picture],
) -> Question:
    """The question of a typed search.

    Args:
        typed: the options.
        pictures: the examples.
        like: pictures that move the query towards them.
        dislike: pictures that move it away.

    Raises:
        UsageError: if a value is wrong.
    """
    from ingest.encoders.base import check_text
    from query.composers.modification import ModifyOptions, parse_composer_weights
    from query.question import ALIKE_ABOVE, Options, Question

    must, must_not = typed["must"], typed["must_not"]
    change = ModifyOptions(
        modify=typed["modify"],
        composer=typed["composer"],
        caption=typed["caption"],
        must=None if must is None else tuple(must),
        must_not=None if must_not is None else tuple(must_not),
        weights=parse_composer_weights(typed["weight"]),
        verify=typed["verify"],
    )
    # These may be set permanently, and are ignored by searches that do not need them.
    if typed["modify"] is not None or typed["verify"]:
        change["lvlm"] = typed["lvlm"]
    if typed["modify"] is not None:
        change["rewriter"] = typed["rewriter"]
        change["rewriter_model"] = typed["rewriter_model"]
        change["rewriter_timeout"] = typed["rewriter_timeout"]
    options = Options(
        like=tuple(like),
        dislike=tuple(dislike),
        feedback=typed["feedback"],
        unlike=typed["unlike"],
        combine=typed["combine"],
        crop=typed["crop"],
        where=typed["where"],
        exclude_same=typed["exclude_same"],
        min_percentile=typed["min_percentile"],
        sort=typed["sort"],
        by=typed["by"] or None,
        show=typed["show"],
        offset=typed["offset"],
        group_duplicates=typed["group_dupes"],
        alike_above=ALIKE_ABOVE if typed["alike_above"] is None else typed["alike_above"],
        method=typed["method"] or None,
        fuse=typed["fuse"],
        rerank=typed["rerank"],
        rerank_model=typed["rerank_model"],
        fill=typed["fill"],
        **change,
    )
    if typed["text"] is not None:
        check_text(typed["text"])
        return Question.of((), typed["condition"], typed["k"], typed["text"], **options)
    return Question.of(tuple(pictures), typed["condition"], typed["k"], **options)


def wire_picture(given: str | bytes) -> dict[str, Any]:
    """A picture as another process takes it: its name, and the bytes of its file.

    Args:
        given: a file, a path or key of the gallery, ``@NAME`` for a collection, or bytes.

    Raises:
        OSError: if the file cannot be read, or is too large.
        ValueError: if this is no name of a file.
    """
    if isinstance(given, bytes):
        return {"name": None, "path": "", "data": base64.b64encode(given).decode("ascii")}
    data = _read_file(given)
    content = None if data is None else base64.b64encode(data).decode("ascii")
    return {"name": given, "path": str(Path.cwd() / given), "data": content}


def _read_file(given: str) -> bytes | None:
    """The bytes of a file; ``None`` if there is none of this name.

    Raises:
        OSError: if it cannot be read, is too large, or is no regular file.
    """
    flags = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(given, os.O_RDONLY | flags)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with open(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_size > _MOST:
            raise OSError("no picture file")
        return file.read(_MOST)


def picture_from_wire(document: dict[str, Any]) -> Picture:
    """The inverse of :func:`wire_picture`.

    Raises:
        ValueError: if it is no such document.
    """
    from query.question import NamedPicture

    name, path, data = document["name"], document["path"], document["data"]
    content = None if data is None else base64.b64decode(data, validate=True)
    if name is None:
        if content is None:
            raise ValueError("neither a name nor bytes")
        return content
    if name.startswith("@"):
        return str(name)
    return NamedPicture(str(name), Path(str(path)), content)
