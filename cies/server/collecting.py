"""The routes of collections, and those that remove pictures from the gallery."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import PurePath
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Path, Query
from fastapi.responses import Response, StreamingResponse

from cies import collections, maintain
from cies.server.documents import (
    MAX_HITS,
    CollectionAnswer,
    CollectionEdit,
    CollectionsDocument,
    PicturesDocument,
    RemovalAnswer,
    RemovalRequest,
)
from cies.server.gallery_service import GalleryService, NotInGallery, ReadOnlyServer

_Name = Annotated[str, Path(max_length=200, description="The name of a collection")]


def add_collections(app: FastAPI, service: GalleryService) -> None:
    """Add the routes of collections and of removals."""

    @app.get("/api/v1/collections", response_model=CollectionsDocument, tags=["collections"])
    def listed() -> dict[str, Any]:
        """The gallery's collections."""
        return {"collections": service.collections(), "editable": service.edit}

    @app.get("/api/v1/collections/{name}", response_model=PicturesDocument, tags=["collections"])
    def pictures(
        name: _Name,
        k: Annotated[int, Query(ge=1, le=MAX_HITS)] = 50,
        offset: Annotated[int, Query(ge=0)] = 0,
    ) -> dict[str, Any]:
        """The pictures of a collection, in the order in which they were added."""
        found = list(_members(service, name).items())
        some = found[offset : offset + k]
        return {
            "total": len(found),
            "pictures": [{"key": key, "path": service.shown_path(path)} for key, path in some],
        }

    @app.post("/api/v1/collections/{name}", response_model=CollectionAnswer, tags=["collections"])
    def edit(name: _Name, change: CollectionEdit) -> dict[str, Any]:
        """Add pictures to a collection, or take some out; needs a server with `--edit`."""
        _check_edit(service)
        gallery = service.engine.gallery
        done = None
        if change.add:
            done = collections.add(gallery, name, change.add)
        if change.take_out or done is None:
            taken = collections.take_out(gallery, name, change.take_out)
            changed = taken.changed + (done.changed if done else 0)
            done = collections.CollectionChange(taken.name, changed, taken.pictures)
        service.engine.refresh()
        return vars(done)

    @app.delete("/api/v1/collections/{name}", response_model=CollectionAnswer, tags=["collections"])
    def remove(name: _Name) -> dict[str, Any]:
        """Remove a collection; its pictures stay. Needs a server with `--edit`."""
        _check_edit(service)
        done = collections.remove(service.engine.gallery, name)
        service.engine.refresh()
        return vars(done)

    @app.get("/api/v1/collections/{name}/export", response_class=Response, tags=["collections"])
    def export(name: _Name, form: Literal["csv", "paths", "zip"] = "csv") -> Response:
        """A collection as a download: CSV with key and path, paths, or copies of the files."""
        found = _members(service, name)
        shown = [(key, service.shown_path(path)) for key, path in found.items()]
        plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name)
        suffix = "txt" if form == "paths" else form
        headers = {"content-disposition": f'attachment; filename="{plain}.{suffix}"'}
        if form == "zip":
            return StreamingResponse(
                _zip(service, found), media_type="application/zip", headers=headers
            )
        if form == "paths":
            text = "".join(f"{path}\n" for _, path in shown)
            return Response(_encoded(text), media_type="text/plain", headers=headers)
        return Response(_encoded(collections.as_csv(shown)), media_type="text/csv", headers=headers)

    @app.post("/api/v1/removals", response_model=RemovalAnswer, tags=["pictures"])
    def removal(request: RemovalRequest) -> dict[str, Any]:
        """Remove pictures from the gallery, not their files; needs a server with `--edit`.

        Without `confirm` nothing is removed, and the answer says what would be.
        """
        _check_edit(service)
        engine = service.engine
        found = maintain.remove(engine.gallery, request.keys, dry_run=not request.confirm)
        engine.refresh()
        return {
            "removed": request.confirm,
            "pictures": len(found.keys),
            "files": len(found.paths),
            "returning": sum(found.returning.values()),
        }


def _check_edit(service: GalleryService) -> None:
    if not service.edit:
        raise ReadOnlyServer(
            "This server only reads the gallery; start it with `cies serve --edit`."
        )


def _members(service: GalleryService, name: str) -> dict[str, str]:
    service.engine.follow_writer()
    return collections.members(service.engine.snapshot, name)


def _encoded(text: str) -> bytes:
    """UTF-8; bytes of file names that are not UTF-8 stay as they are."""
    return text.encode("utf-8", "surrogateescape")


class _Sink(io.RawIOBase):
    """Collects what is written, to be sent on."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        """See :meth:`io.IOBase.writable`."""
        return True

    def write(self, data: Any) -> int:
        """Keep a part."""
        self._parts.append(bytes(data))
        return len(data)

    def taken(self) -> bytes:
        """All that was written since the last call."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _zip(service: GalleryService, found: dict[str, str]) -> Iterator[bytes]:
    """A ZIP archive of the files, one file in memory at a time. Files that cannot be read are
    named in ``left-out.txt``.
    """
    sink, left_out = _Sink(), []
    digits = len(str(len(found)))
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for number, (key, path) in enumerate(found.items(), start=1):
            name = re.sub(r'[\x00-\x1f<>:"/\\|?*]', "_", PurePath(path).name)
            name = name.encode("utf-8", "replace").decode()
            try:
                data, _ = service.file(key)
            except NotInGallery as error:
                left_out.append(f"{name}: {error}")
                continue
            archive.writestr(f"{number:0{digits}}-{name}", data)
            yield sink.taken()
        if left_out:
            archive.writestr("left-out.txt", "\n".join(left_out))
    yield sink.taken()
