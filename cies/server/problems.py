"""Errors as the HTTP interface returns them: problem documents of RFC 9457."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse

from cies.server.documents import Problem
from cies.server.embedding_queue import ServerBusy
from cies.server.gallery_service import NotInGallery, ReadOnlyServer
from indexes.errors import CiesError, GalleryError, ModelError, UnknownCondition, UsageError
from query.collections import UnknownCollection

#: Kinds of errors and their HTTP status; the first that fits counts.
_STATUS: tuple[tuple[type[CiesError], int], ...] = (
    (ServerBusy, 429),
    (NotInGallery, 404),
    (UnknownCollection, 404),
    (ReadOnlyServer, 403),
    (UnknownCondition, 404),
    (UsageError, 400),
    (ModelError, 503),
    (GalleryError, 503),
)


class AsciiJSONResponse(JSONResponse):
    """A document in ASCII, as the command line prints it. Bytes of file names that are not UTF-8
    are lone surrogates, which only an escape can represent.
    """

    def render(self, content: Any) -> bytes:
        """See :class:`JSONResponse`."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def problem(status: int, detail: str, error: str = "") -> JSONResponse:
    """An error as an answer.

    Args:
        status: the HTTP status.
        detail: one sentence that says what to do.
        error: the class of the error.
    """
    document = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, error=error)
    return AsciiJSONResponse(
        document.model_dump(), status_code=status, media_type="application/problem+json"
    )


def problem_of(error: CiesError, private: str) -> JSONResponse:
    """The answer for an error of CIES, with the sentence of the command line.

    Args:
        error: the error.
        private: a path that the sentence must not contain, or empty.
    """
    status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
    detail = str(error)
    if private:
        detail = detail.replace(f"gallery at {private}", "gallery").replace(private, "the gallery")
    answer = problem(status, detail, type(error).__name__)
    if status == 429:
        answer.headers["retry-after"] = "2"
    return answer
