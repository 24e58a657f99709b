# Written by tools/update_stubs; do not edit.
"""
The integer core of doh: files, codes, generators and the decoder. doh.container and doh.codec are the interfaces for people.
"""

from collections.abc import Sequence
import mmap
from typing import Any

import numpy
import numpy.typing
from numpy.typing import NDArray


class DohError(ValueError):
    """A file that cannot be decoded, or a limit or argument that stands in the way."""
    name: str
    """The error's name (docs/format.md, section 12), such as "BAD_MAGIC"."""
    number: int
    """The error's number (cpp/include/doh.h)."""

def read_info(data: bytes | bytearray | memoryview | mmap.mmap | numpy.typing.NDArray[numpy.uint8], limits: dict[str, int] | None = None) -> dict[str, Any]:
    """
    What the header of a .doh file says, checked; judges the limits for the default grid. Raises DohError.
    """

def unpack(data: bytes | bytearray | memoryview | mmap.mmap | numpy.typing.NDArray[numpy.uint8], limits: dict[str, int] | None = None) -> dict[str, Any]:
    """
    read_info and all codes: scales [(m, r, q)], bias_scale (m, e), latent_codes int32 [n], bias_codes int32 [depth, width], output_bias_codes int32 [channels]. Of a mosaic they are in networks, a list, row-major over the parts, of dictionaries with these and width, depth, latents, weights, flags, latent_shift, bias_shift. Raises DohError.
    """

def pack(fields: dict[str, Any]) -> bytes:
    """
    The file of such a dictionary (entries that follow from others may be absent); with networks, a mosaic's. latent_shift and bias_shift are picked for the smallest file where absent or None. Raises DohError for a field out of range, KeyError, TypeError or ValueError for one that is absent or no such thing.
    """

def set_samples_crc(data: bytes | bytearray | memoryview | mmap.mmap | numpy.typing.NDArray[numpy.uint8], crc: int) -> bytes:
    """
    The same file with another checksum of its samples, and its own checksum made new. Raises DohError.
    """

def crc32c(data: bytes | bytearray | memoryview | mmap.mmap | numpy.typing.NDArray[numpy.uint8]) -> int:
    """CRC-32C of bytes."""

def decode(data: bytes | bytearray | memoryview | mmap.mmap | numpy.typing.NDArray[numpy.uint8], out: numpy.typing.NDArray[Any], limits: dict[str, int] | None = None, grid: Sequence[int] | None = None, offset: Sequence[int] | None = None, extent: Sequence[int] | None = None, threads: int = 1, kernel: str | None = None) -> None:
    """
    Fills `out` (C-contiguous, box and channels, uint8, uint16 or int16 as the file's samples) with the decoded samples: the default grid, whose checksum is compared, or the box offset, extent of a grid (tuples, one number for each dimension). Releases the GIL; in the main thread a signal handler that raises ends it. Raises DohError.
    """

def check_region(data: bytes | bytearray | memoryview | mmap.mmap | numpy.typing.NDArray[numpy.uint8], limits: dict[str, int] | None = None, grid: Sequence[int] | None = None, offset: Sequence[int] | None = None, extent: Sequence[int] | None = None) -> None:
    """
    Checks a file's header, a box (absent: the default grid) and the limits for it, as decode does before it decodes. Raises DohError.
    """

def kernels() -> list[str]:
    """The names of the kernels that run on this machine, best first."""

def version() -> str:
    """The version of the core."""

def philox(seed: int, stream: int, layer: int, row: int, block: int, count: int) -> NDArray[numpy.uint32]:
    """
    Philox4x32-10 words, uint32 [count, 4], of the counters (block + i, row, layer, stream).
    """

def tied_map(seed: int, latents: int, weights: int) -> tuple[numpy.typing.NDArray[numpy.int32], numpy.typing.NDArray[numpy.int8]]:
    """
    The tied generator: (index int32 [weights], sign int8 [weights]); W_int = sign * codes[index].
    """

def dense_bytes(seed: int, layer: int, row: int, rows: int, latents: int) -> NDArray[numpy.uint8]:
    """
    Rows row .. row + rows - 1 of a layer's dense matrix as bytes u, uint8 [rows, latents]; an entry is 2u - 255.
    """

def weight_sums(data: bytes | bytearray | memoryview | mmap.mmap | numpy.typing.NDArray[numpy.uint8], limits: dict[str, int] | None = None) -> list[numpy.typing.NDArray[numpy.int64]]:
    """
    W_int of a file of one network: for each layer int64 [fan_out, fan_in]. Releases the GIL. Raises DohError (BAD_VERSION: a mosaic).
    """

def integer_weights(data: bytes | bytearray | memoryview | mmap.mmap | numpy.typing.NDArray[numpy.uint8], limits: dict[str, int] | None = None) -> list[numpy.typing.NDArray[numpy.int16]]:
    """
    The 16-bit weights of a file of one network: for each layer int16 [fan_out, fan_in]. Releases the GIL. Raises DohError (BAD_VERSION: a mosaic).
    """

def sine() -> NDArray[numpy.int16]:
    """sin16 of the phases -32768 .. 32767, int16 [65536]."""
