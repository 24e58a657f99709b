"""TIFF files: byte orders, depths, layouts of samples, alpha, compressions; what cannot be coded is refused by its tags."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from pictures import picture, read, tiff, write_tiff
from PIL import Image

from doh.errors import EncodeError
from doh.signals import deep, images


def test_16_bit_grey_of_both_byte_orders(tmp_path):
    a = picture(1, np.uint16)
    tifffile = pytest.importorskip("tifffile")
    for order in "<>":
        tifffile.imwrite(tmp_path / "a.tif", a[..., 0], byteorder=order, metadata=None, software=False)
        assert np.array_equal(read(tmp_path / "a.tif")[0], a)
        rgb = picture(3, np.uint16)
        tifffile.imwrite(tmp_path / "b.tif", rgb, byteorder=order, photometric="rgb", metadata=None, software=False)
        assert np.array_equal(read(tmp_path / "b.tif")[0], rgb)
    tifffile.imwrite(tmp_path / "c.tif", np.moveaxis(rgb, -1, 0), photometric="rgb", planarconfig="separate", metadata=None, software=False)
    assert np.array_equal(read(tmp_path / "c.tif")[0], rgb)


@pytest.mark.parametrize(("order", "dtype"), [("<", np.uint8), ("<", np.uint16), (">", np.uint16)])  # big-endian of 8 bits Pillow does not know
def test_bigtiff(tmp_path, order, dtype):
    for channels in (1, 3, 4):
        a = picture(channels, dtype)
        write_tiff(tmp_path / "a.tif", a if channels > 1 else a[..., 0], bigtiff=True, byteorder=order, extrasamples=["unassalpha"] if channels == 4 else None)
        assert deep.sample_bits((tmp_path / "a.tif").read_bytes()) == (8 * a.itemsize, channels)
        samples, warnings = read(tmp_path / "a.tif")
        assert samples.dtype == dtype and np.array_equal(samples, a) and warnings == []


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_as_0(tmp_path, order, dtype):
    a, top = picture(2, dtype), np.iinfo(dtype).max
    for options in ({}, {"compression": "zlib"}):
        write_tiff(tmp_path / "a.tif", a[..., 0], photometric="miniswhite", byteorder=order, **options)
        assert np.array_equal(read(tmp_path / "a.tif")[0], top - a[..., :1])
    if dtype == np.uint16:
        write_tiff(tmp_path / "b.tif", a, photometric="miniswhite", byteorder=order, extrasamples=["unassalpha"], planarconfig="contig")
        assert np.array_equal(read(tmp_path / "b.tif")[0], np.concatenate([top - a[..., :1], a[..., 1:]], -1))


@pytest.mark.parametrize("channels", [2, 4])
def test_premultiplied_alpha_of_16_bit(tmp_path, channels):
    """Divided again: where nothing was rounded, the colours are as they were; what is more than its alpha allows is full."""
    straight = picture(channels, np.uint16)
    straight[..., -1] = np.random.default_rng(0).choice([0, 1, 255, 257, 30000, 65534, 65535], straight.shape[:2])
    alpha = straight[..., -1:].astype(np.float64)
    held = np.concatenate([np.rint(straight[..., :-1] * alpha / 65535), alpha], -1).astype(np.uint16)
    held[0, 0], held[0, 1] = 7, 9
    held[0, 0, -1], held[0, 1, -1] = 0, 3
    kind = "minisblack" if channels == 2 else "rgb"
    write_tiff(tmp_path / "a.tif", held, photometric=kind, extrasamples=["assocalpha"], planarconfig="contig")
    samples, warnings = read(tmp_path / "a.tif")
    assert warnings == [f"{tmp_path}/a.tif: premultiplied alpha converted to 16-bit {'grey' if channels == 2 else 'RGBA'}"]
    assert np.array_equal(samples[..., -1], held[..., -1])
    opaque = held[..., -1] == 65535
    assert opaque.any() and np.array_equal(samples[opaque], straight[opaque]) and not samples[held[..., -1] == 0].any()
    assert (samples[0, 1, :-1] == 65535).all()  # brighter than its alpha: no more than white
    alpha = held[..., -1:].astype(np.float64)
    again = samples[..., :-1] * alpha / 65535
    assert abs(again - held[..., :-1])[(alpha[..., 0] > 0) & (held[..., :-1] <= held[..., -1:]).all(-1)].max() <= 0.5


def test_samples_of_16_bit_that_are_not_explained(tmp_path):
    for kind, colours, extra, kept in [
        ("rgb", 3, ["unspecified"], [0, 1, 2]),
        ("minisblack", 1, ["unspecified"], [0]),
        ("minisblack", 1, ["unspecified", "unassalpha", "unspecified"], [0, 2]),
    ]:
        a = picture(colours + len(extra), np.uint16)
        for planar in ("contig", "separate"):
            held = a if planar == "contig" else np.moveaxis(a, -1, 0)
            write_tiff(tmp_path / "a.tif", held, photometric=kind, extrasamples=extra, planarconfig=planar)
            samples, warnings = read(tmp_path / "a.tif")
            assert np.array_equal(samples, a[..., kept])
            lost = a.shape[-1] - len(kept)
            assert warnings == [
                f"{tmp_path}/a.tif: {lost} of {a.shape[-1]} samples of each pixel not kept: the file does not say that they are colours or alpha"
            ]


def test_16_bit_colour_in_tiff_with_metadata(tmp_path):
    """Turned, named and counted as 8-bit files are, those that Pillow does not know included."""
    for channels in (2, 3, 4):
        a = picture(channels, np.uint16)
        options = {"extrasamples": ["unassalpha"] if channels % 2 == 0 else None, "photometric": "minisblack" if channels == 2 else "rgb"}
        tags = [(274, "H", 1, 6, True), (34675, "B", 4, b"prof", True), (700, "B", 4, b"<x/>", True)]
        path = tmp_path / f"{channels}.tif"
        write_tiff(path, a, planarconfig="contig", extratags=tags, description="a barn", **options)
        write_tiff(path, a, planarconfig="contig", append=True, **options)
        samples, warnings = read(path)
        assert np.array_equal(samples, np.rot90(a, -1))
        assert warnings == [f"{path}: only the first of 2 frames is kept", f"{path}: not kept: ICC colour profile, EXIF metadata, XMP metadata"]
        write_tiff(path, a, planarconfig="contig", **options)
        assert read(path)[1] == []
        data = path.read_bytes()
        path.write_bytes(b"II\0*" + data[4:])  # a mistake that Pillow does not mind, but it would cut the samples to 8 bit
        with pytest.raises(EncodeError):
            read(path)
        for orientation in (0, 9, 65535):
            write_tiff(path, a, planarconfig="contig", extratags=[(274, "H", 1, orientation, True)], **options)
            assert np.array_equal(read(path)[0], a)
    assert np.array_equal(images._turn(a, (6, 6)), a)


def test_compressions_of_16_bit_tiff(tmp_path):
    a = picture(3, np.uint16, (4, 4))
    raw = a.astype("<u2").tobytes()
    packed = b"".join(bytes([7]) + raw[at : at + 8] for at in range(0, 96, 8)) + b"\x80"
    for data, code in [(raw, 1), (zlib.compress(raw), 8), (zlib.compress(raw), 32946), (packed, 32773)]:
        (tmp_path / "a.tif").write_bytes(tiff(data, t259=code))
        assert np.array_equal(read(tmp_path / "a.tif")[0], a)
    two = [zlib.compress(raw[:48]), zlib.compress(raw[48:])]
    (tmp_path / "a.tif").write_bytes(tiff(b"".join(two), t259=8, t278=2, t273=(8, 8 + len(two[0])), t279=(len(two[0]), len(two[1]))))
    assert np.array_equal(read(tmp_path / "a.tif")[0], a)
    for code, name in [(34925, "LZMA"), (7, "JPEG"), (60000, "60000")]:
        (tmp_path / "a.tif").write_bytes(tiff(raw, t259=code))
        with pytest.raises(EncodeError, match=f"16-bit TIFF with {name} compression cannot be read; save it uncompressed or with Deflate"):
            read(tmp_path / "a.tif")


def test_samples_that_cannot_be_coded(tmp_path):
    Image.fromarray(np.full((4, 4), 1e9, np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(EncodeError, match="float samples of 32 bits cannot be coded"):
        read(tmp_path / "f.tif")
    Image.fromarray(np.full((4, 4), 1 << 20, np.int32)).save(tmp_path / "i.tif")
    with pytest.raises(EncodeError, match="signed samples of 32 bits cannot be coded"):
        read(tmp_path / "i.tif")
    Image.new("LAB", (4, 4)).save(tmp_path / "l.tif")
    with pytest.raises(EncodeError, match="mode LAB cannot be coded"):
        read(tmp_path / "l.tif")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("options", [{}, {"byteorder": ">"}, {"bigtiff": True}, {"compression": "zlib"}])
def test_samples_that_pillow_takes_for_others(tmp_path, channels, options):
    """Signed, float and long ones whose values happen to be those of 8 or 16 bits without a sign."""
    for dtype, what in [
        (np.int8, "signed samples of 8 bits"),
        (np.int16, "signed samples of 16 bits"),
        (np.int32, "signed samples of 32 bits"),
        (np.uint32, "samples of 32 bits"),
        (np.float16, "float samples of 16 bits"),
        (np.float32, "float samples of 32 bits"),
    ]:
        a = (picture(channels) // 2).astype(dtype)
        write_tiff(tmp_path / "a.tif", a if channels > 1 else a[..., 0], **options)
        with pytest.raises(EncodeError, match=rf"a\.tif: {what} cannot be coded; convert the picture to 8 or 16 bit grey or RGB, without a sign"):
            read(tmp_path / "a.tif")


def test_16_bit_tiff_of_too_many_samples(tmp_path):
    write_tiff(tmp_path / "a.tif", picture(5, np.uint16), planarconfig="contig")
    with pytest.raises(EncodeError, match=r"a\.tif: 5 samples of uint16 a pixel cannot be coded; 1 to 4 of uint8 or uint16 can"):
        read(tmp_path / "a.tif")


def test_samples_of_8_bit_that_are_not_explained(tmp_path):
    for kind, colours, extra, kept in [
        ("rgb", 3, ["unspecified"], [0, 1, 2]),
        ("rgb", 3, ["unspecified", "unspecified"], [0, 1, 2]),
        ("minisblack", 1, ["unspecified"], [0]),
    ]:
        a = picture(colours + len(extra))
        write_tiff(tmp_path / "a.tif", a, photometric=kind, extrasamples=extra, planarconfig="contig")
        samples, warnings = read(tmp_path / "a.tif")
        assert np.array_equal(samples, a[..., kept])
        lost, many = len(extra), a.shape[-1]
        assert warnings == [f"{tmp_path}/a.tif: {lost} of {many} samples of each pixel not kept: the file does not say that they are colours or alpha"]


def test_premultiplied_alpha_of_8_bit_is_named(tmp_path):
    a = picture(4)
    write_tiff(tmp_path / "a.tif", a, extrasamples=["assocalpha"])
    samples, warnings = read(tmp_path / "a.tif")
    assert np.array_equal(samples[..., 3], a[..., 3]) and warnings == [f"{tmp_path}/a.tif: premultiplied alpha converted to 8-bit RGBA"]
    write_tiff(tmp_path / "a.tif", a, extrasamples=["unassalpha"])
    samples, warnings = read(tmp_path / "a.tif")
    assert np.array_equal(samples, a) and warnings == []
