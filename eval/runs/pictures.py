"""Reads a task's pictures for an encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from eval.tasks import Crop
from indexes.errors import CiesError
from ingest.read.images import UnreadableImage, read_bytes
from ingest.read.isolated import decode_isolated


def crop_image(image: Image.Image, crop: Crop) -> Image.Image:
    """Return a part of a picture, centered on a black square if the crop says so.

    Args:
        image: the whole picture.
        crop: the part; pixels outside the picture are left out.
    """
    left, upper, right, lower = crop.box
    part = image.crop(
        (max(0, left), max(0, upper), min(image.width, right), min(image.height, lower))
    )
    if not crop.square:
        return part
    side = max(part.size)
    square = Image.new("RGB", (side, side))
    square.paste(part, ((side - part.width) // 2, (side - part.height) // 2))
    return square


def loader(
    images: Mapping[str, Path], crops: Mapping[str, Crop], side: int | None
) -> Callable[[Sequence[str]], list[Image.Image]]:
    """Return a function that reads pictures by their ids.

    Args:
        images: id to file.
        crops: id to the part of the file that is the picture, if not the whole file.
        side: longest side in pixels that the encoder uses, if it is limited.

    Returns:
        A function of ids to RGB pictures; it raises CiesError naming a file that cannot be read.
    """

    def load(key: str) -> Image.Image:
        path, crop = images[key], crops.get(key)
        try:
            data = read_bytes(path).data
            whole = decode_isolated(data, None if crop else side, path.suffix.lower()).image
        except UnreadableImage as error:
            raise CiesError(
                f"{path} cannot be read: {error.reason}; restore the picture as published and run "
                "the same command again, which continues where it stopped."
            ) from error
        return whole if crop is None else crop_image(whole, crop)

    def load_all(ids: Sequence[str]) -> list[Image.Image]:
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(load, ids))

    return load_all
