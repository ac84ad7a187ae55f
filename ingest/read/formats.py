"""The formats that are read, by the names and by the content of files."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

#: Pillow decoders that may be used; none that runs other programs (EPS) or recognises files by
#: their name only (TGA). JPEG includes MPO. HEIF is added where pi-heif is installed. DIB is last,
#: because its files begin with nothing but a small number.
FORMATS: tuple[str, ...] = tuple("JPEG PNG WEBP GIF BMP TIFF AVIF JPEG2000 PPM ICO DIB".split())

#: Suffixes of camera raw files, of which only the preview that the camera stored is read.
RAW_SUFFIXES = frozenset(
    ".cr2 .cr3 .crw .nef .nrw .arw .sr2 .srf .dng .orf .rw2 .raf .pef .srw .raw .rwl .3fr .fff "
    ".iiq .mef .mos .mrw .erf .kdc .dcr .gpr".split()
)

#: Suffixes of file names that are read as pictures.
SUFFIXES = (
    frozenset(".jpg .jpeg .jpe .jfif .png .apng .webp .gif .bmp .dib .tif .tiff .avif".split())
    | frozenset(".mpo .jp2 .j2k .jpf .jpx .j2c .jpc .ppm .pgm .pbm .pnm .ico".split())
    | frozenset(".heic .heif .hif".split())
    | RAW_SUFFIXES
)

#: Suffixes of picture formats that are not read, with the reason shown to users.
UNSUPPORTED = {
    suffix: f"{suffix[1:].upper()} pictures are not read yet; convert them to JPEG"
    for suffix in (
        ".jxl .svg .svgz .eps .ai .xcf .kra .psd .psb .tga .pcx .icns .cur .dds .qoi .exr .hdr "
        ".pfm .jxr .wdp .hdp .bpg .heics .avifs .fits .dcm .x3f .djvu .wmf .emf"
    ).split()
}

#: Major brands in the header of HEIF files.
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"heif")

#: How raw files begin that are not TIFF files, and TIFF-like ones with a mark of their own.
_RAW_STARTS = (b"FUJIFILMCCD-RAW", b"IIU\0", b"IIRO", b"IIRS", b"MMOR", b"\0MRM")

#: How pictures of other formats begin.
_OTHER_STARTS = (
    *(b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"8BPS", b"\0\0\0\x0cjP"),
    *(b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"),
)

#: TIFF tags that only raw files have: DNGVersion, a colour filter array, and Canon's slices.
_RAW_TAGS = frozenset({50706, 33421, 33422, 50752})

#: Tags of TIFF pages.
_WIDTH, _HEIGHT, _SUBFILE, _OLD_SUBFILE, _PHOTOMETRIC = 256, 257, 254, 255, 262
_OFFSETS = frozenset({273, 279, 324, 325})

#: Bytes of each type of TIFF value.
_VALUE_BYTES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 2, 8, 8, 8, 8)

#: Pages of a TIFF that are looked at, and bytes that the tags of a page may have in all.
_MAX_PAGES = 64
_MAX_TAG_BYTES = 64 * 2**20

#: Chunks of a PNG, and segments or blocks of other files, that are walked through at most.
_MAX_CHUNKS = 200_000

#: Segments of a JPEG, or bytes of comments in a GIF, from which on texts are left out.
_MANY_SEGMENTS = 64
_MANY_BYTES = 2**16

#: Bytes of a longer text are not read, even if it holds EXIF or XMP data.
_MAX_TEXT = 2**20


class UnknownSamples(ValueError):
    """Nothing says what the samples of a picture mean."""


class TooManyParts(ValueError):
    """A file has more chunks or larger tags than any picture."""


def is_heif(data: bytes) -> bool:
    """Whether a file is a HEIF picture (HEIC), by its content."""
    return data[4:8] == b"ftyp" and data[8:12] in _HEIF


def is_tiff(data: bytes) -> bool:
    """Whether a file is a TIFF, by its content."""
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def is_raw(data: bytes) -> bool:
    """Whether a file is a camera's raw file for certain, by its content."""
    if data.startswith(_RAW_STARTS) or data[4:12] == b"ftypcrx ":
        return True
    if not is_tiff(data):
        return False
    if data[8:10] == b"CR":
        return True
    pages = tiff_pages(data)
    return any(_RAW_TAGS & page.tags or page.photometric == 32803 for page in pages)


