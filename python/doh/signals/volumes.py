"""Volumes of three dimensions <-> samples (x, y, z, channels): VTK's legacy structured points by hand, NIfTI-1 through nibabel (the extra `volume`).

What is written lies in the cube [-1, 1]^3 as docs/format.md, section 7, has it: the first sample of a dimension of g points at 1/g - 1, then every 2/g.
"""

from __future__ import annotations

import gzip
import io
import math
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from doh.errors import EncodeError
from doh.files import write_atomic
from doh.model import DTYPE
from doh.signal import Signal
from doh.signals.libraries import contents, first_line, quietly

if TYPE_CHECKING:
    from doh.signals import SampleInfo

#: VTK's name of a type -> the sample type.
_VTK_TYPES = {"unsigned_char": "u8", "unsigned_short": "u16", "short": "s16"}
_VTK_NAMES = {"u1": "unsigned_char", **{sample_type: name for name, sample_type in _VTK_TYPES.items()}}
_VTK_CHANNELS = 4
_TYPE_OF = {np.dtype(np.uint8): "u8", np.dtype(np.uint16): "u16", np.dtype(np.int16): "s16"}
#: Bytes of NIfTI-1's header, and the 4 that say whether more follows: samples cannot lie before that.
_NIFTI_HEADER = 352
_NIFTI_SIDE = (1 << 15) - 1  # points: it has 16 bits for them
#: A compressed file may not unpack to more.
MAX_BYTES = 1 << 32
_BLOCK = 1 << 20
#: A compressed file may unpack to so much more than its header names: some writers are careless about the end.
_SLACK = 1 << 16


def read(path: Path) -> tuple[Signal, list[str]]:
    """The samples in a volume: uint8, uint16 or int16 (x, y, z, channels), kind `volume`; and a note that their place and size are not kept.

    Raises EncodeError for what is no such file, is damaged or holds other types, and for NIfTI without nibabel; FileError.
    """
    data = contents(path)
    try:
        samples, others = _read_vtk(data) if path.suffix.lower() == ".vtk" else (_read_nifti(path, data), None)
    except EncodeError as error:
        raise EncodeError(f"{path}: {error}") from error
    except MemoryError:
        raise EncodeError(f"{path}: the volume does not fit into memory") from None
    notes = [f"{path}: only the samples are kept, not their places, sizes and names"]
    if others:
        notes.append(f"{path}: only the first of its arrays is kept; {others} follow")
    try:
        return Signal(samples, "volume", _TYPE_OF[samples.dtype]), notes
    except EncodeError as error:
        raise EncodeError(f"{path}: {error}") from error


def write(path: Path, samples: np.ndarray, info: SampleInfo) -> None:
    """Writes samples (x, y, z, channels) without loss. Raises EncodeError where the file cannot hold them, FileError."""
    if samples.ndim != 4:
        raise EncodeError(f"{path}: a volume has three dimensions; these samples have {samples.ndim - 1}: use .npy")
    check(path, samples.shape[-1], info, samples.shape[:-1])
    if path.suffix.lower() == ".vtk":
        write_atomic(path, _vtk(samples, info.sample_type))
        return
    nibabel = _nibabel()
    spacing = [2 / n for n in samples.shape[:3]]
    place = np.diag([*spacing, 1.0])
    place[:3, 3] = [step / 2 - 1 for step in spacing]
    data = nibabel.Nifti1Image(samples[..., 0], place).to_bytes()
    write_atomic(path, gzip.compress(data, 6, mtime=0) if path.name.lower().endswith(".gz") else data)


def check(path: Path, channels: int, info: SampleInfo, extent: tuple[int, ...] | None = None) -> None:
    """Raises EncodeError for samples that are not of three dimensions, for too many channels, too long a side, and for NIfTI without nibabel."""
    vtk = path.suffix.lower() == ".vtk"
    name, most = ("VTK", _VTK_CHANNELS) if vtk else ("NIfTI", 1)
    if len(info.shape) != 3:
        raise EncodeError(f"{path}: {name} files hold three dimensions; this signal has {len(info.shape)}; use .npy")
    if channels > most:
        raise EncodeError(f"{path}: {name} cannot hold {channels} channels here; use {'.vtk or ' if channels <= _VTK_CHANNELS else ''}.npy")
    if not vtk:
        if extent is not None and max(extent) > _NIFTI_SIDE:
            size = " x ".join(map(str, extent))
            raise EncodeError(f"{path}: {size} samples cannot be written as NIfTI-1, whose sides have at most {_NIFTI_SIDE:,}; use .vtk or .npy")
        try:
            _nibabel()
        except EncodeError as error:
            raise EncodeError(f"{path}: {error}") from error


