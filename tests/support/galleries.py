"""Galleries of made-up vectors, written as ingest writes them, for tests of search."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from eval.world.edits import FIXED
from eval.world.factors import Scene
from eval.world.render import render
from indexes.geometry import Statistics
from indexes.search.table_loader import TableLoader
from indexes.store.gallery import Gallery
from indexes.store.records import FileRecord, ImageRecord, VectorTable
from indexes.vectors import unit

TABLE = VectorTable("color", 32, {"phrase": "color", "model": "none"})


def clustered(count: int, dimension: int, seed: int = 0) -> np.ndarray:
    """Unit vectors as hidden states lie: clusters of low rank around a common offset."""
    shape, random = np.random.default_rng(9), np.random.default_rng(seed)
    centers = shape.normal(size=(40, dimension))
    spread = shape.normal(size=(12, dimension)) / 2
    rows = centers[random.integers(0, 40, count)] + random.normal(size=(count, 12)) @ spread
    return unit((rows + 0.5).astype(np.float32))


def draw_edits(folder: Path) -> None:
    """A picture of each of three colors, three shapes and two grounds, named by them."""
    folder.mkdir()
    for number, color in enumerate(("red", "green", "blue")):
        for shape in ("heart", "star", "circle"):
            for ground in ("white", "black"):
                labels = {**FIXED, "style": "photo"}
                labels |= {"color": color, "shape": shape, "background": ground}
                picture = render(Scene(labels, 31 * number + len(shape)), 128)
                picture.save(folder / f"{color}-{shape}-{ground}.png")


def key(name: object) -> str:
    """A content key."""
    return hashlib.sha256(str(name).encode()).hexdigest()


def put(gallery: Gallery, vectors: dict[str, np.ndarray], table: VectorTable = TABLE) -> None:
    """Store vectors by key, each with a file of its own, in one commit of each table."""
    keys = sorted(vectors)
    rows = np.stack([vectors[one] for one in keys])
    words = [f"word {int(one[0], 16)}" for one in keys]
    with gallery.writer() as writer:
        if table.table not in writer.declared():
            writer.declare(table, 0)
        writer.put_vectors(table, keys, rows, words, np.full(len(keys), 0.5, dtype=np.float32))
        writer.put_images([ImageRecord(one, 1, 1, "PNG") for one in keys])
        writer.put_files([FileRecord(f"{one}.png", one, 1, 1, "done") for one in keys])


def forget(gallery: Gallery, keys: list[str], table: VectorTable = TABLE) -> None:
    """Drop pictures with their vectors and files."""
    with gallery.writer() as writer:
        writer.forget_pictures(keys, [table])
        writer.forget_files([f"{one}.png" for one in keys])


def table_loader(
    gallery: Gallery,
    geometry: str = "raw",
    gone: bool = False,
    table: VectorTable = TABLE,
    statistics: Statistics | None = None,
) -> TableLoader:
    """As the engine makes it."""
    mean = statistics or Statistics.of(np.empty((0, table.dimension), dtype=np.float32))
    return TableLoader(
        gallery,
        table,
        geometry,
        mean.basis(geometry),
        lambda _, vectors: mean.apply(vectors, geometry),
        gone,
    )


def made(path: Path, count: int, seed: int = 0) -> tuple[Gallery, dict[str, np.ndarray]]:
    """A gallery of so many vectors, and they by key, as fp16 keeps them."""
    rows = clustered(count, TABLE.dimension, seed)
    held = {key(f"{seed} {number}"): row for number, row in enumerate(rows)}
    gallery = Gallery.create(path)
    put(gallery, held)
    return gallery, {one: kept(row) for one, row in held.items()}


def kept(row: np.ndarray) -> np.ndarray:
    """A vector as it comes back from the gallery."""
    vector: np.ndarray = unit(row.astype(np.float16).astype(np.float32)[None])[0]
    return vector
