"""``cies train-composer``: shows the progress of a training and prints its result."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cies.console import print_document, print_line, say
from cies.html.rendering import counted
from cies.training import TrainedComposer, import_composer, train_composer

if TYPE_CHECKING:
    from ingest.encoders.inversion.training import TrainingPlan, TrainingProgress


def run_training(
    composer: str,
    images: str | None,
    model: str,
    texts: str | None,
    plan: TrainingPlan,
    device: str,
    as_json: bool,
) -> None:
    """Train a composer, show progress, and print the result.

    See :func:`cies.training.train_composer` for the arguments and errors.
    """
    done = train_composer(composer, images, model, texts, plan, device, _progress_lines(composer))
    if as_json:
        print_document(vars(done))
        return
    print_line(str(done.network))
    examples = counted(done.examples, "pictures" if done.apart else "texts")
    say(f"{done.composer} for {done.model}, trained on {examples}: {done.seconds:.0f} s.")
    if done.unreadable:
        say(f"{counted(done.unreadable)} could not be read, and were left out.")
    if done.first is not None:
        say(
            f"Of {counted(done.apart)} not trained on, the share {done.first:.2f} ranks first for "
            "a sentence with its own word."
        )
    say(f"Use it by `cies search IMAGE --modify ... --composer {done.composer}`.")


def run_import(composer: str, file: str, model: str, device: str, as_json: bool) -> None:
    """Import a published network of a composer, and print where it is.

    See :func:`cies.training.import_composer` for the arguments and errors.
    """
    done: TrainedComposer = import_composer(composer, file, model, device)
    if as_json:
        print_document(vars(done))
        return
    print_line(str(done.network))
    say(f"{done.composer} for {done.model}, imported from {file}.")
    say(f"Use it by `cies search IMAGE --modify ... --composer {done.composer}`.")


def _progress_lines(composer: str) -> TrainingProgress:
    """A function that prints progress with the remaining time, every five seconds."""
    last_time: dict[str, float] = {}
    begun: dict[str, tuple[float, int]] = {}
    items = {"pictures": "pictures embedded", "tokens": "steps of words", "network": "steps"}

    def show(stage: str, done: int, total: int, loss: float) -> None:
        now = time.monotonic()
        start, before = begun.setdefault(stage, (now, done))
        if now - last_time.get(stage, start) < 5 and done < total:
            return
        last_time[stage] = now
        speed = (done - before) / max(1e-9, now - start)
        left = f", about {(total - done) / speed:.0f} s to go" if speed and done < total else ""
        value = "" if loss != loss else f", loss {loss:.3f}"
        say(f"{composer}: {done} of {total} {items[stage]}{value}{left}")

    return show
