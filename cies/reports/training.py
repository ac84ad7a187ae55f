"""Trains the network of a composer for a CLIP, on pictures or texts: ``cies train-composer``."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cies.console import print_json, say
from cies.html.rendering import counted
from indexes.errors import UsageError
from query.hits import SCHEMA_VERSION

if TYPE_CHECKING:
    from indexes.search.vectors import Vectors
    from ingest.encoders.dual.encoder import DualEncoder
    from ingest.encoders.inversion.training import Told, TrainingPlan
    from ingest.sources.base import SourceFile

#: The composer that is trained on texts.
_OF_TEXTS = "lincir"

#: Pictures that are kept apart to measure with: one in ten, and so many at most.
_APART = 200

#: Pictures embedded at once, and kept when they are.
_AT_ONCE = 256

#: Captions of the rendered world that the built-in CLIP's network is trained on.
_CAPTIONS = 20_000


@dataclass(frozen=True)
class Trained:
    """A network that was trained.

    Attributes:
        composer: whose it is.
        model: the CLIP it is for.
        revision: of that.
        network: file of its description, beside its weights.
        examples: pictures or texts that it was trained on.
        unreadable: pictures that could not be read.
        first: share of the pictures kept apart that a sentence with their word alone finds
            first among them; ``None`` without pictures.
        apart: pictures kept apart.
        seconds: that this run took.
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
    told: Told = lambda stage, done, total, loss: None,
) -> Trained:
    """Train a composer's network; a run that was stopped goes on where it was.

    Args:
        composer: ``searle``, ``pic2word``, ``lincir`` or ``palavra``.
        images: a folder of pictures, or anything else that ``cies ingest`` takes.
        model: a CLIP, as ``--model`` of ``cies ingest --method clip`` takes it.
        texts: for ``lincir``: a file with a text on each line; the captions of the rendered world
            for the built-in CLIP.
        plan: how; :class:`ingest.encoders.inversion.training.TrainingPlan` by default.
        device: where to.
        told: called with the stage, what is done of it, its whole and the loss.

    Raises:
        UsageError: if there is no such composer, or too few pictures or texts.
        ModelError: if the model cannot be had, or words cannot be put into its sentences.
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
    if composer == _OF_TEXTS and images is not None:
        raise UsageError(f"{_OF_TEXTS} is trained on texts alone; leave --images out.")
    if composer != _OF_TEXTS and (texts is not None or images is None):
        raise UsageError(f"{composer} is trained on pictures alone; give --images FOLDER.")
    plan = plan or TrainingPlan()
    given: list[str] | list[SourceFile]
    given = _texts(texts, model) if images is None else _found(images)
    # float32 whatever the processor likes best: gradients of less are coarse.
    words = PseudoWords(DualEncoder.load(model, "float32", device))
    work = _unfinished()
    trainer = Trainer(composer, words, plan, work, told)
    unreadable, apart = 0, None
    if images is None:
        kept: Any = given
        about: dict[str, Any] = {"texts": len(kept)}
    else:
        vectors, unreadable = _embedded(words.dual, given, work, told)  # type: ignore[arg-type]
        count = min(_APART, len(vectors) // 10)
        apart, kept = vectors[:count], vectors[count:]
        about = {"pictures": len(kept)}
    place, network = trainer.train(kept, about)
    first = None
    if apart is not None and len(apart) > 1:
        said = Inversion(words).read(trainer.phrases.single, network.tokens(apart))
        first = float(np.mean((said @ apart.T).argmax(1) == np.arange(len(apart))))
    return Trained(
        composer,
        words.name,
        words.revision,
        str(place),
        len(kept),
        unreadable,
        first,
        0 if apart is None else len(apart),
        time.monotonic() - started,
    )


def run_training(
    composer: str,
    images: str | None,
    model: str,
    texts: str | None,
    plan: TrainingPlan,
    device: str,
    as_json: bool,
) -> None:
    """Train, tell how it goes, and print what came of it."""
    found = train_composer(composer, images, model, texts, plan, device, _lines(composer))
    if as_json:
        print_json({"schema_version": SCHEMA_VERSION, **vars(found)})
        return
    print(found.network)
    kind = "texts" if found.first is None and not found.apart else "pictures"
    made_of = counted(found.examples, kind)
    say(f"{found.composer} for {found.model}, of {made_of}: {found.seconds:.0f} s.")
    if found.unreadable:
        say(f"{counted(found.unreadable)} could not be read, and left out.")
    if found.first is not None:
        say(
            f"Of {counted(found.apart)} kept apart, a sentence with its word alone finds "
            f"{found.first:.2f} first."
        )
    say(f"It is used by `cies search IMAGE --modify ... --composer {found.composer}`.")


def _lines(composer: str) -> Told:
    """Progress with time to go, a line every few seconds."""
    said: dict[str, float] = {}
    began: dict[str, tuple[float, int]] = {}
    names = {"pictures": "pictures embedded", "tokens": "steps of words", "network": "steps"}

    def tell(stage: str, done: int, total: int, loss: float) -> None:
        now = time.monotonic()
        start, before = began.setdefault(stage, (now, done))
        if now - said.get(stage, start) < 5 and done < total:
            return
        said[stage] = now
        speed = (done - before) / max(1e-9, now - start)
        left = f", about {(total - done) / speed:.0f} s to go" if speed and done < total else ""
        value = "" if loss != loss else f", loss {loss:.3f}"
        say(f"{composer}: {done} of {total} {names[stage]}{value}{left}")

    return tell


def _unfinished() -> Path:
    """Where a run keeps what it has done; it may be emptied at any time."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("cies", appauthor=False)) / "composers"


