"""Pictures of a task, read for an encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from eval.tasks import Cut
from indexes.errors import CiesError
from ingest.read.images import UnreadableImage, decode, read_bytes


def cut_out(image: Image.Image, cut: Cut) -> Image.Image:
    """The part of a picture that is meant, on black if it is to be a square.

    Args:
        image: the whole picture.
        cut: what is meant; pixels outside the picture are left out.
    """
    left, upper, right, lower = cut.box
    part = image.crop(
        (max(0, left), max(0, upper), min(image.width, right), min(image.height, lower))
    )
    if not cut.square:
        return part
    side = max(part.size)
    square = Image.new("RGB", (side, side))
    square.paste(part, ((side - part.width) // 2, (side - part.height) // 2))
    return square


def loader(
    images: Mapping[str, Path], cuts: Mapping[str, Cut], side: int | None
) -> Callable[[Sequence[str]], list[Image.Image]]:
    """What reads pictures by their ids.

    Args:
        images: id to file.
        cuts: id to the part that is meant, where it is not all of the file.
        side: longest side in pixels that the encoder sees, if it is limited.

    Returns:
        Ids to RGB pictures; raises CiesError naming a file that cannot be read.
    """

    def one(key: str) -> Image.Image:
        path, cut = images[key], cuts.get(key)
        try:
            data = read_bytes(path).data
            whole = decode(data, None if cut else side, path.suffix.lower()).image
        except UnreadableImage as error:
            raise CiesError(
                f"{path} cannot be read: {error.reason}; put the picture back as published and "
                "give the same command again, which goes on where it stopped."
            ) from error
        return whole if cut is None else cut_out(whole, cut)

    def several(ids: Sequence[str]) -> list[Image.Image]:
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(one, ids))

    return several
