"""doh.signals: image files that are damaged, or that claim more than they are, give one clear error, in little memory."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from pictures import chunk, picture, png_header, read, read_first, refused_in_little_memory, save, tiff

from doh.errors import EncodeError
from doh.files import FileError
from doh.signals import images


def test_directories_that_lead_in_a_circle(tmp_path):
    """300 directories, the last of which names the second as the next."""
    a = picture(3, np.uint16, (4, 4))
    data = bytearray(tiff(a.astype("<u2").tobytes()))
    (first,) = struct.unpack_from("<I", data, 4)
    directory = data[first:-4]
    ends = [len(data) - 4]
    for _ in range(299):
        data[ends[-1] : ends[-1] + 4] = struct.pack("<I", len(data))
        ends.append(len(data) + len(directory))
        data += directory + bytes(4)
    data[ends[-1] :] = struct.pack("<I", ends[0] + 4)
    (tmp_path / "a.tif").write_bytes(data)
    samples, warnings = read(tmp_path / "a.tif")
    assert np.array_equal(samples, a) and warnings == [f"{tmp_path}/a.tif: only the first of 300 frames is kept"]


@pytest.mark.parametrize("bits", [8, 16])
def test_decompression_bomb(tmp_path, bits):
    (tmp_path / "a.png").write_bytes(png_header(100_000, 100_000, bits))
    with pytest.raises(EncodeError, match=r"a.png: the picture claims more than .* pixels"):
        read(tmp_path / "a.png")


def test_16_bit_data_that_unpacks_to_too_much(tmp_path):
    """50 MB of zeros as the data of 16 pixels: refused before they are made."""
    read_first(tmp_path)
    zeros = zlib.compress(bytes(50_000_000), 1)
    header = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
    parts = b"".join(chunk(b"IDAT", zeros[at : at + 9000]) for at in range(0, len(zeros), 9000))
    for name, data in [("a.png", zeros), ("b.png", b"")]:
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + (chunk(b"IDAT", data) if data else parts) + chunk(b"IEND", b""))
        refused_in_little_memory(tmp_path / name, f"{name}: its data unpacks to more than the 111 bytes that its samples take")
    for name, data in [
        ("a.tif", tiff(zeros, t259=8)),
        ("b.tif", tiff(zeros, t259=32946)),
        ("c.tif", tiff(b"\x81\0" * 100_000, t259=32773)),
        ("d.tif", tiff(zeros, t259=8, t278=1, t273=(8,) * 4, t279=(100, 100, 100, 60000))),
    ]:
        (tmp_path / name).write_bytes(data)
        refused_in_little_memory(tmp_path / name, f"{name}: a strip or tile of it unpacks to more than the {24 if name[0] == 'd' else 96} bytes")
    tile = {"t322": 1 << 20, "t323": 1 << 20, "t324": 8, "t325": len(zeros)}
    (tmp_path / "e.tif").write_bytes(tiff(zeros, t259=8, **tile))
    refused_in_little_memory(tmp_path / "e.tif", "e.tif: a strip or tile of it claims more than")
    (tmp_path / "f.tif").write_bytes(tiff(zeros, t259=8, t32997=30000))
    refused_in_little_memory(tmp_path / "f.tif", "f.tif: 16-bit TIFF with RGB colours of 3 samples a pixel cannot be coded")


def test_16_bit_tiff_without_some_of_its_strips(tmp_path):
    """They are not read as black, and no room is made for those of a picture that is not there."""
    read_first(tmp_path)
    raw = picture(3, np.uint16, (4, 4)).tobytes()
    for changes in (
        {"t278": 1, "t273": (8, 32, 56), "t279": (24, 24, 24)},
        {"t278": 2, "t273": (8, 1 << 20), "t279": (48, 48)},
        {"t257": 10_000_000, "t278": 10_000_000, "t279": 240_000_000},
        {"t257": 10_000_000},
    ):
        (tmp_path / "a.tif").write_bytes(tiff(raw, **changes))
        refused_in_little_memory(tmp_path / "a.tif", "a.tif: the image is damaged or cut short .strips or tiles of it are not there")


def test_not_images(tmp_path):
    (tmp_path / "text.png").write_text("this is a letter, not a picture\n" * 20)
    (tmp_path / "empty.png").touch()
    with pytest.raises(EncodeError, match=r"text.png: not an image that can be read"):
        read(tmp_path / "text.png")
    with pytest.raises(EncodeError, match=r"empty.png: the file is empty"):
        read(tmp_path / "empty.png")
    with pytest.raises(FileError, match=r"cannot read .*none.png: No such file"):
        read(tmp_path / "none.png")
    with pytest.raises(EncodeError, match=r"the extension .txt is not one"):
        read(tmp_path / "letter.txt")


@pytest.mark.parametrize("extension", [".png", ".jpg", ".webp", ".tif", ".bmp"])
def test_truncated_files(tmp_path, extension):
    """Every length: an EncodeError of one line, or a complete picture when only the tail of the container is missing."""
    path = tmp_path / f"a{extension}"
    image = save(path)
    data = path.read_bytes()
    refused = 0
    for length in range(0, len(data), max(1, len(data) // 60)):
        path.write_bytes(data[:length])
        try:
            samples, _ = read(path)
            assert samples.shape == (image.height, image.width, 3)
        except EncodeError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused >= 50


@pytest.mark.parametrize(("extension", "channels"), [(".png", 3), (".png", 2), (".tif", 3), (".tif", 2)])
def test_damaged_16_bit_files(tmp_path, extension, channels):
    path = tmp_path / f"a{extension}"
    images.write_image(path, picture(channels, np.uint16), "u16")
    data = path.read_bytes()
    for length in range(0, len(data), max(1, len(data) // 40)):
        path.write_bytes(data[:length])
        with pytest.raises(EncodeError):
            read(path)
    rng = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            damaged[at] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            read(path)
        except EncodeError as error:
            assert "\n" not in str(error)
