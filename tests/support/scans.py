"""Helpers shared by tests."""

from __future__ import annotations

from typing import Any

from support.stand_in import StandIn

from indexes.store.gallery import Gallery
from indexes.store.records import FileRecord
from query.engine import Engine


def gone(gallery: Gallery) -> dict[str, FileRecord]:
    return {record.path: record for record in gallery.files() if record.status == "gone"}


def versions(gallery: Gallery) -> dict[str, int]:
    return {p.name: len(list(p.glob("_versions/*"))) for p in gallery.path.glob("*.lance")}


def engine(gallery: Gallery, **more: Any) -> Engine:
    return Engine(gallery, lambda spec: StandIn(), **more)
