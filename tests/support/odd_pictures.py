"""Pictures of every kind whose pixels a reader may get wrong, each with its right appearance."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageDraw
from support.encoded import encoded

WHITE = (255, 255, 255)


@dataclass(frozen=True)
class OddPicture:
    """A file, and how its picture looks.

    Attributes:
        data: the file.
        right: how it looks: RGB, upright.
        tolerance: mean difference that its format alone causes.
        array: whether its pixels as an array still say how it looks.
    """

    data: bytes
    right: Image.Image
    tolerance: float = 1.0
    array: bool = True


def scene(width: int = 120, height: int = 80) -> Image.Image:
    """A picture that is different in every corner."""
    image = Image.new("RGB", (width, height), (240, 240, 235))
    draw = ImageDraw.Draw(image)
    draw.ellipse((20, 20, 80, 70), fill=(220, 40, 40))
    draw.rectangle((90, 5, 115, 30), fill=(30, 60, 200))
    return image


def grey() -> Image.Image:
    return scene().convert("L")


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(samples: NDArray[np.unsignedinteger], depth: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG written by hand: grey [height, width] or RGB [height, width, 3] of 8 or 16 bits, or
    grey whose rows are packed bytes already.
    """
    color = 2 if samples.ndim == 3 else 0
    width = samples.shape[1] * (8 // depth if depth < 8 else 1)
    big = samples.astype(">u2" if depth == 16 else "u1")
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in big))
    head = struct.pack(">IIBBBBB", width, samples.shape[0], depth, color, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in parts)


def tiff(samples: NDArray[np.generic], **tags: int) -> bytes:
    """An uncompressed TIFF of grey samples; ``tags`` such as ``t262=0`` replace its tags."""
    data = bytearray(encoded(Image.fromarray(samples), "TIFF"))
    start = int.from_bytes(data[4:8], "little")
    for number in range(int.from_bytes(data[start : start + 2], "little")):
        at = start + 2 + 12 * number
        tag = int.from_bytes(data[at : at + 2], "little")
        if f"t{tag}" in tags:
            data[at + 8 : at + 12] = tags[f"t{tag}"].to_bytes(4, "little")
    return bytes(data)


# -- color profiles ------------------------------------------------------------------------


def _fixed(number: float) -> bytes:
    return struct.pack(">i", round(number * 65536))


def _profile(space: bytes, tags: list[tuple[bytes, bytes]]) -> bytes:
    """An ICC profile of version 2 with these tags."""
    offset, table, body = 132 + 12 * len(tags), b"", b""
    for name, value in tags:
        padded = value + b"\0" * (-len(value) % 4)
        table += name + struct.pack(">II", offset + len(body), len(padded))
        body += padded
    head = struct.pack(">I4sI4s4s4s", offset + len(body), b"lcms", 2 << 24, b"mntr", space, b"XYZ ")
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acspAPPL" + b"\0" * 24
    head += _fixed(0.9642) + _fixed(1) + _fixed(0.8249)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def _xyz(values: tuple[float, float, float]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_fixed, values))


def _gamma(number: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(number * 256))


_COMMON = [(b"cprt", b"text\0\0\0\0x\0"), (b"wtpt", _xyz((0.9642, 1, 0.8249)))]

