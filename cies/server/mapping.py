"""The routes of maps: all pictures laid out under one condition, worked out in the background."""

from __future__ import annotations

import base64
import logging
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Query
from fastapi.responses import Response

from cies.server.documents import MapColors, MapDocument
from cies.server.gallery_service import GalleryService, NotInGallery
from indexes.errors import CiesError, UsageError
from indexes.search.open_table import OpenTable
from indexes.store.attributes import attributes
from query.explore.layout import Layout, default_kind, layout

_logger = logging.getLogger("cies")

#: How many values have a colour of their own, and the code of the others.
_VALUES, _OTHERS = 11, 255


@dataclass
class _MapJob:
    """The layout of one table in one state.

    Attributes:
        state: of the table.
        found: the layout, once it is there.
        error: why there is none.
    """

    state: str
    found: Layout | None = None
    error: str = ""


class Maps:
    """Works out maps one at a time, each once for a state of its table.

    While the map of a newer state is worked out, the earlier one is shown.
    """

    def __init__(self, service: GalleryService):
        """Store the service; nothing is worked out yet."""
        self._service = service
        self._jobs: dict[str, _MapJob] = {}
        self._shown: dict[str, Layout] = {}
        self._lock = threading.Lock()
        self._working = threading.Lock()

    def of(self, condition: str) -> tuple[str, OpenTable, Layout | None, bool]:
        """A condition's name, its table, its map if there is one by now, and whether that is final.

        Raises:
            UnknownCondition: if the gallery has no such condition.
            CiesError: if it cannot be worked out.
        """
        engine = self._service.engine
        engine.follow_writer()
        table = engine.opened(condition)
        name = engine.resolve(condition).name
        with self._lock:
            job = self._jobs.get(table.table.table)
            if job is None or job.state != table.state:
                job = self._jobs[table.table.table] = _MapJob(table.state)
                threading.Thread(target=self._work, args=(table, job), daemon=True).start()
        if job.error:
            raise CiesError(job.error)
        found = job.found
        return name, table, found or self._shown.get(table.table.table), found is not None

    def _work(self, table: OpenTable, job: _MapJob) -> None:
        with self._working:
            if self._jobs.get(table.table.table) is not job:
                return  # there is a newer state already
            folder = self._service.engine.gallery.indexes
            try:
                if default_kind() != "pca" and table.table.table not in self._shown:
                    # It is there in seconds, and is shown until the better one is.
                    self._shown[table.table.table] = layout(table, folder, "pca")
                job.found = layout(table, folder)
                self._shown[table.table.table] = job.found
            except CiesError as error:
                job.error = str(error)
            except Exception:
                _logger.exception("A map could not be worked out.")
                job.error = "The map could not be worked out; the server's log says why."


def add_maps(app: FastAPI, service: GalleryService) -> None:
    """Add the routes of maps."""
    maps = Maps(service)

    def ready(condition: str, version: str) -> tuple[OpenTable, Layout]:
        _, table, found, _ = maps.of(condition)
        if found is None or found.version != version:
            raise NotInGallery("The map has changed; ask for its state again.")
        return table, found

    @app.get("/api/v1/maps/{condition}", response_model=MapDocument, tags=["maps"])
    def state(condition: str) -> dict[str, Any]:
        """Whether the map of a condition is ready; the first call lets it be worked out."""
        name, table, found, is_final = maps.of(condition)
        return {
            "condition": name,
            "state": "working" if found is None else "ready",
            "final": is_final,
            "kind": default_kind() if found is None else found.kind,
            "pictures": len(table) if found is None else len(found.keys),
            "version": "" if found is None else found.version,
        }

    @app.get("/api/v1/maps/{condition}/points", response_class=Response, tags=["maps"])
    def points(condition: str, version: Annotated[str, Query(max_length=64)]) -> Response:
        """The points: float32 x and y of each picture, little-endian, from -1 to 1; then the
        32 bytes of each picture's key, in the same order.
        """
        _, found = ready(condition, version)
        keys = bytes.fromhex("".join(found.keys))
        data = np.ascontiguousarray(found.points, dtype="<f4").tobytes() + keys
        headers = {"cache-control": "private, max-age=3600, immutable"}
        return Response(data, media_type="application/octet-stream", headers=headers)

    @app.get("/api/v1/maps/{condition}/colors", response_model=MapColors, tags=["maps"])
    def colors(
        condition: str,
        version: Annotated[str, Query(max_length=64)],
        column: Annotated[str, Query(max_length=200)] = "",
    ) -> dict[str, Any]:
        """The values that the points are coloured by: the words of the condition, or a column."""
        table, found = ready(condition, version)
        if column:
            values = _column(service, column, found.keys)
        else:
            words = dict(zip(table.keys, table.words, strict=True))
            values = [words.get(key, "") for key in found.keys]
        common = [
            (value, count) for value, count in Counter(values).most_common(_VALUES + 1) if value
        ][:_VALUES]
        code = {value: number for number, (value, _) in enumerate(common)}
        codes = bytes(code.get(value, _OTHERS) for value in values)
        return {
            "values": [{"value": value, "pictures": count} for value, count in common],
            "codes": base64.b64encode(codes).decode("ascii"),
        }


def _column(service: GalleryService, column: str, keys: Sequence[str]) -> list[str]:
    """A column's value of each picture as a text, empty for none; of copies the first.

    Raises:
        UsageError: if there is no such column.
    """
    rows = attributes(service.engine.snapshot)
    if column not in rows.column_names:
        raise UsageError(f"There is no column '{column}' in the gallery.")
    value_of: dict[str, str] = {}
    given = rows.column(column).to_pylist()
    for key, value in zip(rows.column("key").to_pylist(), given, strict=True):
        if key and value is not None:
            value_of.setdefault(key, str(value))
    return [value_of.get(key, "") for key in keys]
