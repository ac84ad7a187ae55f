"""Reading all kinds of files that a folder of pictures may contain."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.encoded import encoded, png_header, ramp

from indexes.store.records import unescaped
from ingest.read.images import UnreadableImage, decode, load, read_bytes
from ingest.sources.base import SourceFile, SourceOptions
from ingest.sources.folders import Folder


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_formats(form: str) -> None:
    picture = decode(encoded(ramp(), form))
    assert picture.format == form and picture.image.mode == "RGB"
    assert np.abs(np.asarray(picture.image, int) - np.asarray(ramp(), int)).mean() < 6


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"this is text, whatever its name says", "not_an_image"),
        (b"\0" * 500, "not_an_image"),
        (encoded(ramp(), "JPEG")[:10], "truncated"),
        (encoded(ramp(400, 300), "JPEG")[:2000], "truncated"),
        (encoded(ramp(), "JPEG")[:-2], "truncated"),
        (encoded(ramp(), "PNG")[:-30], "truncated"),
        (png_header(20_000, 20_000), "bomb"),
        (png_header(9_000, 9_000), "bomb"),
        (png_header(3_000, 4), "outlandish"),
        (png_header(0, 10), "not_an_image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not_an_image"),
    ],
)
def test_bad_bytes(data: bytes, status: str) -> None:
    with pytest.raises(UnreadableImage) as caught:
        decode(data)
    assert caught.value.status == status
    assert caught.value.reason


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    grey = np.linspace(0, 65535, 64, dtype=np.uint16)[None, :].repeat(8, axis=0)
    got = np.asarray(decode(encoded(Image.fromarray(grey), "PNG")).image)[..., 0]
    assert np.abs(got[0].astype(float) - grey[0] / 257).max() < 2


def test_alpha_is_composited_onto_white() -> None:
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert decode(encoded(clear, "PNG")).image.getpixel((4, 4)) == (255, 255, 255)
    half = Image.new("RGBA", (8, 8), (0, 0, 0, 128))
    assert abs(decode(encoded(half, "PNG")).image.getpixel((4, 4))[0] - 127) <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(orientation: int) -> None:
    upright = Image.new("RGB", (60, 40))
    upright.paste((255, 0, 0), (0, 0, 20, 40))
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x0132] = "2020:02:03 04:05:06"
    got = decode(encoded(stored, "PNG", exif=exif))
    assert np.array_equal(np.asarray(got.image), np.asarray(upright))
    assert got.taken_at == 1580702706


def test_special_files_do_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "link.jpg").symlink_to("/etc/passwd")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "folder.jpg").mkdir()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("s.jpg")  # in the test's own folder, whose full name may be too long
    found = {}
    for name in ("pipe", "empty", "link", "loop", "folder", "s", "missing"):
        with pytest.raises(UnreadableImage) as caught:
            read_bytes(tmp_path / f"{name}.jpg")
        found[name] = caught.value.status
    listener.close()
    assert found == {
        "pipe": "not_a_file",
        "empty": "empty",
        "link": "link",
        "loop": "link",
        "folder": "not_a_file",
        "s": "unreadable",
        "missing": "vanished",
    }


def scan(folder: Path) -> list[SourceFile]:
    return list(Folder(folder, folder.absolute(), SourceOptions()).scan())


def test_scan_order_junk_and_odd_names(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "@eaDir").mkdir()
    odd = [b"b/\xff\xfe.jpg", b"b/new\nline.jpg", b"b/-rf.jpg", b"a.JPG", b"c.png"]
    others = [b".hidden/x.jpg", b"@eaDir/x.jpg", b"._a.jpg", b"notes.txt", b"layers.psd"]
    for name in (*odd, *others):
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(b"x")
    (tmp_path / "up").symlink_to(tmp_path, target_is_directory=True)
    found = scan(tmp_path)
    names = [os.fsencode(unescaped(f.path)) for f in found if not f.status]
    assert sorted(names) == sorted(odd)
    assert [(f.path, f.status) for f in found if f.status] == [("layers.psd", "unsupported")]
    assert [f.path for f in found] == [f.path for f in scan(tmp_path)]


def test_an_unreadable_folder_is_reported(tmp_path: Path) -> None:
    """As an ordinary user, because root may read every folder."""
    locked = tmp_path / "locked"
    locked.mkdir()
    (locked / "x.jpg").write_bytes(b"x")
    locked.chmod(0)
    tmp_path.chmod(0o755)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        if os.getuid() == 0:
            os.setuid(65534)
        # The test's folder is the current one, so that no parent folder must be readable.
        found = [(f.path, f.status, f.reason) for f in scan(Path())]
        os.write(writer, repr(found).encode())
        os._exit(0)
    os.close(writer)
    told = os.read(reader, 10_000).decode()
    os.waitpid(child, 0)
    locked.chmod(0o755)
    assert told == "[('locked', 'unreadable', 'permission denied')]"


def test_load_reads_a_file(tmp_path: Path) -> None:
    ramp().save(tmp_path / "a.png")
    assert load(tmp_path / "a.png").image.size == (64, 48)
