"""An encoder by itself, in the manner of sentence-transformers: pictures in, vectors out."""

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
from ingest.encoders.options import DiorOptions
from ingest.read.images import UnreadableImage, decode, flattened
from ingest.sources.factory import file_at

#: A picture: a file (or an address such as ``s3://...``), one in memory, or pixels as uint8
#: [height, width], [height, width, 3] or [height, width, 4].
Picture = str | Path | Image.Image | NDArray[Any]


class Encoder:
    """A model that embeds pictures under conditions. Load one with :meth:`load`.

    >>> encoder = cies.Encoder.load("tiny-lvlm")
    >>> encoder.encode(["a.jpg", "b.jpg"], ["color", "shape"]).shape
    (2, 2, 192)
    >>> encoder.encode("a.jpg", "color").shape
    (192,)

    Attributes:
        method: the encoder itself, as pipelines take it: :class:`ingest.encoders.base.BaseEncoder`.
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
        options: DiorOptions | None = None,
    ) -> Encoder:
        """Load a model.

        Args:
            model: a built-in name, ``ORG/NAME[@REVISION]`` of the hub, or a folder; for methods
                that stand on a CLIP also ``open_clip:ARCH/WEIGHTS``. The method's built-in one
                by default.
            method: how it embeds: one of ``cies methods``, such as ``dior`` or ``clay``.
            prompt: a template of ``configs/prompts.toml``, or a text with ``{condition}``, for
                methods that ask an LVLM.
            dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
            device: ``auto``, ``cpu``, ``cuda`` or ``mps``; ``cuda:0,cuda:1`` for a copy on each.
            device_map: how accelerate spreads the model, such as ``auto``, in place of ``device``.
            force: serve conditions the model was not schooled on.
            options: what else may be chosen about the vectors.

        Raises:
            UsageError: if there is no such method, prompt, layer or device, or an option does
                not apply to the method.
            ModelError: if the model cannot be had, or is of another kind.
        """
        chosen = options or DiorOptions()
        return cls(make_encoder(method, model, prompt, dtype, device, force, chosen, device_map))

    @property
    def dimension(self) -> int:
        """Length of a vector."""
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
            images: one picture or a sequence of them; see :data:`Picture`. Files are read a
                batch at a time.
            conditions: one condition or several, by name or made by :class:`cies.Condition`.
            batch_size: pictures embedded at once, at least 1.
            show_progress: whether to count on stderr.

        Returns:
            float32, unit vectors of length ``dimension``:

            ==================  =====================================
            [n, c, dimension]   for n pictures under c conditions
            [n, dimension]      for n pictures under one name
            [c, dimension]      for one picture under c conditions
            [dimension]         for one picture under one name
            ==================  =====================================

            A sequence of one is a sequence: its axis stays.

        Raises:
            UsageError: if a picture cannot be read, or ``batch_size`` is below 1.
            ModelError: if the model cannot serve a condition.
        """
        single = isinstance(images, (str, Path, Image.Image, np.ndarray))
        several: Sequence[Picture] = [images] if single else images  # type: ignore[assignment,list-item]

        def read(batch: Sequence[Picture], asked: Sequence[Condition]) -> NDArray[np.float32]:
            return self.method.encode([self._picture(one) for one in batch], asked)

        vectors = self._batched(read, several, conditions, batch_size, show_progress)
        return vectors[0] if single else vectors

    def encode_text(
        self,
        texts: str | Sequence[str],
        conditions: str | Condition | Sequence[str | Condition],
        batch_size: int = 32,
        show_progress: bool = False,
    ) -> NDArray[np.float32]:
        """Embed texts in place of pictures, comparable to them; shapes as of :meth:`encode`.

        Raises:
            UsageError: if the method has no text side, or a text cannot be read.
            ModelError: if the model cannot serve a condition or was not schooled on texts.
        """
        single = isinstance(texts, str)
        several = [texts] if isinstance(texts, str) else texts
        read = self.method.encode_text
        vectors = self._batched(read, several, conditions, batch_size, show_progress)
        return vectors[0] if single else vectors

    def _batched(
        self,
        read: Callable[[Sequence[Any], Sequence[Condition]], NDArray[np.float32]],
        given: Sequence[Any],
        conditions: str | Condition | Sequence[str | Condition],
        batch_size: int,
        show_progress: bool,
    ) -> NDArray[np.float32]:
        if batch_size < 1:
            raise UsageError(f"batch_size must be at least 1, not {batch_size}.")
        one = isinstance(conditions, (str, Condition))
        names: Sequence[str | Condition] = [conditions] if one else conditions  # type: ignore[assignment,list-item]
        asked = [name if isinstance(name, Condition) else Condition.parse(name) for name in names]
        if not asked:
            raise UsageError("No condition is named; name one, such as 'color'.")
        self.method.check(asked)
        vectors = np.empty((len(given), len(asked), self.dimension), dtype=np.float32)
        for start in _counted(range(0, len(given), batch_size), len(given), show_progress):
            part = given[start : start + batch_size]
            vectors[start : start + len(part)] = read(part, asked)
        return vectors[:, 0] if one else vectors

    def _picture(self, given: Picture) -> Image.Image:
        side = self.method.spec.max_side
        if isinstance(given, np.ndarray):
            return _of_pixels(given)
        if isinstance(given, Image.Image):
            return flattened(given)
        suffix = Path(given).suffix.lower()
        try:
            return decode(file_at(str(given)).read().data, side, suffix).image
        except UnreadableImage as error:
            raise UsageError(
                f"Cannot read {given}: {error.reason}; leave it out, or name a picture file."
            ) from error

    def __repr__(self) -> str:
        spec = self.method.spec
        return f"<encoder {spec.model} by {spec.method}: vectors of {self.dimension}>"


def _of_pixels(pixels: NDArray[Any]) -> Image.Image:
    right = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))
    if pixels.dtype != np.uint8 or not right or not pixels.size:
        raise UsageError(
            f"An array of {pixels.dtype} {list(pixels.shape)} is no picture; give uint8 [height, "
            "width], [height, width, 3] or [height, width, 4]."
        )
    return flattened(Image.fromarray(pixels))


def _counted(starts: range, total: int, show: bool) -> Iterator[int]:
    """The starts of batches, counted on stderr if wanted."""
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
