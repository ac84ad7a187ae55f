"""HEIC and camera raw files: read with the extra; without it the message names the extra."""

from __future__ import annotations

import builtins
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.encoded import encoded

from ingest.read.decoder_pool import DecoderPool
from ingest.read.images import UnreadableImage, decode

#: 64 x 48 pixels in three upright stripes, red, green and blue, of 2021-02-03 04:05:06.
HEIC = Path(__file__).parents[1] / "data" / "three-stripes.heic"


def stripes(width: int = 320, height: int = 240) -> Image.Image:
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    third = width // 3
    pixels[:, :third], pixels[:, third : 2 * third] = (220, 30, 30), (30, 200, 40)
    pixels[:, 2 * third :] = (30, 40, 210)
    return Image.fromarray(pixels)


def dng(preview: bytes, size: tuple[int, int], orientation: int = 1) -> bytes:
    """A camera raw file: a JPEG preview, and sensor data that are all grey."""
    width, height = size
    sensor = np.full((64, 96), 3000, dtype="<u2").tobytes()

    def directory(start: int, entries: list[tuple[int, int, Any]]) -> bytes:
        kinds = {1: "B", 2: "c", 3: "H", 4: "I"}
        head, extra = b"", b""
        behind = start + 2 + 12 * len(entries) + 4
        for tag, kind, values in sorted(entries):
            if kind == 2:
                data = values.encode() + b"\0"
                count = len(data)
            else:
                values = values if isinstance(values, tuple) else (values,)
                data, count = struct.pack(f"<{len(values)}{kinds[kind]}", *values), len(values)
            if len(data) > 4:
                head += struct.pack("<HHII", tag, kind, count, behind + len(extra))
                extra += data + b"\0" * (len(data) % 2)
            else:
                head += struct.pack("<HHI", tag, kind, count) + data.ljust(4, b"\0")
        return struct.pack("<H", len(entries)) + head + struct.pack("<I", 0) + extra

    def first(inner: int, picture: int) -> bytes:
        return directory(8, [
            (254, 4, 1), (256, 4, width), (257, 4, height), (258, 3, (8, 8, 8)), (259, 3, 7),
            (262, 3, 6), (271, 2, "Nobody"), (272, 2, "Nothing"), (273, 4, picture),
            (274, 3, orientation), (277, 3, 3), (278, 4, height), (279, 4, len(preview)),
            (330, 4, inner), (50706, 1, (1, 4, 0, 0)), (50708, 2, "Nobody Nothing"),
        ])  # fmt: skip

    def second(start: int, picture: int) -> bytes:
        return directory(start, [
            (254, 4, 0), (256, 4, 96), (257, 4, 64), (258, 3, 16), (259, 3, 1), (262, 3, 32803),
            (273, 4, picture), (277, 3, 1), (278, 4, 64), (279, 4, len(sensor)),
            (33421, 3, (2, 2)), (33422, 1, (0, 1, 1, 2)), (50717, 4, 16383),
        ])  # fmt: skip

    inner = 8 + len(first(0, 0))
    raw = inner + len(second(inner, 0))
    picture = raw + len(sensor)
    head = b"II*\0" + struct.pack("<I", 8)
    return head + first(inner, picture) + second(inner, raw) + sensor + preview


def colours(image: Image.Image) -> list[int]:
    """The strongest of red, green and blue in each stripe, left to right."""
    middle = image.height // 2
    return [int(np.argmax(image.getpixel((image.width * n // 6, middle)))) for n in (1, 3, 5)]


def test_heic() -> None:
    pytest.importorskip("pi_heif")
    picture = decode(HEIC.read_bytes())
    assert (picture.format, picture.size) == ("HEIF", (64, 48))
    assert picture.taken_at == 1612325106 and colours(picture.image) == [0, 1, 2]
    with DecoderPool(32) as pool:
        assert pool.decode(HEIC.read_bytes(), ".jpg").image.size == (32, 24)
    with pytest.raises(UnreadableImage):
        decode(HEIC.read_bytes()[:500])


@pytest.mark.parametrize(("orientation", "size"), [(1, (320, 240)), (6, (240, 320))])
def test_a_raw_file_gives_its_preview(orientation: int, size: tuple[int, int]) -> None:
    pytest.importorskip("rawpy")
    data = dng(encoded(stripes(), "JPEG"), (320, 240), orientation)
    for suffix in (".dng", ".nef"):
        picture = decode(data, suffix=suffix)
        assert (picture.format, picture.size) == ("RAW", size)
    upright = picture.image if orientation == 1 else picture.image.rotate(90, expand=True)
    assert colours(upright) == [0, 1, 2]
    with DecoderPool(100) as pool:
        assert max(pool.decode(data, ".dng").image.size) == 100


def test_invalid_raw_files() -> None:
    pytest.importorskip("rawpy")
    for data in (b"text", dng(b"no jpeg", (320, 240))):
        with pytest.raises(UnreadableImage) as caught:
            decode(data, suffix=".cr2")
        assert caught.value.status in ("not_an_image", "damaged", "unsupported", "truncated")


def test_without_the_extra_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *rest: Any) -> Any:
        if name in ("pi_heif", "rawpy"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    for data, suffix, extra in (
        (HEIC.read_bytes(), ".heic", "heif"),
        (io.BytesIO(b"II*\0").getvalue(), ".cr2", "raw"),
    ):
        with pytest.raises(UnreadableImage, match=rf"pip install 'cies\[{extra}\]'") as caught:
            decode(data, suffix=suffix)
        assert caught.value.status == "unsupported"
