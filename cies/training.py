"""Trains a composer's network for a CLIP, on pictures or texts: :func:`cies.train_composer`."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from indexes.errors import UsageError
from indexes.files import replacing

if TYPE_CHECKING:
    from indexes.vectors import Vectors
    from ingest.encoders.dual.encoder import DualEncoder
    from ingest.encoders.inversion.training import TrainingPlan, TrainingProgress
    from ingest.sources.base import SourceFile

#: The composer that is trained on texts.
_TEXT_COMPOSER = "lincir"

#: One picture in ten is a test picture, and at most this many.
_MAX_TEST_PICTURES = 200

#: Pictures embedded in one batch; finished batches are cached.
_BATCH = 256

#: Captions of rendered pictures that the network of the built-in CLIP is trained on.
_CAPTIONS = 20_000


@dataclass(frozen=True)
class TrainedComposer:
    """The result of a training.

    Attributes:
        composer: its name.
        model: the CLIP that the network is for.
        revision: the revision of that CLIP.
        network: path of the network's description; its weights are in the same folder.
        examples: number of pictures or texts that it was trained on.
        unreadable: number of pictures that could not be read.
        first: share of the test pictures that rank first among all test pictures for a sentence
            with their own word; ``None`` without test pictures.
        apart: number of test pictures, which the network was not trained on.
        seconds: duration of this run.
    """

    composer: str
    model: str
    revision: str
    network: str
    examples: int
    unreadable: int
    first: float | None
    apart: int
    seconds: float


def train_composer(
    composer: str,
    images: str | Path | None = None,
    model: str = "tiny-clip",
    texts: str | Path | None = None,
    plan: TrainingPlan | None = None,
    device: str = "auto",
    progress: TrainingProgress = lambda stage, done, total, loss: None,
) -> TrainedComposer:
    """Train a composer's network. A run that was stopped continues where it was.

    Args:
        composer: ``searle``, ``pic2word``, ``lincir`` or ``palavra``.
        images: a folder of pictures, or any other source of ``cies ingest``.
        model: a CLIP, as for ``cies ingest --method clip --model``.
        texts: for ``lincir``: a file with a text on each line. The default for the built-in CLIP
            is captions of rendered pictures.
        plan: the training parameters; those of
            :class:`ingest.encoders.inversion.training.TrainingPlan` by default.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        progress: called with the stage, the number of finished items, the total and the loss.

    Raises:
        UsageError: if there is no such composer, or too few pictures or texts.
        ModelError: if the model cannot be loaded, or has no token for a pseudo-word.
    """
    from ingest.encoders.dual.encoder import DualEncoder
    from ingest.encoders.inversion.encoder import Inversion
    from ingest.encoders.inversion.networks import NETWORKS
    from ingest.encoders.inversion.pseudo_words import PseudoWords
    from ingest.encoders.inversion.training import Trainer, TrainingPlan

    started = time.monotonic()
    if composer not in NETWORKS:
        raise UsageError(
            f"There is no network of '{composer}' to train; choose one of {', '.join(NETWORKS)}."
        )
    if composer == _TEXT_COMPOSER and images is not None:
        raise UsageError(f"{_TEXT_COMPOSER} is trained on texts alone; leave --images out.")
    if composer != _TEXT_COMPOSER and (texts is not None or images is None):
        raise UsageError(f"{composer} is trained on pictures alone; give --images FOLDER.")
    lines = _text_lines(texts, model) if images is None else []
    files = [] if images is None else _picture_files(images)
    # float32 on every device: gradients in a smaller dtype are too coarse.
    words = PseudoWords(DualEncoder.load(model, "float32", device))
    cache = _cache_folder()
    trainer = Trainer(composer, words, plan or TrainingPlan(), cache, progress)
    unreadable, test = 0, None
    examples: Sequence[str] | Vectors = lines
    if images is not None:
        vectors, unreadable = _embed_files(words.dual, files, cache, progress)
        count = min(_MAX_TEST_PICTURES, len(vectors) // 10)
        test, examples = vectors[:count], vectors[count:]
    kind = "texts" if images is None else "pictures"
    description, network = trainer.train(examples, {kind: len(examples)})
    first = None
    if test is not None and len(test) > 1:
        sentences = Inversion(words).encode(trainer.phrases.single, network.tokens(test))
        first = float(np.mean((sentences @ test.T).argmax(1) == np.arange(len(test))))
    return TrainedComposer(
        composer=composer,
        model=words.name,
        revision=words.revision,
        network=str(description),
        examples=len(examples),
        unreadable=unreadable,
        first=first,
        apart=0 if test is None else len(test),
        seconds=time.monotonic() - started,
    )


def import_composer(
    composer: str, file: str | Path, model: str = "tiny-clip", device: str = "auto"
) -> TrainedComposer:
    """Store a network that its authors publish, for the CLIP it was trained for.

    Args:
        composer: ``searle``, ``pic2word``, ``lincir`` or ``palavra``.
        file: the authors' checkpoint. Only tensors are read from it, no code.
        model: the CLIP, as for :func:`train_composer`.
        device: as for :func:`train_composer`.

    Raises:
        UsageError: if there is no such composer, or the file cannot be read.
        ModelError: if the model cannot be loaded, or the file holds another network.
    """
    from ingest.encoders.dual.encoder import DualEncoder
    from ingest.encoders.inversion.networks import NETWORKS
    from ingest.encoders.inversion.pseudo_words import PseudoWords
    from ingest.encoders.inversion.published import import_network

    started = time.monotonic()
    if composer not in NETWORKS:
        raise UsageError(
            f"There is no network of '{composer}' to import; choose one of {', '.join(NETWORKS)}."
        )
    words = PseudoWords(DualEncoder.load(model, "float32", device))
    description = import_network(composer, Path(file), words)
    seconds = time.monotonic() - started
    return TrainedComposer(
        composer, words.name, words.revision, str(description), 0, 0, None, 0, seconds
    )


def _cache_folder() -> Path:
    """The folder of unfinished runs; it may be emptied at any time."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("cies", appauthor=False)) / "composers"


