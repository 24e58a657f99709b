"""Volumes to samples and back: VTK's structured points by hand, NIfTI through nibabel."""

from __future__ import annotations

import gzip
import os
import struct
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from commands import error_of, random_file, run, without_modules

import doh
from doh import signals
from doh.errors import EncodeError

DTYPES = {"u1": np.uint8, "u8": np.uint8, "u16": np.uint16, "s16": np.int16}


def volume(sample_type: str, channels: int = 1, shape=(4, 5, 6)) -> tuple[np.ndarray, SimpleNamespace]:
    """Noise over the full range, no two sides alike."""
    dtype, rng = DTYPES[sample_type], np.random.default_rng(3)
    low, high = (0, 1) if sample_type == "u1" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    samples = rng.integers(low, high + 1, (*shape, channels), dtype)
    samples[0, 0, 0], samples[-1, -1, -1] = low, high
    return samples, SimpleNamespace(signal="volume", sample_type=sample_type, shape=shape)


@pytest.mark.parametrize("extension", [".vtk", ".nii", ".nii.gz", ".VTK"])
@pytest.mark.parametrize("sample_type", ["u8", "u16", "s16", "u1"])
def test_lossless_round_trip(tmp_path, extension, sample_type):
    if ".nii" in extension:
        pytest.importorskip("nibabel")
    samples, info = volume(sample_type)
    path = tmp_path / f"a{extension}"
    signals.write_signal(path, samples, info)
    signal, notes = signals.read_signal(path)
    assert signal.kind == "volume" and signal.sample_type == ("u8" if sample_type == "u1" else sample_type)
    assert np.array_equal(signal.samples, samples) and notes == [f"{path}: only the samples are kept, not their places, sizes and names"]
    assert os.listdir(tmp_path) == [path.name]
    if sample_type == "u1":
        signal, _ = signals.read_signal(path, occupancy=True)
        assert (signal.kind, signal.sample_type) == ("occupancy", "u1") and np.array_equal(signal.samples, samples)


def test_vtk_is_laid_out_as_its_documentation_says(tmp_path):
    samples, info = volume("s16", 2, (2, 3, 4))
    signals.write_signal(tmp_path / "a.vtk", samples, info)
    data = (tmp_path / "a.vtk").read_bytes()
    head, _, body = data.partition(b"LOOKUP_TABLE default\n")
    lines = head.decode().splitlines()
    assert lines[0] == "# vtk DataFile Version 3.0" and lines[2:5] == ["BINARY", "DATASET STRUCTURED_POINTS", "DIMENSIONS 2 3 4"]
    assert lines[5:] == [
        "ORIGIN -0.5 -0.6666666666666667 -0.75",
        "SPACING 1.0 0.6666666666666666 0.5",
        "POINT_DATA 24",
        "SCALARS samples short 2",
    ]
    expected = b"".join(int(samples[x, y, z, c]).to_bytes(2, "big", signed=True) for z in range(4) for y in range(3) for x in range(2) for c in range(2))
    assert body == expected + b"\n"


def test_vtk_of_others(tmp_path):
    """Fields in another order, with spacing by its older name, no lookup table, line ends of Windows."""
    head = (
        b"# vtk DataFile Version 2.0\r\nbrain\r\nBINARY\r\nDATASET STRUCTURED_POINTS\r\nASPECT_RATIO 1 1 1.5\r\n"
        b"ORIGIN 0 0 0\r\nDIMENSIONS 2 1 2\r\nPOINT_DATA 4\r\nSCALARS x unsigned_char\r\n"
    )
    (tmp_path / "a.vtk").write_bytes(head + bytes([1, 2, 3, 4]))
    assert signals.read_signal(tmp_path / "a.vtk")[0].samples.tolist() == [[[[1], [3]]], [[[2], [4]]]]
    (tmp_path / "b.vtk").write_bytes(head.replace(b"SCALARS x unsigned_char", b"COLOR_SCALARS x 2") + bytes(range(8)))  # as VTK writes bytes
    assert signals.read_signal(tmp_path / "b.vtk")[0].samples.tolist() == [[[[0, 1], [4, 5]]], [[[2, 3], [6, 7]]]]