def _vtk(samples: np.ndarray, sample_type: str) -> bytes:
    """Samples (x, y, z, 1 to 4) as VTK's legacy structured points: big-endian, x fastest."""
    shape, channels = samples.shape[:3], samples.shape[3]
    lines = (
        "# vtk DataFile Version 3.0",
        "samples",
        "BINARY",
        "DATASET STRUCTURED_POINTS",
        "DIMENSIONS {} {} {}".format(*shape),
        "ORIGIN {!r} {!r} {!r}".format(*(1 / n - 1 for n in shape)),
        "SPACING {!r} {!r} {!r}".format(*(2 / n for n in shape)),
        f"POINT_DATA {math.prod(shape)}",
        f"SCALARS samples {_VTK_NAMES[sample_type]} {channels}",
        "LOOKUP_TABLE default",
    )
    values = samples.transpose(2, 1, 0, 3).astype(np.dtype(DTYPE[sample_type]).newbyteorder(">"))
    return b"\n".join([*(line.encode() for line in lines), bytes(values.data), b""])


_VTK_HEADER = re.compile(
    rb"# vtk DataFile Version \d+\.\d+ *\r?\n[^\n]{0,256}\nBINARY\s+DATASET\s+STRUCTURED_POINTS\s+"
    rb"(?P<geometry>(?:(?:DIMENSIONS|ORIGIN|SPACING|ASPECT_RATIO)(?:[ \t]+[-+.\deE]+){3}\s+){1,4})"
    rb"POINT_DATA[ \t]+(?P<points>\d{1,12})\s+"
    rb"(?:SCALARS[ \t]+\S{1,256}[ \t]+(?P<type>\w{1,32})(?:[ \t]+(?P<channels>\d{1,9}))?[ \t]*\r?\n(?:LOOKUP_TABLE[ \t]+\S{1,256}[ \t]*\r?\n)?"
    rb"|COLOR_SCALARS[ \t]+\S{1,256}[ \t]+(?P<colours>\d{1,9})[ \t]*\r?\n)"  # what VTK itself writes for unsigned_char
)


#: What may follow an array: another one.
_VTK_MORE = re.compile(rb"(SCALARS|COLOR_SCALARS|VECTORS|NORMALS|TENSORS|TEXTURE_COORDINATES|FIELD|POINT_DATA|CELL_DATA)\s")


def _read_vtk(data: bytes) -> tuple[np.ndarray, str | None]:
    """The first array of a file, and what VTK calls the next one, if there is one."""
    header = _VTK_HEADER.match(data)
    dimensions = re.search(rb"DIMENSIONS[ \t]+(\d{1,9})[ \t]+(\d{1,9})[ \t]+(\d{1,9})\s", header["geometry"]) if header else None
    if not header or not dimensions:
        raise EncodeError("not a VTK file that can be read; doh reads legacy files, BINARY, of STRUCTURED_POINTS with one array of SCALARS")
    name = (header["type"] or b"unsigned_char").decode()
    sample_type = _VTK_TYPES.get(name)
    if sample_type is None:
        raise EncodeError(f"samples of type {name}; doh stores {', '.join(_VTK_TYPES)}: scale and convert them first")
    shape, channels = [int(n) for n in dimensions.groups()], int(header["channels"] or header["colours"] or 1)
    if not 1 <= channels <= _VTK_CHANNELS:
        raise EncodeError(f"{channels} values for each point; doh reads and writes VTK files of 1 to {_VTK_CHANNELS}: save some of them alone, or use .npy")
    dtype = np.dtype(DTYPE[sample_type])
    size = math.prod(shape) * channels
    if not size or int(header["points"]) * channels != size or len(data) - header.end() < size * dtype.itemsize:
        raise EncodeError(f"the file is damaged or cut short: {' x '.join(map(str, shape))} samples are named, {len(data) - header.end():,} bytes are there")
    values = np.frombuffer(data, dtype.newbyteorder(">"), size, header.end()).reshape(*shape[::-1], channels)
    return np.ascontiguousarray(values.transpose(2, 1, 0, 3), dtype), _after(data[header.end() + size * dtype.itemsize :])


