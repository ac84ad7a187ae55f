"""Answers the requests of the HTTP interface from an open gallery. Knows nothing of HTTP."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import PurePath
from typing import Any

import pyarrow.compute as pc
from PIL import Image

from cies import api
from cies.collections import collections
from cies.gallery_search import SearchableGallery
from cies.reports.browse.facets import facets_document
from cies.server.documents import EmbedRequest, SearchRequest
from cies.server.embedding_queue import EmbeddingQueue, check_client
from cies.server.turns import MAY_STORE, PROGRESS, ServedReranker, Turns
from cies.server.uploads import Uploads
from cies.typed_search import TypedSearch, picture_from_wire, question_of
from indexes.errors import CiesError, UsageError
from indexes.progress import running_ingest
from indexes.store.attributes import attributes, user_columns
from ingest.conditions import Condition
from ingest.encoders.base import BaseEncoder, Embeddings, check_text
from ingest.fill.pipeline import Progress
from ingest.read.images import UnreadableImage
from ingest.read.isolated import decode_isolated
from ingest.sources.factory import file_at
from query.collections import collection_keys
from query.composers.factory import COMPOSERS, CONDITION_COMPOSERS
from query.explore.thumbnails import thumbnail
from query.hits import SCHEMA_VERSION, Hits
from query.question import Options, Question

#: The longest side in pixels of a picture that a page shows alone.
SHOWN_SIDE = 2048

#: The side to which an upload is reduced to see whether it can be read.
_CHECKED_SIDE = 64

#: Bytes of all uploads together.
_UPLOADS = 256 * 2**20

#: How many values of a column are listed, and how many documents are remembered.
_VALUES, _REMEMBERED = 200, 64

#: How many files that failed are listed.
_FAILURES = 200


class NotInGallery(CiesError):
    """There is no picture of this key, neither in the gallery nor among the uploads."""

    exit_code = 2


class ReadOnlyServer(CiesError):
    """The server was started without ``--edit``."""

    exit_code = 2


class GalleryService:
    """One open gallery that many threads ask.

    Attributes:
        engine: the open gallery; it follows what other processes write.
        queue: embeds the pictures of all requests.
        uploads: pictures that clients sent.
        show_paths: whether answers contain the paths of this machine; else file names only.
        edit: whether clients may change collections and remove pictures.
    """

    def __init__(
        self,
        path: str,
        device: str,
        index: str,
        show_paths: bool,
        max_waiting: int,
        edit: bool = False,
    ):
        """Open the gallery.

        Args:
            path: the gallery's folder.
            device: the device of the model.
            index: as of :func:`cies.open`.
            show_paths: whether answers contain paths.
            max_waiting: how many pictures may wait for the model.
            edit: whether clients may change collections and remove pictures.

        Raises:
            GalleryMissing: if there is no gallery.
        """
        self.engine: SearchableGallery = api.open(path, device, index)
        self.queue = EmbeddingQueue(max_waiting)
        self._turns = Turns()
        self.engine.encoders.embed_images = self._embed_images
        self.engine.make_reranker = partial(ServedReranker, self.queue, self._turns)
        self.engine.progress = _report
        self.uploads = Uploads(_UPLOADS)
        self.show_paths = show_paths
        self.edit = edit
        self._documents: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Stop the model's thread."""
        self.queue.close()

    # -- search -----------------------------------------------------------------------------

    def search(self, request: SearchRequest) -> dict[str, Any]:
        """The document of a search; paths are names only unless paths may be shown.

        Raises:
            NotInGallery: if an example is unknown.
            CiesError: as :meth:`query.engine.Engine.ask`.
        """
        self.engine.follow_writer()
        if request.pictures and request.text:
            raise UsageError("Give either pictures or a text.")
        if not (request.pictures or request.text or request.like):
            raise UsageError("Give either pictures or a text, or pictures to like.")
        if request.text:
            check_text(request.text)
        pictures = self._pictures(request.pictures)
        options = Options(
            like=self._pictures(request.like),
            dislike=self._pictures(request.dislike),
            feedback=request.feedback,
            unlike=request.unlike,
            combine=request.combine,
            crop=request.crop,
            where=request.where or None,
            exclude_same=request.exclude_same,
            min_percentile=request.min_percentile,
            sort=request.sort,
            offset=request.offset,
            group_duplicates=request.group_duplicates,
            method=request.method or None,
            rerank=request.rerank,
            fill=request.fill,
            modify=request.modify or None,
            caption=request.caption,
            composer=request.composer,
            must=None if request.must is None else tuple(request.must),
            must_not=None if request.must_not is None else tuple(request.must_not),
        )
        question = Question.of(pictures, request.conditions, request.k, request.text, **options)
        if request.fill and not self.edit:
            raise ReadOnlyServer("Filling changes the gallery; start the server with `--edit`.")
        return self._public(self.ask(question, may_store=self.edit))

    def typed_search(self, typed: TypedSearch, pictures: Mapping[str, Any]) -> Hits:
        """The hits of a search that the same user typed on this machine.

        Args:
            typed: the options.
            pictures: for ``pictures``, ``like`` and ``dislike`` the documents of the pictures, see
                :func:`cies.typed_search.wire_picture`.

        Raises:
            CiesError: as :meth:`query.engine.Engine.ask`.
        """
        # What the user has just ingested must be found.
        self.engine.refresh()
        given = [
            [picture_from_wire(one) for one in pictures[name]]
            for name in ("pictures", "like", "dislike")
        ]
        return self.ask(question_of(typed, *given), may_store=True)

    def ask(self, question: Question, may_store: bool = False) -> Hits:
        """Answer a question when it is its turn.

        Args:
            question: the question.
            may_store: whether vectors that re-ranking makes are stored in the gallery.

        Raises:
            ClientLeft: if nobody waits for the answer any more.
            CiesError: as :meth:`query.engine.Engine.ask`.
        """
        check_client()
        MAY_STORE.set(may_store)
        if question.text or question.modification is not None:
            # Texts and composers use the models in many ways.
            with self.queue.using_model():
                return self.engine.ask(question)
        with self._turns.taken():
            return self.engine.ask(question)

    def _embed_images(
        self,
        encoder: BaseEncoder,
        images: Sequence[Image.Image],
        conditions: Sequence[Condition],
    ) -> Embeddings:
        with self._turns.given_back():
            return self.queue.embed(encoder, images, conditions)

    def embed(self, request: EmbedRequest) -> dict[str, Any]:
        """Vectors and words of pictures under conditions.

        Raises:
            NotInGallery: if a picture is unknown.
            CiesError: as :meth:`query.engine.Engine.ask`.
        """
        examples = self.engine.embed(
            [self._picture(k) for k in request.pictures], request.conditions
        )
        return {
            "conditions": [self.engine.resolve(name).name for name in request.conditions],
            "vectors": [[vector.tolist() for vector in one.vectors] for one in examples],
            "words": [list(one.words) for one in examples],
        }

    def _pictures(self, names: Sequence[str]) -> tuple[str | bytes, ...]:
        """Examples as the engine takes them; ``@NAME`` stands for the pictures of a collection.

        Raises:
            NotInGallery: if there is no such picture.
            UsageError: if there is no such collection.
        """
        found: list[str | bytes] = []
        for name in names:
            if name.startswith("@"):
                keys = collection_keys(self.engine.snapshot, name)
                found += [key for key in keys if self.engine.has(key)]
            else:
                found.append(self._picture(name))
        return tuple(dict.fromkeys(found))

    def _picture(self, key: str) -> str | bytes:
        """An example as the engine takes it: a key of the gallery, or an upload's bytes.

        A client can never name a file of this machine.

        Raises:
            NotInGallery: if there is none.
        """
        if self.engine.has(key):
            return key
        data = self.uploads.get(key)
        if data is None:
            raise NotInGallery(
                f"There is no picture {key[:12]}... in the gallery or among the uploads; upload it "
                "again."
            )
        return data

    def _public(self, hits: Hits) -> dict[str, Any]:
        document = hits.to_json()
        if self.show_paths:
            return document
        query = dict(document["query"])
        query["image"] = PurePath(query["image"]).name
        found = []
        for hit in document["hits"]:
            names = tuple(PurePath(path).name for path in hit["duplicates"])
            found.append({**hit, "path": PurePath(hit["path"]).name, "duplicates": names})
        return {**document, "query": query, "hits": found}

    # -- pictures ---------------------------------------------------------------------------

    def pictures(
        self, where: str | None, condition: str | None, k: int, offset: int
    ) -> dict[str, Any]:
        """A part of the list of pictures that pass a filter, in path order.

        Args:
            where: a filter, or ``None``.
            condition: whose words the filter can refer to; the first one by default.
            k: how many.
            offset: how many to skip.

        Raises:
            UsageError: if the filter is wrong.
        """
        self.engine.follow_writer()
        memo = ("pictures", where, condition)
        found = self._remembered(memo, lambda: list(self.engine.pictures(where, condition).items()))
        listed = [
            {"key": key, "path": self.shown_path(path)} for key, path in found[offset : offset + k]
        ]
        return {"total": len(found), "pictures": listed}

    def upload(self, data: bytes) -> dict[str, Any]:
        """Keep a picture that a client sent.

        Raises:
            UsageError: if it cannot be read as a picture.
        """
        try:
            # The whole file is read, at a scale that is quick.
            width, height = decode_isolated(data, _CHECKED_SIDE).size
        except UnreadableImage as error:
            raise UsageError(f"Cannot read the upload: {error.reason}.") from error
        key = self.uploads.add(data)
        return {
            "key": key,
            "width": width,
            "height": height,
            "in_gallery": self.engine.has(key),
        }

    def thumbnail(self, key: str) -> bytes:
        """A small JPEG of a picture of the gallery.

        Raises:
            NotInGallery: if there is no such picture, or its file cannot be read now.
        """
        data = thumbnail(self.engine.path(key), key) if self.engine.has(key) else None
        if data is None:
            raise NotInGallery(f"The picture {key[:12]}... cannot be shown now.")
        return data

    def shown(self, key: str) -> bytes:
        """A large JPEG of a picture of the gallery or an upload: upright, without metadata.

        Raises:
            NotInGallery: if there is no such picture, or its file cannot be read now.
        """
        data, suffix = self.file(key)
        try:
            image = decode_isolated(data, SHOWN_SIDE, suffix).image
        except UnreadableImage as error:
            raise NotInGallery(f"The picture cannot be shown: {error.reason}.") from error
        image.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=90)
        return buffer.getvalue()

    def file(self, key: str) -> tuple[bytes, str]:
        """The bytes of a picture's file and the suffix of its name.

        Raises:
            NotInGallery: if there is no such picture, or its file cannot be read now.
        """
        data = self.uploads.get(key)
        if data is not None:
            return data, ""
        if not self.engine.has(key):
            raise NotInGallery(f"There is no picture {key[:12]}... in the gallery.")
        path = self.engine.path(key)
        try:
            content = file_at(path).read()
        except (UnreadableImage, UsageError, OSError) as error:
            raise NotInGallery(f"The file of the picture cannot be read now: {error}.") from error
        if content.key != key:
            raise NotInGallery("The file of the picture has changed; run `cies ingest` again.")
        return content.data, PurePath(path).suffix.lower()

    # -- what the gallery has ---------------------------------------------------------------

    def gallery(self) -> dict[str, Any]:
        """What a page needs to know about the gallery."""
        self.engine.follow_writer()
        methods = [table.made_by["method"] for table in self.engine.gallery.conditions()]
        types = self._remembered("columns", lambda: user_columns(self.engine.snapshot))
        return {
            "name": self.engine.gallery.path.resolve().name,
            "pictures": len(self.engine),
            "conditions": self.engine.conditions,
            "methods": list(dict.fromkeys(methods)),
            "columns": {name: str(kind) for name, kind in types.items()},
            "composers": [*CONDITION_COMPOSERS, *COMPOSERS],
            "collections": self.collections(),
            "editable": self.edit,
            "version": hashlib.sha256(self.engine.moment.encode()).hexdigest()[:16],
        }

    def collections(self) -> dict[str, int]:
        """The collections, each with the number of its pictures."""
        self.engine.follow_writer()
        found: dict[str, int] = self._remembered(
            "collections", lambda: collections(self.engine.snapshot)
        )
        return found

    def status(self) -> dict[str, Any]:
        """The ingest of another process, and the files that could not be read."""
        self.engine.follow_writer()

        def failures() -> list[dict[str, str]]:
            records = self.engine.snapshot.files()
            private = "\0" if self.show_paths else f"{self.engine.gallery.root}{os.sep}"
            return [
                {
                    "path": self.shown_path(record.path),
                    "status": record.status,
                    "reason": (record.reason or "").replace(private, ""),
                }
                for record in records
                if record.status not in ("done", "gone")
            ]

        found = self._remembered("failures", failures)
        running = running_ingest(self.engine.gallery.indexes)
        return {
            "pictures": len(self.engine),
            "ingest": {
                "running": running is not None,
                "done": running.done if running else 0,
                "total": running.total if running else 0,
            },
            "failed": len(found),
            "failures": found[:_FAILURES],
        }

    def about(self, key: str) -> dict[str, Any]:
        """A picture's name and its words.

        Raises:
            NotInGallery: if there is no such picture.
        """
        if not self.engine.has(key):
            raise NotInGallery(f"There is no picture {key[:12]}... in the gallery.")
        words = {}
        for name in self.engine.conditions:
            table = self.engine.opened(name)
            row = table.row(key)
            if row is not None and table.words[row]:
                words[name] = table.words[row]
        return {"key": key, "path": self.shown_path(self.engine.path(key)), "words": words}

    def shown_path(self, path: str) -> str:
        """A path as answers contain it: its name only, unless paths may be shown."""
        return path if self.show_paths else PurePath(path).name

    def facets(self, condition: str) -> dict[str, Any]:
        """The document of ``cies facets --json``, without the gallery's path.

        Raises:
            UnknownCondition: if the gallery has no such condition.
        """
        self.engine.follow_writer()

        def make() -> dict[str, Any]:
            document = facets_document(self.engine, condition)
            del document["gallery"]
            return {"schema_version": SCHEMA_VERSION, **document}

        found: dict[str, Any] = self._remembered(("facets", condition), make)
        return found

    def values(self, column: str) -> dict[str, Any]:
        """The most frequent values of a user's column.

        Raises:
            UsageError: if there is no such column.
        """
        self.engine.follow_writer()

        def make() -> dict[str, Any]:
            rows = attributes(self.engine.snapshot)
            if column not in rows.column_names:
                raise UsageError(f"There is no column '{column}' in the gallery.")
            counts = pc.value_counts(rows.column(column).drop_null()).to_pylist()
            common = Counter({str(one["values"]): one["counts"] for one in counts})
            listed = [{"value": v, "pictures": n} for v, n in common.most_common(_VALUES)]
            return {"column": column, "values": listed, "others": len(common) - len(listed)}

        found: dict[str, Any] = self._remembered(("values", column), make)
        return found

    def _remembered(self, name: Any, make: Callable[[], Any]) -> Any:
        """A value that changes only when the gallery does."""
        memo = (name, self.engine.moment)
        with self._lock:
            if memo not in self._documents:
                self._documents[memo] = make()
                while len(self._documents) > _REMEMBERED:
                    self._documents.popitem(last=False)
            self._documents.move_to_end(memo)
            return self._documents[memo]


def _report(state: Progress) -> None:
    """Pass on the progress of the question that this thread answers.

    Raises:
        ClientLeft: if nobody waits for the answer any more.
    """
    check_client()
    report = PROGRESS.get()
    if report is not None:
        report(state)
