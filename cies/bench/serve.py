"""``cies bench serve``: starts a server of a generated gallery, and measures it under load."""

from __future__ import annotations

import json
import multiprocessing
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPException
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil

from cies.console import print_json, print_table, say
from eval.bench.ingest import CONDITIONS, SleepingEncoder, different_pictures
from eval.bench.load import HttpRequest, LoadFigures, measure_load
from eval.bench.search.vectors import generated_key, write_generated
from eval.environment import environment
from indexes.errors import CiesError
from indexes.store.records import VectorTable
from ingest.conditions import Condition
from query.hits import SCHEMA_VERSION

#: Seconds in which the server must answer.
_START_SECONDS = 60

#: The name of the measurement of uploads.
UPLOADS = "upload and search"

#: Uploads that each client sends one after the other.
_ROUNDS = 4


@dataclass(frozen=True)
class LoadLine:
    """The figures of one kind of request.

    Attributes:
        what: the kind of request.
        figures: what the clients saw.
    """

    what: str
    figures: LoadFigures


@dataclass(frozen=True)
class ServerState:
    """What a server's process uses.

    Attributes:
        megabytes: resident memory, without the processes that decode pictures.
        files: open file descriptors.
        threads: threads.
    """

    megabytes: float
    files: int
    threads: int


def run_bench_serve(
    pictures: int,
    dimension: int,
    requests: int,
    steady: int,
    uploads: int,
    cost_ms: float,
    seed: int,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Measure the server and print the figures.

    Args:
        pictures: of the generated gallery, under three conditions.
        dimension: the length of a vector.
        requests: requests for each number of clients.
        steady: requests by which growth of the memory is measured; 0 for none.
        uploads: clients that send pictures at the same time; 0 for none.
        cost_ms: milliseconds that the stand-in encoder takes for a picture.
        seed: the seed of the vectors.
        folder: where to work; a temporary one by default.
        as_json: whether to print a JSON document.

    Raises:
        CiesError: if the server does not start.
        GalleryError: if the disk is full.
    """
    encoder = SleepingEncoder(cost_ms / 1000, dimension)
    conditions = [Condition.parse(name) for name in CONDITIONS]
    tables = [VectorTable(c.name, dimension, encoder.spec.made_by(c)) for c in conditions]
    with TemporaryDirectory(prefix="cies-bench-", dir=folder) as made:
        place = Path(made) / "g.cies"
        say(f"Writing a gallery of {pictures} pictures under {len(tables)} conditions ...")
        write_generated(place, pictures, dimension, seed, tables)
        keys = [generated_key(seed, number) for number in range(pictures)]
        with _server(place, cost_ms / 1000, dimension) as (process, port):
            lines, states = _measure_searches(process, port, keys, requests, steady)
            if uploads:
                lines.append(LoadLine(UPLOADS, _measure_uploads(port, uploads)))
    about = environment("fastapi", "uvicorn", "numpy", "faiss-cpu", "lancedb")
    best = 1000 / cost_ms if cost_ms else 0.0
    if as_json:
        listed = [{"what": line.what, **asdict(line.figures)} for line in lines]
        document = {
            "environment": about,
            "asked": {"pictures": pictures, "dimension": dimension, "cost_ms": cost_ms},
            "loads": listed,
            "states": [asdict(state) for state in states],
            "encoder_per_second": best,
        }
        print_json({"schema_version": SCHEMA_VERSION, **document})
        return
    _print(lines, states, steady, best)
    say("; ".join(f"{name} {value}" for name, value in about.items()))


def _measure_searches(
    process: psutil.Process, port: int, keys: list[str], requests: int, steady: int
) -> tuple[list[LoadLine], list[ServerState]]:
    """Searches by 1, 8 and 32 clients, then by 8 for long."""
    random = np.random.default_rng(1)
    asked = [keys[n] for n in random.integers(0, len(keys), min(len(keys), 5000)).tolist()]
    by_key = [[HttpRequest(f"/api/v1/search?key={key}&condition=color&k=10")] for key in asked]
    weighted = [
        [_question([key], {"color": 2, "shape": 1, "style": float(n % 7)})]
        for n, key in enumerate(asked)
    ]
    measure_load(port, by_key, 8, 200)  # opens the tables
    measure_load(port, weighted, 2, 20)
    lines = []
    for what, groups, count in (
        ("search by key", by_key, requests),
        ("3 weighted conditions", weighted, requests // 4),
    ):
        for clients in (1, 8, 32):
            figures = measure_load(port, groups, clients, max(clients, count))
            say(
                f"  {what}, {clients} clients: {figures.p50_ms:.1f} ms, p95 {figures.p95_ms:.1f} ms"
            )
            lines.append(LoadLine(what, figures))
    states = [_state(process)]
    if steady:
        say(f"  {steady} requests for the growth of the memory ...")
        lines.append(LoadLine("search by key, long", measure_load(port, by_key, 8, steady)))
        states.append(_state(process))
    return lines, states


def _measure_uploads(port: int, clients: int) -> LoadFigures:
    """New pictures that are sent and searched with."""
    say(f"  {clients} uploads at the same time ...")
    files = different_pictures(_ROUNDS * clients + 2 * clients)
    groups = [
        [
            HttpRequest("/api/v1/uploads", data, "image/jpeg"),
            _question([key], {CONDITIONS[0]: 1.0}),
        ]
        for key, data in files
    ]
    measure_load(port, groups[: 2 * clients], clients, 2 * clients)  # starts the decoders
    return measure_load(port, groups[2 * clients :], clients, _ROUNDS * clients)


def _question(keys: list[str], conditions: dict[str, float]) -> HttpRequest:
    used = {name: weight for name, weight in conditions.items() if weight}
    body = {"pictures": keys, "conditions": used, "k": 10}
    return HttpRequest("/api/v1/search", json.dumps(body).encode())


@contextmanager
def _server(gallery: Path, seconds: float, dimension: int) -> Iterator[tuple[psutil.Process, int]]:
    """A server in another process, as ``cies serve`` starts it, with a stand-in encoder.

    Raises:
        CiesError: if it does not answer.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_serve, args=(gallery, port, seconds, dimension))
    process.start()
    try:
        _wait_until_ready(process, port)
        yield psutil.Process(process.pid), port
    finally:
        process.terminate()
        process.join(20)
        if process.is_alive():
            process.kill()
            process.join()


