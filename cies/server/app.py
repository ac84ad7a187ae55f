"""The HTTP application: the routes of ``/api/v1`` and the page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path as FilePath
from typing import Annotated, Any

import anyio.to_thread
from fastapi import FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from cies import __version__
from cies.html.rendering import STYLE_NAME, TEMPLATES, render
from cies.server.collecting import add_collections
from cies.server.documents import (
    MAX_HITS,
    EmbedAnswer,
    EmbedRequest,
    FacetsDocument,
    GalleryDocument,
    Health,
    PictureDocument,
    PicturesDocument,
    Problem,
    SearchAnswer,
    SearchRequest,
    StatusDocument,
    Upload,
    ValuesDocument,
)
from cies.server.gallery_service import GalleryService
from cies.server.guards import Access, Guard
from cies.server.mapping import add_maps
from cies.server.metrics import Metrics, RequestTiming
from cies.server.problems import AsciiJSONResponse, problem, problem_of
from cies.server.streaming import EVENTS, add_local, streamed_search, while_connected
from indexes.errors import CiesError
from query.question import parse_conditions

_PAGE = FilePath(__file__).parent / "page"

#: The files of the page.
_FILES = {
    "style.css": "text/css",
    "app.js": "text/javascript",
    "elements.js": "text/javascript",
    "map.js": "text/javascript",
    "picks.js": "text/javascript",
    "search.js": "text/javascript",
    "page.css": "text/css",
    "icon.svg": "image/svg+xml",
}

#: Requests that are answered at the same time, most of which wait for the model; further ones wait.
THREADS = 100

_Key = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="SHA-256 of the file's bytes")]
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Problem, "description": "The request is wrong; `detail` says how."},
    "5XX": {"model": Problem, "description": "The gallery or the model cannot be used."},
}

#: A thumbnail is named by its content, so it never changes.
_FOREVER = {"cache-control": "private, max-age=31536000, immutable"}


def create_app(service: GalleryService, access: Access) -> FastAPI:
    """The application for one gallery.

    Args:
        service: the open gallery.
        access: who may use it.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        yield
        service.close()

    app = FastAPI(
        title="CIES",
        version=__version__,
        summary="Conditional image search over one gallery.",
        docs_url=None,  # FastAPI's page loads scripts from other sites
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        lifespan=lifespan,
        default_response_class=AsciiJSONResponse,
        responses=_PROBLEMS,
    )
    metrics = Metrics()
    _add_errors(app, service)
    _add_search(app, service)
    _add_pictures(app, service)
    _add_gallery(app, service, metrics)
    add_collections(app, service)
    add_maps(app, service)
    add_local(app, service, access.local_token)
    _add_page(app)
    app.add_middleware(RequestTiming, metrics=metrics)
    app.add_middleware(Guard, access=access)
    return app


