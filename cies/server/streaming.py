"""Answers that take long: as a stream of events, and given up when the client leaves."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import Any, TypeVar, cast

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from cies.server.documents import SearchAnswer, SearchRequest
from cies.server.embedding_queue import CLIENT_LEFT, ClientLeft
from cies.server.gallery_service import GalleryService
from cies.server.problems import problem, problem_of
from cies.server.running import LOCAL_HELLO, LOCAL_SEARCH, proof
from cies.server.turns import PROGRESS
from cies.typed_search import TypedSearch
from indexes.errors import CiesError
from ingest.fill.pipeline import Progress
from query.hits_wire import to_wire

#: The type of a stream of events.
EVENTS = "text/event-stream"

#: Seconds after which a stream without an event sends a comment, so that proxies keep it open.
_PING_SECONDS = 5.0

#: Proxies pass each event on at once.
_UNBUFFERED = {"cache-control": "no-store", "x-accel-buffering": "no"}

#: Sends an event with its document, which is one line.
_Send = Callable[[str, str], None]

_Result = TypeVar("_Result")


async def while_connected(request: Request, work: Callable[[], _Result]) -> _Result:
    """Do some work in a thread, and tell it when the client leaves.

    Args:
        request: the request, whose body has been read.
        work: stops soon after :data:`CLIENT_LEFT` is set.
    """
    left = threading.Event()

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        left.set()

    def run() -> _Result:
        CLIENT_LEFT.set(left)
        return work()

    watching = asyncio.create_task(watch())
    try:
        return await run_in_threadpool(run)
    finally:
        watching.cancel()


def streamed_search(service: GalleryService, question: SearchRequest, private: str) -> Response:
    """A search as a stream: ``first``, the answer without re-ranking, if there is re-ranking to do;
    ``progress``, as often as there is some; and ``answer``, or ``problem``.

    Args:
        service: answers.
        question: the question.
        private: see :func:`cies.server.problems.problem_of`.
    """

    def work(send: _Send) -> None:
        if question.rerank:
            quick = question.model_copy(update={"rerank": 0, "fill": False})
            send("first", _document(service.search(quick)))
        send("answer", _document(service.search(question)))

    return _stream(work, private)


def add_local(app: FastAPI, service: GalleryService, token: str) -> None:
    """Add the addresses for commands of the same user; see :mod:`cies.server.running`."""

    @app.get(LOCAL_HELLO, include_in_schema=False)
    async def hello(number: str = "") -> Response:
        return PlainTextResponse(proof(token, number[:100]))

    @app.post(LOCAL_SEARCH, include_in_schema=False)
    async def search(request: Request) -> Response:
        try:
            document = await request.json()
            typed = cast(TypedSearch, document["typed"])
            pictures = dict(document["pictures"])
        except (ValueError, TypeError, KeyError, RecursionError):
            return problem(400, "This is not a question of this version of CIES.")

        def work(send: _Send) -> None:
            send("answer", to_wire(service.typed_search(typed, pictures)))

        return _stream(work, "")


def _document(answer: dict[str, Any]) -> str:
    return json.dumps(SearchAnswer.model_validate(answer).model_dump(mode="json"))


def _stream(work: Callable[[_Send], None], private: str) -> Response:
    """A stream of what some work in a thread sends."""
    left = threading.Event()

    async def events() -> AsyncIterator[str]:
        loop = asyncio.get_running_loop()
        waiting: asyncio.Queue[str | None] = asyncio.Queue()

        def send(event: str, line: str) -> None:
            text = f"event: {event}\ndata: {line}\n\n"
            loop.call_soon_threadsafe(waiting.put_nowait, text)

        def run() -> None:
            CLIENT_LEFT.set(left)
            PROGRESS.set(lambda state: send("progress", _progress(state)))
            try:
                work(send)
            except ClientLeft:
                pass
            except CiesError as error:
                send("problem", bytes(problem_of(error, private).body).decode())
            except (ValueError, TypeError, KeyError):
                send("problem", bytes(problem(400, "The question is not complete.").body).decode())
            finally:
                loop.call_soon_threadsafe(waiting.put_nowait, None)

        working = asyncio.create_task(run_in_threadpool(run))
        try:
            while True:
                try:
                    text = await asyncio.wait_for(waiting.get(), _PING_SECONDS)
                except TimeoutError:
                    yield ": working\n\n"
                    continue
                if text is None:
                    return
                yield text
        finally:
            left.set()
            if working.done():
                await working  # logs an error of the program

    return StreamingResponse(events(), media_type=EVENTS, headers=_UNBUFFERED)


def _progress(state: Progress) -> str:
    return json.dumps(asdict(state))
