"""``python -m eval.peers NAME``: one peer and CIES on the same pictures or vectors, alternately.

Needs the extra ``cies[peers]``. Figures are medians of pairs of runs in one process on one thread,
and ratios are of CIES over the peer.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

#: Nearest pictures that are asked for, and pairs of runs.
K, PAIRS = 10, 5


def compare_plain(pictures: int) -> dict[str, Any]:
    """Plain transformers and FAISS against ``cies ingest --method clip``, both with tiny-clip."""
    from importlib.resources import files

    from eval.peers.plain_faiss import PlainSearch
    from eval.world.gallery import write_world
    from indexes.store.gallery import Gallery
    from ingest.encoders.factory import remake_encoder
    from query.engine import Engine

    model = str(files("ingest.encoders").joinpath("builtin", "tiny-clip"))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_world(place / "world", pictures, seed=3)
        paths = sorted((place / "world" / "images").iterdir())
        # Both sides once before the clock runs, so that neither pays for the imports of both.
        PlainSearch(model, paths[:1])
        _ingest(place / "warm", paths[:1])
        plain, plain_seconds = _timed(lambda: PlainSearch(model, paths))

        own = partial(_ingest, place / "g", [place / "world" / "images"])
        _, own_seconds = _timed(own)
        _, again_seconds = _timed(own)
        g = Engine(Gallery.open(place / "g"), remake_encoder, method="clip")
        keys = {path: i for i, path in enumerate(map(str, paths))}
        queries = paths[:: max(1, len(paths) // 40)]
        g.search(queries[0], "unconditional", k=K)
        plain_times, own_times, same = [], [], []
        for query in queries:
            found, seconds = _timed(partial(plain.search, query, K + 1))
            plain_times.append(seconds)
            hits, seconds = _timed(partial(g.search, query, "unconditional", k=K))
            own_times.append(seconds)
            expected = {keys[str(path)] for path in found if path != query}
            same.append(len(expected & {keys[hit.path] for hit in hits}) / K)
    rows = [
        _row("index, s", plain_seconds, own_seconds),
        _row("index again, nothing new, s", plain_seconds, again_seconds),
        _row("search by a stored picture, ms", *_milliseconds(plain_times, own_times)),
    ]
    return {
        "peer": f"transformers {version('transformers')} and faiss-cpu {version('faiss-cpu')}",
        "about": f"{pictures} rendered pictures, tiny-clip",
        "rows": rows,
        "same_hits": statistics.mean(same),
    }


def _ingest(place: Path, sources: Sequence[Path]) -> None:
    """What ``cies ingest --method clip`` does."""
    from indexes.store.gallery import Gallery
    from ingest.encoders.factory import make_encoder
    from ingest.fill.pipeline import ingest

    gallery = Gallery.create(place)
    ingest(gallery, sources, [], lambda spec: make_encoder("clip"), is_new=not gallery.conditions())


def compare_index(name: str, count: int, dimension: int = 512) -> dict[str, Any]:
    """An index of another library against those of CIES over the same vectors."""
    import faiss

    from eval.bench.search.vectors import mixture
    from eval.peers.indexes import PEER_INDEXES
    from indexes.search.base import ExactIndex
    from indexes.search.factory import make_index

    faiss.omp_set_num_threads(1)
    peer = PEER_INDEXES[name]
    vectors, queries = mixture(count, dimension, 1), mixture(200, dimension, 2)
    truth, _ = ExactIndex(vectors).search(queries, K)
    ask, build_seconds = _timed(lambda: peer.build(vectors))
    rows: list[dict[str, Any]] = []
    for kind in ("exact", "hnsw"):
        own, own_seconds = _timed(partial(make_index, vectors, kind))
        pairs = [
            (
                _timed(partial(_one_by_one, ask, queries))[1],
                _timed(partial(_one_by_one, own.search, queries))[1],
            )
            for _ in range(PAIRS)
        ]
        peer_times, own_times = zip(*pairs, strict=True)
        scale = 1000 / len(queries)
        rows += [
            _row(f"build against {kind}, s", build_seconds, own_seconds),
            _row(
                f"search against {kind}, ms",
                statistics.median(peer_times) * scale,
                statistics.median(own_times) * scale,
            ),
            _row(
                f"recall@10 against {kind}",
                _recall(ask(queries, K), truth),
                _recall(own.search(queries, K)[0], truth),
            ),
        ]
    return {
        "peer": peer.name,
        "about": f"{count} vectors of {dimension} numbers, one query at a time",
        "rows": rows,
    }


def _one_by_one(ask: Any, queries: Any) -> None:
    """Ask about each query alone."""
    for query in queries:
        ask(query[None], K)


def compare_rclip(pictures: int, program: str) -> dict[str, Any]:
    """The index and the search of rclip, as a user types them, against those of CIES.

    Args:
        pictures: how many are rendered.
        program: rclip's command, from an environment of its own.
    """
    from eval.world.gallery import write_world

    own = [sys.executable, "-m", "cies"]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_world(place / "world", pictures, seed=3)
        images = place / "world" / "images"
        about = _run([program, "--version"], images)[0].split()[-1]
        typed = [program, "-n", "-t", "10", "red heart"]  # -n: the index is not updated
        _, peer_index = _run([*typed[:1], *typed[2:]], images)
        _, own_index = _run(
            [*own, "ingest", str(images), "-g", str(place / "g"), "--method", "clip"], images
        )
        _, peer_search = _run(typed, images)
        _, own_search = _run(
            [*own, "search", "--text", "red heart", "-g", str(place / "g"), "-c", "unconditional"],
            images,
        )
    return {
        "peer": f"rclip {about}",
        "about": f"{pictures} rendered pictures; each with its own default model, so that only the "
        "whole commands are compared",
        "rows": [
            _row("index and first search, s", peer_index, own_index),
            _row("search by words, s", peer_search, own_search),
        ],
    }


def _run(command: Sequence[str], folder: Path) -> tuple[str, float]:
    """The output of a command and its seconds.

    Raises:
        SystemExit: if it fails; the text is the last line of its errors.
    """
    started = time.perf_counter()
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900)
    except OSError as error:
        raise SystemExit(f"{command[0]} cannot be run: {error.strerror}.") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise SystemExit(f"{Path(command[0]).name} failed: {lines[-1][:300]}")
    return done.stdout, time.perf_counter() - started


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    found = work()
    return found, time.perf_counter() - started


def _row(what: str, peer: float, own: float) -> dict[str, Any]:
    return {"what": what, "peer": peer, "cies": own, "ratio": own / peer if peer else None}


def _milliseconds(*times: Sequence[float]) -> tuple[float, ...]:
    return tuple(1000 * statistics.median(one) for one in times)


def _recall(found: Any, truth: Any) -> float:
    return float(np.mean([len(set(a) & set(b)) / K for a, b in zip(found, truth, strict=True)]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare one peer and print a table, or one JSON document."""
    names = ("transformers-faiss", "usearch", "hnswlib", "rclip")
    parser = argparse.ArgumentParser(prog="python -m eval.peers", description=__doc__)
    parser.add_argument("name", choices=names)
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--vectors", type=int, default=20_000)
    parser.add_argument("--program", default="rclip", help="rclip's command")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    try:
        if given.name == "transformers-faiss":
            document = compare_plain(given.pictures)
        elif given.name == "rclip":
            document = compare_rclip(given.pictures, given.program)
        else:
            document = compare_index(given.name, given.vectors)
    except ImportError as error:
        raise SystemExit(
            f"{given.name} is not installed ({error}); run `pip install 'cies[peers]'`."
        ) from error
    document |= {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "cies": version("cies"),
    }
    if given.json:
        print(json.dumps(document))
        return
    print(f"{document['peer']}: {document['about']}")
    print("| what | peer | CIES | CIES / peer |\n|---|---|---|---|")
    for row in document["rows"]:
        print(f"| {row['what']} | {row['peer']:.3g} | {row['cies']:.3g} | {row['ratio']:.2f} |")
    if "same_hits" in document:
        print(f"Equal hits of the first {K}: {document['same_hits']:.3f}")


if __name__ == "__main__":
    main()
