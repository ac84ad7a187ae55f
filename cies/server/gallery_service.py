"""Answers the requests of the HTTP interface from an open gallery. Knows nothing of HTTP."""

from __future__ import annotations

import hashlib
import io
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

import pyarrow.compute as pc

from cies import api
from cies.gallery_search import SearchableGallery
from cies.reports.browse.facets import facets_document
from cies.server.documents import EmbedRequest, SearchRequest
from cies.server.embedding_queue import EmbeddingQueue
from cies.server.uploads import Uploads
from indexes.errors import CiesError, UsageError
from indexes.store.attributes import attributes, user_columns
from ingest.encoders.base import check_text
from ingest.read.decoder_pool import DecoderPool
from ingest.read.images import UnreadableImage
from ingest.sources.factory import file_at
from query.composers.factory import COMPOSERS
from query.explore.thumbnails import thumbnail
from query.hits import SCHEMA_VERSION, Hits
from query.question import Options, Question

#: The longest side in pixels of a picture that a page shows alone.
SHOWN_SIDE = 2048

#: Bytes of all uploads together.
_UPLOADS = 256 * 2**20

#: How many values of a column are listed, and how many documents are remembered.
_VALUES, _REMEMBERED = 200, 64


class NotInGallery(CiesError):
    """There is no picture of this key, neither in the gallery nor among the uploads."""

    exit_code = 2


class GalleryService:
    """One open gallery that many threads ask.

    Attributes:
        engine: the open gallery; it follows what other processes write.
        queue: embeds the pictures of all requests.
        uploads: pictures that clients sent.
        show_paths: whether answers contain the paths of this machine; else file names only.
    """

    def __init__(self, path: str, device: str, index: str, show_paths: bool, max_waiting: int):
        """Open the gallery.

        Args:
            path: the gallery's folder.
            device: the device of the model.
            index: as of :func:`cies.open`.
            show_paths: whether answers contain paths.
            max_waiting: how many pictures may wait for the model.

        Raises:
            GalleryMissing: if there is no gallery.
        """
        self.engine: SearchableGallery = api.open(path, device, index)
        self.queue = EmbeddingQueue(max_waiting)
        self.engine.encoders.embed_images = self.queue.embed
        self.uploads = Uploads(_UPLOADS)
        self.show_paths = show_paths
        # An upload may crash or hang its decoder, which must not be this process.
        self._decoders = DecoderPool(SHOWN_SIDE)
        self._documents: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Stop the model's thread and the decoders."""
        self.queue.close()
        self._decoders.close()

    # -- search -----------------------------------------------------------------------------

    def search(self, request: SearchRequest) -> dict[str, Any]:
        """The document of a search; paths are names only unless paths may be shown.

        Raises:
            NotInGallery: if an example is unknown.
            CiesError: as :meth:`query.engine.Engine.ask`.
        """
        if bool(request.pictures) == bool(request.text):
            raise UsageError("Give either pictures or a text.")
        if request.text:
            check_text(request.text)
        pictures = tuple(self._picture(key) for key in request.pictures)
        options = Options(
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
            rerank=0,
            modify=request.modify or None,
            composer=request.composer,
            must=None if request.must is None else tuple(request.must),
            must_not=None if request.must_not is None else tuple(request.must_not),
        )
        question = Question.of(pictures, request.conditions, request.k, request.text, **options)
        return self._public(self.engine.ask(question))

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
            {"key": key, "path": path if self.show_paths else PurePath(path).name}
            for key, path in found[offset : offset + k]
        ]
        return {"total": len(found), "pictures": listed}

    def upload(self, data: bytes) -> dict[str, Any]:
        """Keep a picture that a client sent.

        Raises:
            UsageError: if it cannot be read as a picture.
        """
        try:
            width, height = self._decoders.decode(data).size
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
            image = self._decoders.decode(data, suffix).image
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
            "composers": list(COMPOSERS),
            "version": hashlib.sha256(self.engine.moment.encode()).hexdigest()[:16],
        }

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
