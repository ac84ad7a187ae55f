"""An encoder without a gallery, as in sentence-transformers: pictures in, vectors out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from indexes.errors import UsageError
from ingest.conditions import Condition
from ingest.encoders.base import BaseEncoder
from ingest.encoders.factory import make_encoder
from ingest.encoders.options import EncoderOptions
from ingest.read.images import UnreadableImage
from ingest.read.isolated import decode_isolated, picture_of
from ingest.sources.factory import file_at

#: A picture: a file, an address such as ``s3://...``, a file's bytes, a PIL image, or pixels, see
#: :func:`ingest.read.isolated.picture_of`.
Picture = str | Path | bytes | Image.Image | NDArray[Any]


class Encoder:
    """A model that embeds pictures under conditions. :meth:`load` loads one.

    >>> encoder = cies.Encoder.load("tiny-lvlm")
    >>> encoder.encode(["a.jpg", "b.jpg"], ["color", "shape"]).shape
    (2, 2, 192)
    >>> encoder.encode("a.jpg", "color").shape
    (192,)

    Attributes:
        method: the wrapped :class:`ingest.encoders.base.BaseEncoder`.
    """

    def __init__(self, method: BaseEncoder):
        self.method = method

    @classmethod
    def load(
        cls,
        model: str | None = None,
        *,
        method: str = "dior",
        prompt: str = "describe",
        dtype: str = "auto",
        device: str = "auto",
        device_map: str | None = None,
        force: bool = False,
        options: EncoderOptions | None = None,
    ) -> Encoder:
        """Load a model.

        Args:
            model: a built-in name, ``ORG/NAME[@REVISION]`` of the hub, or a folder; for methods
                that use a CLIP also ``open_clip:ARCH/WEIGHTS``. The method's built-in model by
                default.
            method: one of ``cies methods``, such as ``dior`` or ``clay``.
            prompt: a template of ``configs/prompts.toml``, or a text with ``{condition}``, for
                methods that use an LVLM.
            dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
            device: ``auto``, ``cpu``, ``cuda`` or ``mps``; ``cuda:0,cuda:1`` loads a copy on each.
            device_map: how accelerate distributes the model, such as ``auto``; replaces
                ``device``.
            force: accept conditions that the model was not trained on.
            options: further options of the vectors.

        Raises:
            UsageError: if there is no such method, prompt, layer or device, or an option does
                not apply to the method.
            ModelError: if the model cannot be loaded, or is of another kind.
        """
        chosen = options or EncoderOptions()
        return cls(make_encoder(method, model, prompt, dtype, device, force, chosen, device_map))

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        return self.method.dimension

    def encode(
        self,
        images: Picture | Sequence[Picture],
        conditions: str | Condition | Sequence[str | Condition],
        batch_size: int = 32,
        show_progress: bool = False,
    ) -> NDArray[np.float32]:
        """Embed pictures; all conditions of a picture share one pass through the model.

        Args:
            images: one picture or a sequence of them; see :data:`Picture`. Files are read in
                batches.
            conditions: one condition or several, as names or :class:`cies.Condition`.
            batch_size: pictures per batch, at least 1.
            show_progress: show progress on stderr.

        Returns:
            float32, unit vectors of length ``dimension``:

            ==================  =====================================
            [n, c, dimension]   n pictures, c conditions in a sequence
            [n, dimension]      n pictures, one condition
            [c, dimension]      one picture, c conditions in a sequence
            [dimension]         one picture, one condition
            ==================  =====================================

            A sequence of length one keeps its axis.

        Raises:
            UsageError: if a picture cannot be read, or ``batch_size`` is below 1.
            ModelError: if the model does not support a condition.
        """
        single = isinstance(images, (str, Path, bytes, Image.Image, np.ndarray))
        pictures: Sequence[Picture] = [images] if single else images  # type: ignore[assignment,list-item]

        def embed(batch: Sequence[Picture], wanted: Sequence[Condition]) -> NDArray[np.float32]:
            return self.method.encode([self._image(one) for one in batch], wanted)

        vectors = self._embed_batches(embed, pictures, conditions, batch_size, show_progress)
        return vectors[0] if single else vectors

    def encode_text(
        self,
        texts: str | Sequence[str],
        conditions: str | Condition | Sequence[str | Condition],
        batch_size: int = 32,
        show_progress: bool = False,
    ) -> NDArray[np.float32]:
        """Embed texts, comparable with pictures; arguments and shapes are those of :meth:`encode`.

        Raises:
            UsageError: if the method cannot embed texts, or a text is not valid.
            ModelError: if the model does not support a condition or was not trained on texts.
        """
        single = isinstance(texts, str)
        several = [texts] if isinstance(texts, str) else texts
        embed = self.method.encode_text
        vectors = self._embed_batches(embed, several, conditions, batch_size, show_progress)
        return vectors[0] if single else vectors

    def _embed_batches(
        self,
        embed: Callable[[Sequence[Any], Sequence[Condition]], NDArray[np.float32]],
        items: Sequence[Any],
        conditions: str | Condition | Sequence[str | Condition],
        batch_size: int,
        show_progress: bool,
    ) -> NDArray[np.float32]:
        """Embed pictures or texts in batches.

        Args:
            embed: embeds one batch under all conditions: float32 [batch, conditions, dimension].
            items: the pictures or texts.
            conditions: one or several.
            batch_size: items per batch.
            show_progress: show progress on stderr.

        Returns:
            float32 [items, conditions, dimension], without the second axis for one condition.
        """
        if batch_size < 1:
            raise UsageError(f"batch_size must be at least 1, not {batch_size}.")
        single = isinstance(conditions, (str, Condition))
        names: Sequence[str | Condition] = [conditions] if single else conditions  # type: ignore[assignment,list-item]
        wanted = [name if isinstance(name, Condition) else Condition.parse(name) for name in names]
        if not wanted:
            raise UsageError("No condition is named; name one, such as 'color'.")
        self.method.check(wanted)
        vectors = np.empty((len(items), len(wanted), self.dimension), dtype=np.float32)
        for start in _with_progress(range(0, len(items), batch_size), len(items), show_progress):
            batch = items[start : start + batch_size]
            vectors[start : start + len(batch)] = embed(batch, wanted)
        return vectors[:, 0] if single else vectors

    def _image(self, given: Picture) -> Image.Image:
        side = self.method.spec.max_side
        name = given if isinstance(given, (str, Path)) else f"a {type(given).__name__}"
        try:
            if not isinstance(given, (str, Path)):
                return picture_of(given, side).image
            suffix = Path(given).suffix.lower()
            return decode_isolated(file_at(str(given)).read().data, side, suffix).image
        except UnreadableImage as error:
            raise UsageError(
                f"Cannot read {name}: {error.reason}; leave it out, or name a picture file."
            ) from error

    def __repr__(self) -> str:
        spec = self.method.spec
        return f"<encoder {spec.model} by {spec.method}: vectors of {self.dimension}>"


def _with_progress(starts: range, total: int, show: bool) -> Iterator[int]:
    """The starts of batches; with ``show``, progress is shown on stderr."""
    if not show:
        yield from starts
        return
    from cies.console import counter
    from ingest.fill.pipeline import Progress

    with counter("Embedding") as progress:
        for start in starts:
            yield start
            done = min(start + starts.step, total)
            progress(Progress(done, total, done, 0))