@pytest.mark.parametrize("kind", ["SCALARS x unsigned_char", "COLOR_SCALARS x"])
def test_vtk_of_more_channels_than_can_be_written(tmp_path, kind):
    for channels in (1, 4, 5, 9, 10):
        head = f"# vtk DataFile Version 3.0\nx\nBINARY\nDATASET STRUCTURED_POINTS\nDIMENSIONS 2 1 2\nPOINT_DATA 4\n{kind} {channels}\n"
        (tmp_path / "a.vtk").write_bytes(head.encode() + bytes(4 * channels))
        if channels <= 4:
            signal, _ = signals.read_signal(tmp_path / "a.vtk")
            signals.write_signal(tmp_path / "b.vtk", signal.samples, signal)
        else:
            with pytest.raises(EncodeError, match=rf"a\.vtk: {channels} values for each point; .* 1 to 4: save some of them alone, or use \.npy"):
                signals.read_signal(tmp_path / "a.vtk")


def test_vtk_with_more_than_one_array(tmp_path):
    samples, info = volume("s16")
    path = tmp_path / "a.vtk"
    signals.write_signal(path, samples, info)
    data = path.read_bytes()
    about, second = b"METADATA\nCOMPONENT_NAMES\nSCALARS\n\n", b"SCALARS other short 1\nLOOKUP_TABLE default\n" + bytes(240) + b"\n"
    for rest, word in [
        (b"", None),
        (about, None),
        (about[:-1], None),
        (b"\n\n", None),
        (second, "SCALARS"),
        (about + second, "SCALARS"),
        (about.replace(b"\n", b"\r\n") + second, "SCALARS"),
        (second + second, "SCALARS"),
        (b"VECTORS v float\n" + bytes(1440), "VECTORS"),
        (about + b"FIELD FieldData 1\n", "FIELD"),
        (b"CELL_DATA 60\n" + second, "CELL_DATA"),
    ]:
        path.write_bytes(data + rest)
        signal, notes = signals.read_signal(path)
        assert np.array_equal(signal.samples, samples)
        assert notes[1:] == ([f"{path}: only the first of its arrays is kept; {word} follow"] if word else [])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((b"BINARY", b"ASCII"), "not a VTK file that can be read"),
        ((b"STRUCTURED_POINTS", b"POLYDATA"), "not a VTK file that can be read"),
        ((b"DIMENSIONS 4 5 6", b"DIMENSIONS 4 5 7"), "damaged or cut short"),
        ((b"DIMENSIONS 4 5 6", b"DIMENSIONS 0 5 6"), "damaged or cut short"),
        ((b"DIMENSIONS 4 5 6\n", b""), "not a VTK file that can be read"),
        ((b"DIMENSIONS 4 5 6", b"DIMENSIONS 400000000 500000000 600000000"), "damaged or cut short"),
        ((b"unsigned_short", b"float"), "samples of type float"),
        ((b"unsigned_short 1", b"unsigned_short 4"), "damaged or cut short"),
        ((b"unsigned_short 1", b"unsigned_short 0"), "0 values for each point; doh reads and writes VTK files of 1 to 4"),
        ((b"unsigned_short 1", b"unsigned_short 12"), "12 values for each point"),
    ],
)
def test_damaged_vtk(tmp_path, change, message):
    samples, info = volume("u16")
    path = tmp_path / "a.vtk"
    signals.write_signal(path, samples, info)
    data = path.read_bytes()
    assert change[0] in data
    path.write_bytes(data.replace(*change))
    with pytest.raises(EncodeError, match=f"a.vtk: .*{message}"):
        signals.read_signal(path)
    for length in (0, 10, 150, len(data) - 2):
        path.write_bytes(data[:length])
        with pytest.raises(EncodeError, match=r"a\.vtk: "):
            signals.read_signal(path)