def is_other_picture(data: bytes) -> bool:
    """Whether a file is a picture of another kind than TIFF or a raw file, by its content."""
    return data.startswith(_OTHER_STARTS) or (data[4:8] == b"ftyp" and data[8:12] != b"crx ")


@dataclass(frozen=True)
class TiffPage:
    """One page of a TIFF.

    Attributes:
        width: pixels; 0 if the page does not say.
        height: pixels.
        is_reduced: whether the page says that it is a smaller version of another.
        is_mask: whether the page says that it is the mask of another.
        photometric: what the samples mean; -1 if the page does not say.
        tags: the numbers of its tags.
    """

    width: int
    height: int
    is_reduced: bool
    is_mask: bool
    photometric: int
    tags: frozenset[int]

    @property
    def is_from_camera(self) -> bool:
        """Whether it names a camera, or has pages inside, as raw files do."""
        return bool({271, 330} & self.tags)


def tiff_pages(data: bytes) -> list[TiffPage]:
    """The first pages of a TIFF, as far as they can be read.

    Raises:
        TooManyParts: if the tags of a page are larger than those of any picture.
    """
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    count_form, entry_form = ("Q", "HHQ8s") if big else ("H", "HHL4s")
    offset_form = "Q" if big else "L"
    entry_size = struct.calcsize(order + entry_form)
    pages: list[TiffPage] = []
    seen: set[int] = set()
    try:
        (offset,) = struct.unpack_from(order + offset_form, data, 8 if big else 4)
        while offset and offset not in seen and len(pages) < _MAX_PAGES:
            seen.add(offset)
            (count,) = struct.unpack_from(order + count_form, data, offset)
            start = offset + struct.calcsize(order + count_form)
            if count > 2**16:
                raise TooManyParts("a page has more tags than any picture")
            table = data[start : start + count * entry_size]
            entries = list(struct.iter_unpack(order + entry_form, table))
            pages.append(_tiff_page(order, entries))
            (offset,) = struct.unpack_from(order + offset_form, data, start + len(table))
    except struct.error:
        pass  # The decoder says what is wrong with the file.
    return pages


def _tiff_page(order: str, entries: list[tuple[Any, ...]]) -> TiffPage:
    values: dict[int, int] = {}
    total = 0
    for tag, kind, count, value in entries:
        size = count * (_VALUE_BYTES[kind] if kind < len(_VALUE_BYTES) else 1)
        total += 0 if tag in _OFFSETS or size <= len(value) else size
        if kind in (3, 4, 16) and count == 1:
            form = {3: "H", 4: "L", 16: "Q"}[kind]
            if struct.calcsize(order + form) <= len(value):
                values[tag] = struct.unpack_from(order + form, value)[0]
    if total > _MAX_TAG_BYTES:
        raise TooManyParts("the tags of a page are larger than those of any picture")
    kind = values.get(_SUBFILE, 0)
    return TiffPage(
        values.get(_WIDTH, 0),
        values.get(_HEIGHT, 0),
        bool(kind & 1) or values.get(_OLD_SUBFILE) == 2,
        bool(kind & 4),
        values.get(_PHOTOMETRIC, -1),
        frozenset(entry[0] for entry in entries),
    )


def main_page(data: bytes) -> int:
    """The number of a TIFF's page that is its picture: the first, unless that is a thumbnail.

    A first page that says so, or whose sides are at most half of another's, is a thumbnail; the
    largest page is then the picture.

    Raises:
        TooManyParts: as :func:`tiff_pages`.
    """
    pages = tiff_pages(data)
    areas = [0 if page.is_mask else page.width * page.height for page in pages]
    if not areas:
        return 0
    largest = max(range(len(areas)), key=areas.__getitem__)
    is_thumbnail = pages[0].is_reduced or pages[0].is_mask or 4 * areas[0] <= areas[largest]
    return largest if is_thumbnail else 0


