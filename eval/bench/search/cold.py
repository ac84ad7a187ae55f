"""One search in a new process: ``python -m eval.bench.search.cold WAY FOLDER ...``.

Prints the time of its first answer, in seconds since 1970, so that start and imports count.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np


def main(way: str, place: str, *rest: str) -> None:
    """Search once.

    Args:
        way: ``cies``, ``numpy``, ``faiss-flat`` or ``lancedb``.
        place: the gallery's folder, or the file or folder of the library's index.
        rest: for ``cies`` condition, kind of index and key; else the .npy file of a query.
    """
    if way == "cies":
        condition, kind, key = rest
        from indexes.store.gallery import Gallery
        from query.engine import Engine

        def no_model(spec: object) -> None:
            raise AssertionError("a picture of the gallery needs no model")

        engine = Engine(Gallery.open(place), no_model, kind)  # type: ignore[arg-type]
        found = len(engine.search(key, condition, 10))
    else:
        query = np.load(rest[0])
        if way == "numpy":
            vectors = np.load(place, mmap_mode="r")
            scores = vectors @ query[0]
            found = len(np.argpartition(-scores, 10)[:10])
        elif way == "faiss-flat":
            import faiss

            found = faiss.read_index(place).search(query, 10)[1].shape[1]
        else:
            import lancedb

            table = lancedb.connect(place).open_table("plain")
            found = len(table.search(query[0]).distance_type("dot").limit(10).to_arrow())
    assert found == 10
    # The parent process took the start time from the same clock.
    print(f"{time.time():.6f}")  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], str(Path(sys.argv[2])), *sys.argv[3:])
