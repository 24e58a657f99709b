"""doh.signals: what goes in comes out, what is lost is named, what is broken gives one clear error."""

from __future__ import annotations

import io
import os
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from pictures import chunk, picture, png_header, read, save, write_tiff
from PIL import Image, ImageOps, PngImagePlugin

from doh import signals
from doh.errors import EncodeError
from doh.signals import deep, images


@pytest.mark.parametrize("extension", [".png", ".PNG", ".tif", ".tiff"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_lossless_round_trip(tmp_path, extension, dtype, channels):
    a = picture(channels, dtype)
    path = tmp_path / f"a{extension}"
    signals.write_signal(path, a, SimpleNamespace(signal="image", sample_type="u16" if dtype == np.uint16 else "u8"))
    b, warnings = read(path)
    assert b.dtype == dtype and np.array_equal(a, b) and warnings == []
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(("extension", "channels"), [(".webp", 3), (".webp", 4), (".bmp", 1), (".bmp", 3)])
def test_lossless_8_bit_formats(tmp_path, extension, channels):
    a = picture(channels)
    images.write_image(tmp_path / f"a{extension}", a, "u8")
    assert np.array_equal(read(tmp_path / f"a{extension}")[0], a)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_close(tmp_path, channels):
    a = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None, None] * 3, (64, 48, channels))
    images.write_image(tmp_path / "a.jpg", a, "u8")
    b, warnings = read(tmp_path / "a.jpg")
    assert b.shape == a.shape and abs(b.astype(int) - a).max() <= 4 and warnings == []


def test_one_bit_samples_become_black_and_white(tmp_path):
    a = picture(1) & 1
    images.write_image(tmp_path / "a.png", a, "u1")
    assert np.array_equal(read(tmp_path / "a.png")[0], a * 255)


@pytest.mark.parametrize(
    ("name", "channels", "sample_type", "message"),
    [
        ("a.jpg", 4, "u8", "JPEG cannot hold alpha; use .png, .tif, .webp, .tiff, .npy"),
        ("a.bmp", 2, "u8", "BMP cannot hold grey with alpha"),
        ("a.webp", 3, "u16", "WEBP cannot hold u16 samples; use .png, .tif, .tiff, .npy"),
        ("a.png", 1, "s16", "PNG cannot hold s16 samples; use .npy"),
        ("a.png", 7, "u8", "PNG cannot hold 7 channels"),
        ("a.xyz", 3, "u8", "the extension .xyz is not one that doh knows"),
        ("plain", 3, "u8", "a name without an extension"),
    ],
)
def test_what_an_extension_cannot_hold(tmp_path, name, channels, sample_type, message):
    with pytest.raises(EncodeError, match=message.replace(".", r"\.")):
        signals.check_signal(tmp_path / name, channels, SimpleNamespace(signal="image", sample_type=sample_type, shape=(4, 4)))


@pytest.mark.parametrize("shape", [(9,), (4, 5, 6), (2, 2, 2, 2)])
def test_what_is_no_picture_is_refused_before_it_is_decoded(tmp_path, shape):
    with pytest.raises(EncodeError, match=rf"a.png: an image file holds two dimensions; this signal has {len(shape)}: use .npy"):
        signals.check_signal(tmp_path / "a.png", 1, SimpleNamespace(signal="array", sample_type="u8", shape=shape))


def test_sides_beyond_the_format(tmp_path):
    for name, side, others in [("a.webp", 16383, ".png, .tif, .bmp, .jpg, .tiff, .jpeg, .npy"), ("a.jpg", 65500, ".png, .tif, .bmp, .tiff, .npy")]:
        info = SimpleNamespace(signal="image", sample_type="u8", shape=(4, 5))
        message = rf"{name}: \w+ cannot hold a side of {side + 1:,} pixels: {side:,} are the most; use {others}"
        with pytest.raises(EncodeError, match=message):
            images.write_image(tmp_path / name, np.zeros((1, side + 1, 3), np.uint8), "u8")
        with pytest.raises(EncodeError, match=message):
            signals.check_signal(tmp_path / name, 3, info, (side + 1, 1))
        signals.check_signal(tmp_path / name, 3, info, (side, side))
        images.write_image(tmp_path / name, np.zeros((1, side, 3), np.uint8), "u8")
        (tmp_path / name).unlink()
    with pytest.raises(EncodeError, match="an image file holds two dimensions"):
        images.write_image(tmp_path / "a.png", np.zeros((2, 2, 2, 3), np.uint8), "u8")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("extension", [".jpg", ".png", ".webp", ".tif"])