def without_texts(data: bytes) -> bytes:
    """A file without the texts that nobody reads here, so that no time is spent on them.

    A PNG loses all text chunks except those with EXIF or XMP data, which may tell which way is up.
    A JPEG or GIF loses comments and data of other programs if there is a lot of either.

    Raises:
        TooManyParts: if the file has more chunks than any picture.
    """
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png_without_texts(data)
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg_without_texts(data)
    if data.startswith((b"GIF87a", b"GIF89a")):
        return _gif_without_texts(data)
    return data


def _cut(data: bytes, dropped: list[tuple[int, int]]) -> bytes:
    """Bytes without some ranges, which are in order."""
    if not dropped:
        return data
    view, parts, at = memoryview(data), [], 0
    for start, end in dropped:
        parts.append(view[at:start])
        at = end
    parts.append(view[at:])
    return b"".join(parts)


def _png_without_texts(data: bytes) -> bytes:
    dropped: list[tuple[int, int]] = []
    wanted = {b"XML:com.adobe.xmp", b"Raw profile type exif", b"Raw profile type APP1"}
    at = 8
    for _ in range(_MAX_CHUNKS):
        if at + 12 > len(data):
            return _cut(data, dropped)
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if kind in (b"tEXt", b"zTXt", b"iTXt"):
            keyword = data[at + 8 : min(end, at + 8 + 80)].partition(b"\0")[0]
            if keyword in wanted and length <= _MAX_TEXT:
                wanted.discard(keyword)
            elif end <= len(data):
                dropped.append((at, end))
        at = end
    raise TooManyParts("a PNG with more chunks than any picture")


def _jpeg_without_texts(data: bytes) -> bytes:
    segments: list[tuple[int, int, int]] = []
    at = 2
    for _ in range(_MAX_CHUNKS):
        if data[at : at + 1] != b"\xff":
            break  # Damaged, or bytes between segments, which the decoder skips.
        marker = data[at + 1] if at + 1 < len(data) else 0xD9
        if marker == 0xFF:
            at += 1
            continue
        if marker in (0xDA, 0xD9) or marker < 0xC0 or 0xD0 <= marker <= 0xD8:
            break  # The pixels begin.
        length = int.from_bytes(data[at + 2 : at + 4])
        if length < 2:
            break
        segments.append((marker, at, at + 2 + length))
        at += 2 + length
    else:
        raise TooManyParts("a JPEG with more segments than any picture")
    if len(segments) <= _MANY_SEGMENTS:
        return data
    room = {b"Exif\0": 1, b"http://ns.adobe.com/xap/1.0/\0": 1, b"ICC_PROFILE\0": 255}
    room |= {b"JFIF\0": 1, b"Adobe": 1}
    dropped = []
    for marker, start, end in segments:
        if marker != 0xFE and not 0xE0 <= marker <= 0xEF:
            continue
        kind = next((one for one in room if data.startswith(one, start + 4)), None)
        if marker != 0xFE and kind and room[kind]:
            room[kind] -= 1
        else:
            dropped.append((start, end))
    return _cut(data, dropped)


def _gif_without_texts(data: bytes) -> bytes:
    if len(data) < 13:
        return data
    dropped: list[tuple[int, int]] = []
    at = 13 + (3 * 2 ** ((data[10] & 7) + 1) if data[10] & 0x80 else 0)
    blocks = 0
    while data[at : at + 1] == b"!":
        start, kind = at, data[at + 1 : at + 2]
        at += 2
        while at < len(data) and data[at]:
            at += 1 + data[at]
            blocks += 1
            if blocks > 10 * _MAX_CHUNKS:
                raise TooManyParts("a GIF with more comments than any picture")
        at += 1
        if kind != b"\xf9" and at <= len(data):  # The control block says what is transparent.
            dropped.append((start, at))
    if sum(end - start for start, end in dropped) < _MANY_BYTES:
        return data
    return _cut(data, dropped)