def test_nifti_by_nibabel(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    samples, info = volume("s16")
    signals.write_signal(tmp_path / "a.nii.gz", samples, info)
    image = nibabel.load(tmp_path / "a.nii.gz")
    assert np.array_equal(np.asarray(image.dataobj), samples[..., 0])
    assert np.allclose(image.affine, [[0.5, 0, 0, -0.75], [0, 0.4, 0, -0.8], [0, 0, 1 / 3, 1 / 6 - 1], [0, 0, 0, 1]])
    again = tmp_path / "b.nii.gz"
    signals.write_signal(again, samples, info)
    assert again.read_bytes() == (tmp_path / "a.nii.gz").read_bytes()  # no time in it
    nibabel.save(nibabel.Nifti1Image(samples.astype(np.float32), np.eye(4)), tmp_path / "f.nii")
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 3, 4, 5), np.uint8), np.eye(4)), tmp_path / "four.nii")
    data = gzip.decompress(again.read_bytes())
    (tmp_path / "s.nii").write_bytes(data[:112] + struct.pack("<ff", 2.0, 1.0) + data[120:])  # scl_slope, scl_inter
    (tmp_path / "letter.nii").write_text("a letter, not a volume\n" * 30)
    (tmp_path / "letter.nii.gz").write_text("a letter, not a volume\n" * 30)
    (tmp_path / "cut.nii").write_bytes(data[:-9])
    (tmp_path / "cut.nii.gz").write_bytes(again.read_bytes()[:-9])
    for name, message in [
        ("f.nii", "samples of type float32"),
        ("four.nii", "4 dimensions"),
        ("s.nii", "to be scaled"),
        ("letter.nii", "not a NIfTI"),
        ("letter.nii.gz", "not a NIfTI"),
        ("cut.nii", "damaged"),
        ("cut.nii.gz", "damaged"),
    ]:
        with pytest.raises(EncodeError, match=f"{name}: .*{message}") as caught:
            signals.read_signal(tmp_path / name)
        assert "\n" not in str(caught.value)


def nifti(shape=(2, 3, 4), magic: bytes = b"n+1\0", place: float = 352.0, order: str = "<") -> bytes:
    """The header of uint8 samples, written field by field."""
    header = bytearray(352)
    struct.pack_into(order + "i", header, 0, 348)
    struct.pack_into(order + "8h", header, 40, len(shape), *shape, *[1] * (7 - len(shape)))
    struct.pack_into(order + "2h", header, 70, 2, 8)  # datatype, bits
    struct.pack_into(order + "f", header, 108, place)
    header[344:348] = magic
    return bytes(header)


def test_what_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    """More than the header names, found out in little memory; and more than a file may have, whatever it names."""
    pytest.importorskip("nibabel")
    from doh.signals import volumes

    path, named = tmp_path / "a.nii.gz", nifti() + bytes(range(24))
    path.write_bytes(gzip.compress(named + bytes(1000)))
    assert signals.read_signal(path)[0].samples[1, 2, 3, 0] == 23
    path.write_bytes(gzip.compress(named + bytes(100_000_000), 1))
    tracemalloc.start()
    try:
        with pytest.raises(EncodeError, match=r"a\.nii\.gz: it unpacks to more than the 376 bytes that its header names; such files are refused"):
            signals.read_signal(path)
        assert tracemalloc.get_traced_memory()[1] < 8e6
    finally:
        tracemalloc.stop()
    path.write_bytes(gzip.compress(nifti((100, 100, 100)) + bytes(1_000_000)))
    assert signals.read_signal(path)[0].samples.shape == (100, 100, 100, 1)
    monkeypatch.setattr(volumes, "MAX_BYTES", 1000)
    with pytest.raises(EncodeError, match="unpacks to more than 1,000 bytes"):
        signals.read_signal(path)


def test_a_compressed_volume_takes_its_samples_twice(tmp_path):
    """Once as they are in the file, once in the order of doh; and an eighth of room to grow."""
    pytest.importorskip("nibabel")
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(nifti((400, 200, 200)) + bytes(16_000_000), 1))
    tracemalloc.start()
    try:
        signals.read_signal(path)
        assert tracemalloc.get_traced_memory()[1] < 38e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("extension", [".nii", ".nii.gz"])
def test_nifti_of_both_byte_orders(tmp_path, order, extension):
    nibabel = pytest.importorskip("nibabel")
    samples = volume("u16")[0][..., 0]
    header = nibabel.Nifti1Header(endianness=order)
    header.set_data_dtype(np.uint16)
    header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"what somebody said"))
    nibabel.save(nibabel.Nifti1Image(samples, np.eye(4), header), tmp_path / f"a{extension}")
    signal, _ = signals.read_signal(tmp_path / f"a{extension}")
    assert signal.samples.dtype == np.uint16 and np.array_equal(signal.samples[..., 0], samples) and signal.samples.flags.writeable