def test_exif_orientation(tmp_path, orientation, extension):
    path = tmp_path / f"a{extension}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(path, exif=exif)
    with Image.open(path) as image:
        expected = np.array(ImageOps.exif_transpose(image))
    samples, warnings = read(path)
    assert np.array_equal(samples, expected) and warnings == []
    assert samples.shape[:2] == ((13, 17) if orientation < 5 else (17, 13))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_16_bit_colour(orientation):
    a = picture(3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    Image.fromarray(a).save(stream, "PNG", exif=exif)
    expected = np.array(ImageOps.exif_transpose(Image.open(stream)))
    assert np.array_equal(images._turn(a, orientation), expected)


def test_16_bit_png_with_metadata(tmp_path):
    """An eXIf and an iCCP chunk put into a 16-bit colour file by hand: turned, and named."""
    a = picture(3, np.uint16)
    images.write_image(tmp_path / "a.png", a, "u16")
    data = (tmp_path / "a.png").read_bytes()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    extra = chunk(b"iCCP", b"p\0\0" + zlib.compress(b"x" * 200)) + chunk(b"eXIf", exif.tobytes()[6:])
    (tmp_path / "a.png").write_bytes(data[:33] + extra + data[33:])
    b, warnings = read(tmp_path / "a.png")
    assert np.array_equal(b, np.rot90(a, -1))
    assert warnings == [f"{tmp_path / 'a.png'}: not kept: ICC colour profile, EXIF metadata"]


def test_what_is_lost_is_named(tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "maker"
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "somebody")
    save(tmp_path / "a.jpg", exif=exif, icc_profile=b"p" * 200, comment=b"hello", dpi=(300, 300))
    save(tmp_path / "a.png", pnginfo=text)
    save(tmp_path / "a.webp", xmp=b"<x/>", icc_profile=b"p" * 200)
    assert read(tmp_path / "a.jpg")[1] == [f"{tmp_path}/a.jpg: not kept: ICC colour profile, EXIF metadata, text, resolution"]
    assert read(tmp_path / "a.png")[1] == [f"{tmp_path}/a.png: not kept: text"]
    assert read(tmp_path / "a.webp")[1] == [f"{tmp_path}/a.webp: not kept: ICC colour profile, XMP metadata"]


@pytest.mark.parametrize("extension", [".png", ".tif", ".webp"])
def test_frames(tmp_path, extension):
    frames = [Image.fromarray(picture(3)), Image.fromarray(255 - picture(3))]
    options = {"lossless": True} if extension == ".webp" else {}
    frames[0].save(tmp_path / f"a{extension}", save_all=True, append_images=frames[1:], **options)
    samples, warnings = read(tmp_path / f"a{extension}")
    assert np.array_equal(samples, picture(3))
    assert warnings == [f"{tmp_path}/a{extension}: only the first of 2 frames is kept"]


@pytest.mark.parametrize(
    ("mode", "extension", "channels", "warning"),
    [
        ("1", ".png", 1, "1-bit samples converted to 8-bit grey"),
        ("1", ".tif", 1, "1-bit samples converted to 8-bit grey"),
        ("P", ".png", 3, "the palette converted to 8-bit RGB"),
        ("P", ".bmp", 3, "the palette converted to 8-bit RGB"),
        ("CMYK", ".jpg", 3, "CMYK colours converted to 8-bit RGB"),
        ("CMYK", ".tif", 3, "CMYK colours converted to 8-bit RGB"),
        ("YCbCr", ".tif", 3, "YCbCr colours converted to 8-bit RGB"),
    ],
)
def test_conversions_are_named(tmp_path, mode, extension, channels, warning):
    path = tmp_path / f"a{extension}"
    save(path, mode)
    samples, warnings = read(path)
    with Image.open(path) as image:
        assert np.array_equal(samples.squeeze(), np.array(image.convert("L" if channels == 1 else "RGB")))
    assert warnings == [f"{path}: {warning}"]


def test_transparency_becomes_alpha(tmp_path):
    palette = save(tmp_path / "p.png", "P", transparency=3)
    assert read(tmp_path / "p.png")[0].shape == (13, 17, 4)
    assert np.array_equal(read(tmp_path / "p.png")[0][..., 3] == 0, np.array(palette) == 3)
    grey = save(tmp_path / "l.png", "L", transparency=0)
    samples, warnings = read(tmp_path / "l.png")
    assert np.array_equal(samples[..., 1] == 0, np.array(grey) == 0) and "transparent colour" in warnings[0]
    a = picture(3, np.uint16)
    images.write_image(tmp_path / "d.png", a, "u16")
    data = (tmp_path / "d.png").read_bytes()
    (tmp_path / "d.png").write_bytes(data[:33] + chunk(b"tRNS", bytes(6)) + data[33:])
    samples, _ = read(tmp_path / "d.png")
    assert samples.shape == (13, 17, 4) and np.array_equal(samples[..., 3] == 0, (a == 0).all(-1)) and samples.max() == 65535


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("interlace", [False, True])
def test_transparent_grey_of_every_depth(tmp_path, bits, interlace):
    png = pytest.importorskip("png")
    top = (1 << bits) - 1
    held = np.random.default_rng(bits).integers(0, top + 1, (13, 17))
    for key in {0, top, top // 3, int(held[5, 5])}:
        with open(tmp_path / "a.png", "wb") as stream:
            png.Writer(17, 13, greyscale=True, bitdepth=bits, transparent=key, interlace=interlace).write(stream, held.tolist())
        samples, warnings = read(tmp_path / "a.png")
        full = 65535 if bits == 16 else 255
        assert samples.dtype == (np.uint16 if bits == 16 else np.uint8)
        assert np.array_equal(samples[..., 0], held * (full // top)) and np.array_equal(samples[..., 1], (held != key) * full)
        assert warnings[-1] == f"{tmp_path}/a.png: the transparent colour converted to an alpha channel"


def test_what_pillow_logs_is_not_printed(tmp_path, caplog):
    write_tiff(tmp_path / "a.tif", picture(7), planarconfig="contig")
    with pytest.raises(EncodeError, match=r"a\.tif: not an image that can be read"):
        read(tmp_path / "a.tif")
    assert caplog.records == []


def test_depth_of_what_is_neither():
    assert deep.sample_bits(b"") is None
    assert deep.sample_bits(b"GIF89a" + bytes(40)) is None
    assert deep.sample_bits(b"II*\0" + bytes(3)) is None
    assert deep.sample_bits(png_header(1, 1, 16, 6)) == (16, 4)


@pytest.mark.parametrize(
    ("array", "kind", "sample_type", "shape"),
    [
        (np.zeros((5, 7), np.uint8), "image", "u8", (5, 7, 1)),
        (np.zeros((5, 7, 4), np.uint16), "image", "u16", (5, 7, 4)),
        (np.zeros((5, 7, 6), ">u2"), "array", "u16", (5, 7, 6)),
        (np.zeros(9, np.int16), "array", "s16", (9, 1)),
        (np.zeros((9, 2), np.int16), "array", "s16", (9, 2)),
        (np.ones((4, 5), np.bool_), "array", "u1", (4, 5, 1)),
        (np.zeros((4, 5, 6, 3), np.uint8), "array", "u8", (4, 5, 6, 3)),
    ],
)
def test_npy(tmp_path, array, kind, sample_type, shape):
    np.save(tmp_path / "a.npy", array)
    signal, warnings = signals.read_signal(tmp_path / "a.npy")
    assert (signal.kind, signal.sample_type, signal.samples.shape, warnings) == (kind, sample_type, shape, [])
    assert np.array_equal(signal.samples.reshape(array.shape), array)
    signals.write_signal(tmp_path / "b.npy", signal.samples, signal)
    again, _ = signals.read_signal(tmp_path / "b.npy")
    assert np.array_equal(again.samples, signal.samples)


def test_npy_refusals(tmp_path):
    np.save(tmp_path / "f.npy", np.zeros((2, 2)))
    with open(tmp_path / "o.npy", "wb") as file:  # an array of objects, which only unpickling would read
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": (1,)})
        file.write(b"cos\nsystem\n.")
    np.save(tmp_path / "c.npy", np.zeros((2, 3, 40), np.uint8))
    (tmp_path / "t.npy").write_text("letters")
    (tmp_path / "e.npy").touch()
    (tmp_path / "d.npy").write_bytes((tmp_path / "f.npy").read_bytes()[:50])
    np.savez(tmp_path / "z.npz", np.zeros((2, 2), np.uint8))
    (tmp_path / "z.npz").rename(tmp_path / "z.npy")
    for name, message in [
        ("f", "samples of type float64"),
        ("o", "an array of Python objects"),
        ("c", "1 to 32 channels"),
        ("t", "not a .npy file: it does not begin as they do"),
        ("e", "the file is empty"),
        ("d", "not a readable .npy file"),
        ("z", "an archive of arrays; doh reads a single array"),
    ]:
        with pytest.raises(EncodeError, match=rf"{name}\.npy: .*{message}") as caught:
            signals.read_signal(tmp_path / f"{name}.npy")
        assert "pickle" not in str(caught.value)