def _text_lines(texts: str | Path | None, model: str) -> list[str]:
    """The lines of a file, or captions of rendered pictures."""
    if texts is None:
        if model != "tiny-clip":
            raise UsageError(
                f"{_TEXT_COMPOSER} is trained on texts, such as captions; give --texts FILE with "
                "one on each line (CIES has texts of its own for tiny-clip only)."
            )
        from eval.training.inversion import captions

        return captions(_CAPTIONS)
    try:
        lines = Path(texts).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not text in UTF-8"
        if isinstance(error, OSError):
            reason = (error.strerror or str(error)).lower()
        raise UsageError(f"--texts {texts} cannot be read: {reason}; check the path.") from error
    return [" ".join(line.split()) for line in lines if line.strip()]


def _picture_files(images: str | Path) -> list[SourceFile]:
    """The picture files of a source.

    Raises:
        UsageError: if there is none.
    """
    from ingest.sources.base import SourceOptions
    from ingest.sources.factory import open_sources

    groups = open_sources([str(images)], SourceOptions(), Path.cwd())
    files = [file for group in groups for source in group.sources for file in source.scan()]
    if all(file.status for file in files):
        raise UsageError(f"There are no pictures in {images}; name a folder that has some.")
    return files


def _embed_files(
    dual: DualEncoder, files: Sequence[SourceFile], cache: Path, progress: TrainingProgress
) -> tuple[Vectors, int]:
    """The base vectors of the readable files, and the number of the others."""
    parts, unreadable = [], 0
    for start in range(0, len(files), _BATCH):
        batch = files[start : start + _BATCH]
        about = [dual.revision, *((f.path, f.size, f.mtime_ns, f.position) for f in batch)]
        digest = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]
        path = cache / f"pictures-{digest}.npy"
        try:
            vectors = np.load(path)
        except (OSError, ValueError, EOFError):
            vectors = _embed_batch(dual, batch)
            with replacing(path, durable=False) as temporary:
                np.save(temporary, vectors)
        parts.append(vectors)
        unreadable += len(batch) - len(vectors)
        progress("pictures", start + len(batch), len(files), float("nan"))
    return np.concatenate(parts), unreadable


def _embed_batch(dual: DualEncoder, files: Sequence[SourceFile]) -> Vectors:
    """The base vectors of the readable files of a batch."""
    from ingest.read.images import UnreadableImage
    from ingest.read.isolated import decode_isolated

    images = []
    for file in files:
        try:
            suffix = Path(file.path).suffix.lower()
            images.append(decode_isolated(file.read().data, None, suffix).image)
        except UnreadableImage:
            continue  # the caller counts it
    return dual.encode_images(images)