#: ProPhoto RGB, much wider than sRGB, and grey with linear samples.
PROPHOTO = _profile(
    b"RGB ",
    [
        *_COMMON,
        (b"rXYZ", _xyz((0.79767, 0.28804, 0))),
        (b"gXYZ", _xyz((0.13519, 0.71187, 0))),
        (b"bXYZ", _xyz((0.03135, 0.00009, 0.8252))),
        *((name, _gamma(1.8)) for name in (b"rTRC", b"gTRC", b"bTRC")),
    ],
)
LINEAR_GREY = _profile(b"GRAY", [*_COMMON, (b"kTRC", _gamma(1.0))])
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def in_prophoto(image: Image.Image) -> Image.Image:
    """The same colors as ProPhoto values, computed from the profile's published numbers."""
    color = np.asarray(image, dtype=float) / 255
    linear = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
    # sRGB to XYZ for the white of profiles (D50), and XYZ to ProPhoto.
    to_xyz = [
        [0.4360747, 0.3850649, 0.1430804],
        [0.2225045, 0.7168786, 0.0606169],
        [0.0139322, 0.0971045, 0.7141733],
    ]
    of_pro = np.array([[0.79767, 0.13519, 0.03135], [0.28804, 0.71187, 0.00009], [0, 0, 0.8252]])
    values = np.clip(linear @ np.transpose(to_xyz) @ np.linalg.inv(of_pro).T, 0, 1) ** (1 / 1.8)
    return Image.fromarray(np.rint(values * 255).astype(np.uint8))


def linear_grey(image: Image.Image) -> Image.Image:
    """Grey samples as linear light."""
    color = np.asarray(image, dtype=float) / 255
    linear = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
    return Image.fromarray(np.rint(linear * 255).astype(np.uint8))


# -- the pictures --------------------------------------------------------------------------


def _turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = scene().transpose(Image.Transpose.ROTATE_90)
    return encoded(stored, "JPEG", exif=exif, quality=95)


def _on_white(image: Image.Image, alpha: Image.Image) -> Image.Image:
    white = Image.new("RGB", image.size, WHITE)
    white.paste(image.convert("RGB"), mask=alpha)
    return white