def _texts(texts: str | Path | None, model: str) -> list[str]:
    """The lines of a file, or the rendered world's captions."""
    if texts is None:
        if model != "tiny-clip":
            raise UsageError(
                f"{_OF_TEXTS} is trained on texts, such as captions; give --texts FILE with one "
                "on each line (only for tiny-clip there are some of our own)."
            )
        from eval.training.inversion import captions

        return captions(_CAPTIONS)
    try:
        lines = Path(texts).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = "it is no text in UTF-8"
        if isinstance(error, OSError):
            why = (error.strerror or str(error)).lower()
        raise UsageError(f"--texts {texts} cannot be read: {why}.") from error
    return [" ".join(line.split()) for line in lines if line.strip()]


def _found(images: str | Path) -> list[SourceFile]:
    """What there is of pictures at a place.

    Raises:
        UsageError: if there is none.
    """
    from ingest.sources.base import SourceOptions
    from ingest.sources.factory import open_sources

    opened = open_sources([str(images)], SourceOptions(), Path.cwd())
    found = [one for every in opened for source in every.sources for one in source.scan()]
    if not any(not one.status for one in found):
        raise UsageError(f"There are no pictures in {images}; name a folder that holds some.")
    return found


def _embedded(
    dual: DualEncoder, found: Sequence[SourceFile], work: Path, told: Told
) -> tuple[Vectors, int]:
    """Pictures as base vectors, and how many could not be read."""
    parts, unreadable = [], 0
    work.mkdir(parents=True, exist_ok=True)
    for start, part in _parts(found):
        about = [dual.revision, *((one.path, one.size, one.mtime_ns, one.position) for one in part)]
        mark = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]
        place = work / f"pictures-{mark}.npy"
        try:
            vectors = np.load(place)
        except (OSError, ValueError, EOFError):
            vectors = _read(dual, part)
            fresh = place.with_suffix(".new")
            with fresh.open("wb") as file:
                np.save(file, vectors)
            fresh.replace(place)
        parts.append(vectors)
        unreadable += len(part) - len(vectors)
        told("pictures", start + len(part), len(found), float("nan"))
    return np.concatenate(parts), unreadable


def _parts(found: Sequence[SourceFile]) -> Iterator[tuple[int, Sequence[SourceFile]]]:
    for start in range(0, len(found), _AT_ONCE):
        yield start, found[start : start + _AT_ONCE]


def _read(dual: DualEncoder, found: Sequence[SourceFile]) -> Vectors:
    """Those that can be read, embedded."""
    from ingest.read.images import UnreadableImage, decode

    images = []
    for one in found:
        try:
            images.append(decode(one.read().data, None, Path(one.path).suffix.lower()).image)
        except UnreadableImage:
            continue  # counted by the caller
    return dual.encode_images(images)