def _add_errors(app: FastAPI, service: GalleryService) -> None:
    private = _private(service)

    @app.exception_handler(CiesError)
    async def of_cies(request: Request, error: CiesError) -> Response:
        return problem_of(error, private)

    @app.exception_handler(RequestValidationError)
    async def of_validation(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query"))
        return problem(422, f"The field '{where[:100]}' is wrong: {first['msg']}.", "UsageError")

    @app.exception_handler(HTTPException)
    async def of_http(request: Request, error: HTTPException) -> Response:
        return problem(error.status_code, str(error.detail))


def _private(service: GalleryService) -> str:
    """What answers must not contain."""
    return "" if service.show_paths else str(service.engine.gallery.path)


def _add_search(app: FastAPI, service: GalleryService) -> None:
    @app.post("/api/v1/search", response_model=SearchAnswer, tags=["search"])
    async def search(question: SearchRequest, request: Request) -> Any:
        """The pictures most like one, or a text, under the conditions. With the header `Accept:
        text/event-stream`, the answer is a stream: `first`, `progress`, `answer` or `problem`.
        """
        if EVENTS in request.headers.get("accept", ""):
            return streamed_search(service, question, _private(service))
        return await while_connected(request, partial(service.search, question))

    @app.get("/api/v1/search", response_model=SearchAnswer, tags=["search"])
    def search_by_address(
        key: Annotated[list[str], Query(max_length=16)] = [],  # noqa: B006 - never changed
        like: Annotated[list[str], Query(max_length=50)] = [],  # noqa: B006
        dislike: Annotated[list[str], Query(max_length=50)] = [],  # noqa: B006
        text: str = "",
        condition: Annotated[list[str], Query(max_length=16)] = [],  # noqa: B006
        unlike: Annotated[list[str], Query(alias="not", max_length=16)] = [],  # noqa: B006
        k: int = 10,
        offset: int | None = None,
        where: str | None = None,
        sort: str = "score",
    ) -> dict[str, Any]:
        """As POST, for a picture of the gallery or a text: `?key=...&condition=color=2&k=5`."""
        fields: dict[str, Any] = {
            "pictures": key,
            "like": like,
            "dislike": dislike,
            "text": text,
            "conditions": parse_conditions(condition),
            "unlike": parse_conditions(unlike, "--not"),
            "k": k,
            "offset": offset,
            "where": where,
            "sort": sort,
        }
        return service.search(_validated(fields))

    @app.post("/api/v1/embed", response_model=EmbedAnswer, tags=["search"])
    async def embed(asked: EmbedRequest, request: Request) -> Any:
        """Vectors of pictures under conditions, in the gallery's geometry."""
        return await while_connected(request, partial(service.embed, asked))


def _validated(fields: dict[str, Any]) -> SearchRequest:
    """A request from the parts of an address.

    Raises:
        RequestValidationError: if a field is wrong.
    """
    from pydantic import ValidationError

    try:
        return SearchRequest(**fields)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from error


def _add_pictures(app: FastAPI, service: GalleryService) -> None:
    @app.post(
        "/api/v1/uploads",
        response_model=Upload,
        status_code=201,
        tags=["pictures"],
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
            }
        },
    )
    async def upload(request: Request) -> Any:
        """Send a picture, as the body of the request; searches then name it by its key."""
        data = await request.body()
        return await run_in_threadpool(service.upload, data)

    @app.get("/api/v1/pictures", response_model=PicturesDocument, tags=["pictures"])
    def pictures(
        where: str | None = None,
        condition: str | None = None,
        k: Annotated[int, Query(ge=1, le=MAX_HITS)] = 50,
        offset: Annotated[int, Query(ge=0)] = 0,
    ) -> dict[str, Any]:
        """The pictures that pass a filter, in path order."""
        return service.pictures(where or None, condition, k, offset)

    @app.get("/api/v1/pictures/{key}/thumbnail", response_class=Response, tags=["pictures"])
    def thumbnail(key: _Key) -> Response:
        """A small JPEG of a picture."""
        return Response(service.thumbnail(key), media_type="image/jpeg", headers=_FOREVER)

    @app.get("/api/v1/pictures/{key}", response_class=Response, tags=["pictures"])
    def shown(key: _Key) -> Response:
        """A large JPEG of a picture, upright and without metadata."""
        return Response(service.shown(key), media_type="image/jpeg", headers=_FOREVER)

    @app.get("/api/v1/pictures/{key}/about", response_model=PictureDocument, tags=["pictures"])
    def about(key: _Key) -> dict[str, Any]:
        """A picture's name and its words."""
        return service.about(key)

    @app.get("/api/v1/pictures/{key}/file", response_class=Response, tags=["pictures"])
    def file(key: _Key) -> Response:
        """A picture's file as it is, as a download."""
        data, suffix = service.file(key)
        name = f"{key[:16]}{suffix}"
        return Response(
            data,
            media_type="application/octet-stream",
            headers={"content-disposition": f'attachment; filename="{name}"'},
        )


def _add_gallery(app: FastAPI, service: GalleryService, metrics: Metrics) -> None:
    @app.get("/api/v1/gallery", response_model=GalleryDocument, tags=["gallery"])
    def gallery() -> dict[str, Any]:
        """The gallery's conditions, methods and columns."""
        return service.gallery()

    @app.get("/api/v1/status", response_model=StatusDocument, tags=["gallery"])
    def status() -> dict[str, Any]:
        """The ingest of another process, and the files that could not be read."""
        return service.status()

    @app.get("/api/v1/facets/{condition}", response_model=FacetsDocument, tags=["gallery"])
    def facets(condition: str) -> dict[str, Any]:
        """The model's words under a condition, with the number of pictures of each."""
        return service.facets(condition)

    @app.get("/api/v1/columns/{column}", response_model=ValuesDocument, tags=["gallery"])
    def values(column: str) -> dict[str, Any]:
        """The most frequent values of a column."""
        return service.values(column)

    @app.get("/api/v1/health", response_model=Health, tags=["server"])
    async def health() -> dict[str, str]:
        """Whether the server answers."""
        return {"status": "ok", "version": __version__}

    @app.get("/api/v1/ready", response_model=Health, tags=["server"])
    def ready() -> dict[str, str]:
        """Whether the gallery can be read."""
        service.gallery()
        return {"status": "ok", "version": __version__}

    @app.get("/api/v1/metrics", response_class=PlainTextResponse, tags=["server"])
    def numbers() -> str:
        """Counts of requests and embeddings, in the text format of Prometheus."""
        return metrics.text(
            {
                "cies_pictures": len(service.engine),
                "cies_embeddings_waiting": service.queue.waiting,
                "cies_embedded_pictures": service.queue.embedded,
                "cies_embedding_calls": service.queue.calls,
            }
        )


def _add_page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(_PAGE / "index.html", headers={"cache-control": "no-cache"})

    @app.get("/page/{name}", include_in_schema=False)
    async def part(name: str) -> Response:
        if name not in _FILES:
            raise HTTPException(404, "There is no such file.")
        folder = TEMPLATES if name == STYLE_NAME else _PAGE
        return FileResponse(
            folder / name, media_type=_FILES[name], headers={"cache-control": "no-cache"}
        )

    @app.get("/docs", include_in_schema=False, response_class=HTMLResponse)
    def docs() -> str:
        return render(
            "interface.html.j2",
            root="/page/",
            title="CIES: HTTP interface",
            heading="HTTP interface",
            document=app.openapi(),
        )