def odd_pictures() -> dict[str, OddPicture]:
    """All kinds by name."""
    color, plain, wide = scene(), grey(), scene(120, 80)
    samples = np.asarray(plain)
    half = Image.linear_gradient("L").resize(color.size)
    rgba = color.copy()
    rgba.putalpha(half)
    grey_alpha = plain.copy()
    grey_alpha.putalpha(half)
    palette = color.quantize(16)
    clear = palette.copy()
    clear.info["transparency"] = palette.getpixel((0, 0))
    hidden = Image.fromarray(np.where(samples == samples[0, 0], 0, 255).astype(np.uint8))
    deep = samples.astype(np.uint16) * 257
    keyed = deep.copy()
    keyed[samples == samples[0, 0]] = 7
    deep_color = np.asarray(color).astype(np.uint16) * 257
    corner = np.asarray(color)[0, 0]
    hidden_color = Image.fromarray(
        np.where((np.asarray(color) == corner).all(-1), 0, 255).astype(np.uint8)
    )
    four = np.asarray(plain) // 17
    packed = (four[:, ::2] << 4 | four[:, 1::2]).astype(np.uint8)
    four_hidden = Image.fromarray(np.where(four == four[0, 0], 0, 255).astype(np.uint8))
    grey_rgb = plain.convert("RGB")
    cmyk = color.convert("CMYK")
    return {
        "rgb.png": OddPicture(encoded(color, "PNG"), color),
        "rgba.png": OddPicture(encoded(rgba, "PNG"), _on_white(color, half)),
        "grey_alpha.png": OddPicture(encoded(grey_alpha, "PNG"), _on_white(plain, half), 1, False),
        "turned.jpg": OddPicture(_turned(), wide, 3, False),
        "cmyk.tif": OddPicture(encoded(cmyk, "TIFF"), cmyk.convert("RGB"), 1, False),
        "palette.png": OddPicture(encoded(palette, "PNG"), palette.convert("RGB"), 1, False),
        "clear.gif": OddPicture(
            encoded(clear, "GIF", transparency=clear.info["transparency"]),
            _on_white(
                palette,
                Image.fromarray(
                    np.where(np.asarray(palette) == palette.getpixel((0, 0)), 0, 255).astype(
                        np.uint8
                    )
                ),
            ),
            1,
            False,
        ),
        "bilevel.png": OddPicture(
            encoded(plain.convert("1"), "PNG"), plain.convert("1").convert("RGB")
        ),
        "deep.png": OddPicture(png(deep, 16), grey_rgb),
        "deep_key.png": OddPicture(
            png(keyed, 16, (b"tRNS", struct.pack(">H", 7))), _on_white(plain, hidden), 1, False
        ),
        "deep_color.png": OddPicture(png(deep_color, 16), color),
        "deep_color_key.png": OddPicture(
            png(deep_color, 16, (b"tRNS", struct.pack(">3H", *(int(c) * 257 for c in corner)))),
            _on_white(color, hidden_color),
            1,
            False,
        ),
        "four_bits_key.png": OddPicture(
            png(packed, 4, (b"tRNS", struct.pack(">H", int(four[0, 0])))),
            _on_white(Image.fromarray((four * 17).astype(np.uint8)), four_hidden),
            1,
            False,
        ),
        "deep.tif": OddPicture(tiff(deep), grey_rgb),
        "white_is_zero.tif": OddPicture(tiff(65535 - deep, t262=0), grey_rgb, 1, False),
        "float.tif": OddPicture(tiff((samples / 255).astype(np.float32)), grey_rgb),
        "float_white_is_zero.tif": OddPicture(
            tiff((1 - samples / 255).astype(np.float32), t262=0), grey_rgb, 1, False
        ),
        "float_255.tif": OddPicture(tiff(samples.astype(np.float32)), grey_rgb),
        "int32.tif": OddPicture(tiff(samples.astype(np.int32)), grey_rgb),
        "signed.tif": OddPicture(_signed(deep), grey_rgb, 1, False),
        "uint32.tif": OddPicture(
            tiff((deep.astype(np.uint32) * 65537).view(np.int32), t339=1), grey_rgb, 1, False
        ),
        "prophoto.png": OddPicture(
            encoded(in_prophoto(color), "PNG", icc_profile=PROPHOTO), color, 2, False
        ),
        "prophoto_alpha.png": OddPicture(
            encoded(_with_alpha(in_prophoto(color), half), "PNG", icc_profile=PROPHOTO),
            _on_white(color, half),
            2,
            False,
        ),
        "prophoto_palette.png": OddPicture(
            encoded(in_prophoto(color).quantize(64), "PNG", icc_profile=PROPHOTO), color, 3, False
        ),
        "linear_grey.png": OddPicture(
            encoded(linear_grey(plain), "PNG", icc_profile=LINEAR_GREY), grey_rgb, 2, False
        ),
        "linear_grey_deep.tif": OddPicture(
            encoded(
                Image.fromarray(np.asarray(linear_grey(plain)).astype(np.uint16) * 257),
                "TIFF",
                icc_profile=LINEAR_GREY,
            ),
            grey_rgb,
            2,
            False,
        ),
        "srgb.png": OddPicture(encoded(color, "PNG", icc_profile=SRGB), color),
        "broken_profile.png": OddPicture(
            encoded(color, "PNG", icc_profile=b"nonsense" * 20), color
        ),
        "wrong_profile.png": OddPicture(encoded(color, "PNG", icc_profile=LINEAR_GREY), color),
        "thumbnail_first.tif": OddPicture(_thumbnail_first(color), color, 1, False),
    }


def _with_alpha(image: Image.Image, alpha: Image.Image) -> Image.Image:
    image = image.copy()
    image.putalpha(alpha)
    return image


def _signed(deep: NDArray[np.uint16]) -> bytes:
    """A TIFF of signed 16-bit samples, black at the least of them."""
    samples = (deep.astype(np.int32) - 32768).astype(np.int16).view(np.uint16)
    return encoded(Image.fromarray(samples), "TIFF", tiffinfo={339: 2})


def _thumbnail_first(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    small = Image.new("RGB", (16, 8), (1, 2, 3))
    small.save(buffer, "TIFF", save_all=True, append_images=[image.copy()])
    return buffer.getvalue()
