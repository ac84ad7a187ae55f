"""Writes rendered worlds to disk as labelled folders."""

from __future__ import annotations

import csv
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Mapping

from eval.world.factors import FACTORS, Scene, sample_scenes
from eval.world.render import render
from indexes.errors import CiesError, UsageError


@dataclass(frozen=True)
class _RenderToFile:
    folder: Path
    size: int

    def __call__(self, task: tuple[str, Scene]) -> None:
        name, scene = task
        render(scene, self.size).save(self.folder / name, quality=92)


def write_world(
    folder: Path,
    count: int,
    seed: int,
    size: int = 256,
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Render pictures and their labels.

    Args:
        folder: gets ``images/00001.jpg`` and so on, and ``labels.csv`` with the column ``file``
            and one column a factor; files of the same name are replaced.
        count: number of pictures, at least 1.
        seed: equal seeds give equal pictures.
        size: side in pixels.
        workers: processes that render; one a core by default.
        progress: called with the numbers of rendered and of all pictures.

    Returns:
        The label file.

    Raises:
        UsageError: if ``count`` is below 1.
        CiesError: if the folder cannot be written to.
    """
    if count < 1:
        raise UsageError(f"A world needs at least one picture, not {count}.")
    scenes = sample_scenes(count, seed)
    names = [f"{number:05d}.jpg" for number in range(1, count + 1)]
    images, labels = folder / "images", folder / "labels.csv"
    draw(images, dict(zip(names, scenes, strict=True)), size, workers, progress)
    try:
        with labels.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["file", *FACTORS])
            for name, scene in zip(names, scenes, strict=True):
                writer.writerow([name, *(scene.labels[factor] for factor in FACTORS)])
    except OSError as error:
        raise _unwritable(folder, error) from error
    return labels


def check_world_folder(folder: Path, force: bool = False) -> None:
    """Refuse a folder whose pictures or labels are not those of an earlier world.

    Args:
        folder: as for :func:`write_world`.
        force: allow it.

    Raises:
        UsageError: if something in it would be lost.
    """
    labels, images = folder / "labels.csv", folder / "images"
    if force:
        return
    try:
        header = ",".join(["file", *FACTORS]).encode()
        ours = labels.is_file() and labels.read_bytes()[: len(header)] == header
        used = labels.exists() or (images.is_dir() and any(images.iterdir()))
    except OSError as error:
        raise _unwritable(folder, error) from error
    if used and not ours:
        raise UsageError(
            f"{folder} has pictures or labels that CIES did not make; name another folder, or add "
            "--force to replace them."
        )


def is_world(folder: Path) -> bool:
    """Whether a folder was written by :func:`write_world`, or a folder or picture inside it."""
    header = ",".join(["file", *FACTORS])
    for place in (folder, *folder.absolute().parents[:2]):
        try:
            with (place / "labels.csv").open(encoding="utf-8") as file:
                if file.readline(1000).strip() == header:
                    return True
        except (OSError, UnicodeDecodeError):
            continue
    return False


def draw(
    folder: Path,
    scenes: Mapping[str, Scene],
    size: int,
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Render scenes to files.

    Args:
        folder: made if it does not exist; files of the same name are replaced.
        scenes: file name to its scene.
        size: side in pixels.
        workers: processes that render; one a core by default.
        progress: called with the numbers of rendered and of all pictures.

    Raises:
        CiesError: if the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Ctrl-C reaches the workers too. A worker that ends while it holds the queue's lock would
        # block this process forever, so workers ignore the signal.
        ignored = (signal.SIGINT, signal.SIG_IGN)
        with ProcessPoolExecutor(workers or os.cpu_count(), None, signal.signal, ignored) as pool:
            try:
                drawn = pool.map(_RenderToFile(folder, size), scenes.items(), chunksize=16)
                for number, _ in enumerate(drawn, start=1):
                    progress(number, len(scenes))
            except BaseException:
                # A second Ctrl-C during the shutdown would do the same. Only the main thread may
                # set signal handlers, and only it gets the exception of Ctrl-C.
                in_main = threading.current_thread() is threading.main_thread()
                before = signal.signal(*ignored) if in_main else None
                pool.shutdown(cancel_futures=True)
                if in_main:
                    signal.signal(signal.SIGINT, before)
                raise
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> CiesError:
    return CiesError(
        f"Cannot write to {folder}: {(error.strerror or str(error)).lower()}; choose another "
        "folder."
    )