def test_nifti_that_claims_more_than_it_holds(tmp_path):
    """A header that names samples which are not there, or lie in the header: refused before room is made for them."""
    pytest.importorskip("nibabel")
    for order in "<>":
        (tmp_path / "right.nii").write_bytes(nifti(order=order) + bytes(range(24)))
        assert signals.read_signal(tmp_path / "right.nii")[0].samples[1, 2, 3, 0] == 23
    huge, claim = nifti((32767, 32767, 30000)) + bytes(24), "32767 x 32767 x 30000 samples of 8 bits from byte 352 on are named, it has 376 bytes"
    for name, data, message in [
        ("huge.nii", huge, claim),
        ("huge.nii.gz", gzip.compress(huge), claim),
        ("seven.nii", nifti((32767,) * 7) + bytes(24), "are named, it has 376 bytes"),
        ("none.nii", nifti((2, 0, 4)) + bytes(24), "2 x 0 x 4 samples"),
        ("less.nii", nifti((2, -3, -4)) + bytes(24), "2 x -3 x -4 samples"),
        ("header.nii", nifti(place=0) + bytes(24), "from byte 0 on"),
        ("inside.nii", nifti(place=351) + bytes(24), "351 too low|from byte 351 on"),
        ("beyond.nii", nifti(place=353) + bytes(24), "from byte 353 on"),
        ("nan.nii", nifti(place=float("nan")) + bytes(24), "damaged"),
        ("pair.nii", nifti(magic=b"ni1\0") + bytes(24), "a pair of .hdr and .img"),
        ("pair0.nii", nifti(magic=b"ni1\0", place=0) + bytes(24), "a pair of .hdr and .img"),
    ]:
        (tmp_path / name).write_bytes(data)
        tracemalloc.start()
        try:
            with pytest.raises(EncodeError, match=f"{name}: .*({message})"):
                signals.read_signal(tmp_path / name)
            assert tracemalloc.get_traced_memory()[1] < 20e6
        finally:
            tracemalloc.stop()


def test_what_a_volume_file_cannot_hold(tmp_path):
    for name, channels, shape, message in [
        ("a.vtk", 5, (2, 2, 2), "VTK cannot hold 5 channels here; use .npy"),
        ("a.nii", 2, (2, 2, 2), "NIfTI cannot hold 2 channels here; use .vtk or .npy"),
        ("a.vtk", 1, (2, 2), "hold three dimensions; this signal has 2; use .npy"),
    ]:
        with pytest.raises(EncodeError, match=message.replace(".", r"\.")):
            signals.check_signal(tmp_path / name, channels, SimpleNamespace(signal="array", sample_type="u8", shape=shape))
    pytest.importorskip("nibabel")
    samples, info = volume("u8", shape=(32768, 1, 1))
    with pytest.raises(EncodeError, match=r"32768 x 1 x 1 samples cannot be written as NIfTI-1, .* at most 32,767; use \.vtk or \.npy"):
        signals.write_signal(tmp_path / "a.nii", samples, info)
    with pytest.raises(EncodeError, match="2 x 40000 x 2 samples cannot be written as NIfTI-1"):
        signals.check_signal(tmp_path / "a.nii.gz", 1, volume("u8", shape=(2, 2, 2))[1], (2, 40000, 2))
    signals.write_signal(tmp_path / "a.nii", samples[1:], info)
    (tmp_path / "a.nii").unlink()
    assert os.listdir(tmp_path) == []


def test_decode_and_eval(tmp_path):
    source = random_file(tmp_path / "a.doh", shape=(5, 6, 7), channels=1, sample_type="u1", kind="occupancy")
    assert run("decode", source, "-o", tmp_path / "a.vtk").returncode == 0
    result = run("eval", source, tmp_path / "a.vtk")
    assert result.returncode == 0 and "identical, IoU 1.0000\n" in result.stdout
    assert np.array_equal(signals.read_signal(tmp_path / "a.vtk")[0].samples, doh.decode(source))
    assert "this signal has 2; use .npy" in error_of(run("decode", random_file(tmp_path / "p.doh"), "-o", tmp_path / "p.vtk"))
    message = error_of(without_modules("nibabel", "decode", source, "-o", tmp_path / "a.nii.gz"))
    assert message.endswith("a.nii.gz: NIfTI files need nibabel, which is not installed: pip install 'doh[volume]'")
