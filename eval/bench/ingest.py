"""Measures the ingest pipeline: the share of the time that it keeps an encoder busy.

The encoder is a stand-in that sleeps, as the processor waits while a GPU computes. Files, decoders
and tables on the disk are real.
"""

from __future__ import annotations

import hashlib
import io
import threading
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Sequence

import numpy as np
from PIL import Image

from eval.world.factors import sample_scenes
from eval.world.render import render
from indexes.store.gallery import Gallery
from indexes.vectors import unit
from ingest.conditions import Condition
from ingest.encoders.base import BaseEncoder, Embeddings, EncoderSpec
from ingest.fill.pipeline import ingest

#: Conditions of the ingest.
CONDITIONS = ("color", "shape", "style")

#: Number of different pictures; the other files have another comment and so another key.
_MOTIFS = 4

#: Sensor noise in grey levels; without it a picture decodes too fast.
_NOISE = 3.0


class SleepingEncoder(BaseEncoder):
    """Takes a given time for each picture and leaves the processor free."""

    def __init__(self, seconds: float, dimension: int = 512):
        """Set the speed.

        Args:
            seconds: per picture.
            dimension: the dimension of the vectors.
        """
        self._seconds = seconds
        self._dimension = dimension
        #: Start and end of every call, by :func:`time.monotonic`, and its number of pictures.
        self.calls: list[tuple[float, float, int]] = []

    @property
    def spec(self) -> EncoderSpec:
        """See :class:`BaseEncoder`; pictures are reduced as for the default options."""
        return EncoderSpec("dior", "stand-in", "1", {"prompt": "describe", "max_side": 700})

    @property
    def dimension(self) -> int:
        """See :class:`BaseEncoder`."""
        return self._dimension

    @property
    def description(self) -> str:
        """See :class:`BaseEncoder`."""
        return f"a stand-in of {1000 * self._seconds:g} ms a picture"

    def check(self, conditions: Sequence[Condition]) -> None:
        """Accepts every condition."""

    def embed(
        self, images: Sequence[Image.Image], conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
        """See :class:`BaseEncoder`; vectors are drawn from a checksum of each picture."""
        begun = time.monotonic()
        shape = (len(conditions), self._dimension)
        vectors = np.empty((len(images), *shape), dtype=np.float32)
        for number, image in enumerate(images):
            middle = image.resize((16, 16), Image.Resampling.NEAREST).tobytes()
            vectors[number] = unit(np.random.default_rng(zlib.crc32(middle)).normal(size=shape))
        said = [[condition.name for condition in conditions] for _ in images]
        rest = begun + self._seconds * len(images) - time.monotonic()
        time.sleep(max(0.0, rest))
        self.calls.append((begun, time.monotonic(), len(images)))
        return Embeddings(vectors, said, np.ones(vectors.shape[:2], dtype=np.float32))

    def busy(self) -> float:
        """Share of the time between the start of the first call and the end of the last."""
        if not self.calls:
            return 0.0
        spent = sum(end - begun for begun, end, _ in self.calls)
        return spent / (self.calls[-1][1] - self.calls[0][0])


@dataclass(frozen=True)
class IngestFigures:
    """The figures of one ingest.

    Attributes:
        pictures: the pictures that were embedded.
        seconds: wall time of the ingest.
        busy: share of the time that the encoder was busy, from its first batch to its last.
        pictures_per_second: from the encoder's first batch to its last.
        peak_bytes: peak resident memory of this process and its decoders together.
        file_bytes: mean size of a picture file.
    """

    pictures: int
    seconds: float
    busy: float
    pictures_per_second: float
    peak_bytes: int
    file_bytes: int


def write_pictures(
    folder: Path,
    count: int,
    megapixels: float,
    progress: Callable[[str], None] = lambda line: None,
) -> int:
    """Write JPEG files of 4:3, no two with the same bytes.

    Args:
        folder: made if it does not exist.
        count: number of files.
        megapixels: the size of each file's picture in megapixels.
        progress: called after every 1,000 files.

    Returns:
        Their size together, in bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    height = max(1, round((megapixels * 1e6 * 3 / 4) ** 0.5))
    width = max(1, round(height * 4 / 3))
    motifs = [_photograph(number, width, height) for number in range(min(_MOTIFS, max(1, count)))]
    total = 0
    for number in range(count):
        data = motifs[number % len(motifs)]
        # A comment after the JPEG header makes another file of the same picture.
        text = f"picture {number}".encode()
        comment = b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text
        (folder / f"{number:06d}.jpg").write_bytes(data[:2] + comment + data[2:])
        total += len(data) + len(comment)
        if number % 1000 == 999:
            progress(f"{number + 1} pictures written")
    return total


def different_pictures(count: int, megapixels: float = 1.0) -> list[tuple[str, bytes]]:
    """JPEG files of 4:3 with different pixels, each with its key.

    Args:
        count: number of pictures.
        megapixels: the size of each.
    """
    height = max(16, round((megapixels * 1e6 * 3 / 4) ** 0.5))
    width = round(height * 4 / 3)
    with Image.open(io.BytesIO(_photograph(0, width, height))) as motif:
        pixels = np.asarray(motif.convert("RGB")).copy()
    found = []
    for number in range(count):
        pixels[: height // 2, : width // 2] = np.random.default_rng(number).integers(0, 256, 3)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
        data = buffer.getvalue()
        found.append((hashlib.sha256(data).hexdigest(), data))
    return found


def _photograph(seed: int, width: int, height: int) -> bytes:
    scene = render(sample_scenes(1, seed=seed)[0], 512)
    large = np.asarray(scene.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
    noise = np.random.default_rng(seed).normal(0, _NOISE, (height, width, 1))
    pixels = np.clip(large + noise, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def bench_ingest(folder: Path, gallery: Path, cost_ms: float, file_bytes: int) -> IngestFigures:
    """Ingest a folder with a stand-in encoder and measure.

    Args:
        folder: the folder of the pictures.
        gallery: folder of a new gallery.
        cost_ms: milliseconds that the stand-in takes per picture.
        file_bytes: size of all files together.
    """
    encoder = SleepingEncoder(cost_ms / 1000)
    conditions = [Condition.parse(name) for name in CONDITIONS]
    with _PeakMemory() as memory:
        report = ingest(Gallery.create(gallery), [folder], conditions, lambda spec: encoder)
    begun, end = encoder.calls[0][0], encoder.calls[-1][1]
    return IngestFigures(
        pictures=report.embedded,
        seconds=report.seconds,
        busy=encoder.busy(),
        pictures_per_second=report.embedded / (end - begun),
        peak_bytes=memory.peak,
        file_bytes=file_bytes // max(1, report.found),
    )


class _PeakMemory:
    """Polls the resident memory of this process and its children in a ``with`` block."""

    def __init__(self) -> None:
        self.peak = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, name="memory", daemon=True)

    def _look(self) -> None:
        import psutil

        own = psutil.Process()
        while not self._done.wait(0.2):
            total = 0
            for process in (own, *own.children()):
                # A decoder may end after it was listed.
                with suppress(psutil.Error):
                    total += process.memory_info().rss
            self.peak = max(self.peak, total)

    def __enter__(self) -> _PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