def _after(rest: bytes) -> str | None:
    """VTK's word for what follows an array, leaving out METADATA on the array itself, which an empty line ends."""
    rest = rest.lstrip()
    if rest.startswith(b"METADATA"):
        end = re.search(rb"\n[ \t\r]*\n", rest)
        rest = rest[end.end() :].lstrip() if end else b""
    word = _VTK_MORE.match(rest)
    return word[1].decode() if word else None


class _Named(NamedTuple):
    """What a NIfTI header says of its samples."""

    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int
    scale: tuple[float, float]  # slope, intercept

    @property
    def end(self) -> int:
        return self.offset + math.prod(self.shape) * self.dtype.itemsize

    def check(self, size: int) -> None:
        """Raises EncodeError unless the samples lie in a file of `size` bytes."""
        if min(self.shape, default=0) < 1 or self.offset < _NIFTI_HEADER or self.end > size:
            named = f"{' x '.join(map(str, self.shape))} samples of {8 * self.dtype.itemsize} bits from byte {self.offset} on"
            raise EncodeError(f"the file is damaged or cut short: {named} are named, it has {size:,} bytes")


def _read_nifti(path: Path, data: bytes) -> np.ndarray:
    nibabel = _nibabel()
    held: bytes | bytearray = data
    try:
        if path.name.lower().endswith(".gz"):
            named, held = _unpacked(data, nibabel)
        else:
            named = _named(data, nibabel)
    except (EncodeError, MemoryError):
        raise
    except (EOFError, zlib.error, OSError) as error:
        raise EncodeError(f"not a NIfTI file, or damaged ({first_line(error)})") from error
    except Exception as error:  # nibabel raises several kinds for a damaged header
        raise EncodeError(f"not a NIfTI-1 file that can be read, or damaged ({first_line(error)})") from error
    named.check(len(held))
    if named.scale != (1, 0):
        slope, offset = named.scale
        raise EncodeError(f"its samples are to be scaled (by {slope:g}, then {offset:+g}), which doh does not store; save them unscaled")
    if len(named.shape) > 3 and named.shape[3:] != (1,) * (len(named.shape) - 3):
        raise EncodeError(f"{len(named.shape)} dimensions; doh reads NIfTI volumes of three")
    samples = np.frombuffer(held, named.dtype, math.prod(named.shape), named.offset).reshape(named.shape, order="F")
    return np.array(samples, named.dtype.newbyteorder("="), order="C").reshape(*(*samples.shape, 1, 1)[:3], 1)


def _named(start: bytes, nibabel: Any) -> _Named:
    """What the first bytes of a file say, by nibabel. Raises EncodeError for samples that doh does not store, and what nibabel raises."""
    if start[344:347] == b"ni1":  # nibabel would take it for a file with samples
        raise EncodeError("a NIfTI header without its samples (a pair of .hdr and .img); save both as one .nii file")
    with quietly(nibabel.imageglobals.logger):
        header = nibabel.Nifti1Header(start[: nibabel.Nifti1Header.sizeof_hdr])
        slope, intercept = header.get_slope_inter()
        shape, dtype, offset = tuple(int(n) for n in header.get_data_shape()), header.get_data_dtype(), header.get_data_offset()
    if dtype.newbyteorder("=") not in _TYPE_OF:
        raise EncodeError(f"samples of type {dtype}; doh stores uint8, uint16 and int16: scale and convert them first")
    return _Named(shape, dtype, int(offset), (1.0 if slope is None else slope, 0.0 if intercept is None else intercept))


def _unpacked(data: bytes, nibabel: Any) -> tuple[_Named, bytearray]:
    """What a .nii.gz file says and holds, unpacked no further than its samples go. Raises EncodeError, and the errors of gzip and nibabel."""
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        held = bytearray(stream.read(_NIFTI_HEADER))
        named = _named(bytes(held), nibabel)
        while block := stream.read(_BLOCK):  # block by block: a read of all would make room for what the header claims
            held += block
            if len(held) > MAX_BYTES:
                raise EncodeError(f"it unpacks to more than {MAX_BYTES:,} bytes; such files are refused")
            if len(held) > max(named.end, _NIFTI_HEADER) + _SLACK:
                raise EncodeError(f"it unpacks to more than the {named.end:,} bytes that its header names; such files are refused")
    return named, held


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise EncodeError("NIfTI files need nibabel, which is not installed: pip install 'doh[volume]'") from error
    return nibabel