def _serve(gallery: Path, port: int, seconds: float, dimension: int) -> None:
    """Serve a gallery; runs in the other process."""
    from cies.server.gallery_service import GalleryService
    from cies.server.run import ServerOptions, serve

    def prepare(service: GalleryService) -> None:
        service.engine.encoders.loaded.append(SleepingEncoder(seconds, dimension))

    options = ServerOptions(
        host="127.0.0.1",
        port=port,
        token="",
        public=False,
        allowed_hosts=(),
        show_paths=False,
        device="auto",
        index="auto",
        open_browser=False,
    )
    serve(gallery, options, prepare)


def _wait_until_ready(process: BaseProcess, port: int) -> None:
    """Wait until the server answers.

    Raises:
        CiesError: if it does not.
    """
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and process.is_alive():
        link = HTTPConnection("127.0.0.1", port, timeout=_START_SECONDS)
        try:
            link.request("GET", "/api/v1/ready")
            if link.getresponse().status == 200:
                return
        except (OSError, HTTPException):
            time.sleep(0.1)
        finally:
            link.close()
    raise CiesError("The server does not start; run `cies serve` to see why.")


def _state(process: psutil.Process) -> ServerState:
    files = process.num_fds() if hasattr(process, "num_fds") else process.num_handles()
    return ServerState(process.memory_info().rss / 2**20, files, process.num_threads())


def _print(
    lines: Sequence[LoadLine], states: Sequence[ServerState], steady: int, best: float
) -> None:
    numbers = ["clients", "requests", "errors", "p50 ms", "p95 ms", "worst ms", "per second"]
    rows = [
        [
            line.what,
            str(line.figures.clients),
            str(line.figures.requests),
            str(line.figures.errors),
            f"{line.figures.p50_ms:.1f}",
            f"{line.figures.p95_ms:.1f}",
            f"{line.figures.worst_ms:.0f}",
            f"{line.figures.per_second:.1f}",
        ]
        for line in lines
    ]
    print_table(["what", *numbers], rows, numbers=numbers)
    if steady:
        before, after = states
        say(
            f"Before and after {steady} requests: {before.megabytes:.0f} and "
            f"{after.megabytes:.0f} MB, {before.files} and {after.files} open files, "
            f"{before.threads} and {after.threads} threads."
        )
    uploads = [line for line in lines if line.what == UPLOADS]
    if uploads and best:
        share = uploads[0].figures.per_second / best
        say(f"The encoder alone embeds {best:g} pictures a second; {share:.0%} of that is reached.")
