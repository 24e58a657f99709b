"""The mosaics (format version 2) among the vectors of tools/make_vectors: models, regions, files field by field, and files with one thing wrong.

The bytes are put together here from version 1 files of the parts, so that they do not come from the C++ writer of mosaics: the tests compare that with these.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from math import prod

import numpy as np

from doh import container, reference
from doh.model import Mosaic, QuantModel, Scale

Make = Callable[..., QuantModel]
Box = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def valid_mosaics(make: Make, on_trellis: Callable[[QuantModel], QuantModel]) -> dict[str, Mosaic]:
    """All numbers of dimensions, samples and generators; parts that divide the shape and that do not; networks of all sizes beside each other."""
    mosaics, numbers = {}, count(1001)

    def add(name: str, shape, parts, *of_parts, seed: int = 77, **common) -> None:
        """Part i has the settings of_parts[i], counted round."""
        own = of_parts or ({},)
        models = tuple(make(next(numbers), shape, seed=seed, **{**common, **own[i % len(own)]}) for i in range(prod(parts)))
        mosaics[f"mosaic-{name}"] = Mosaic(tuple(parts), models)

    sound = {"signal": "audio", "sample_type": "s16", "frequencies": 8}
    small, large = {"width": 5, "depth": 1, "n": 30}, {"width": 17, "depth": 4, "n": 310}
    add("2x2", (16, 18), (2, 2))
    add("2x3-of-19x23", (19, 23), (2, 3), n=90)
    add("1x2-grey", (9, 10), (1, 2), channels=1, n=25, width=6, depth=2)
    add("7x1", (24, 5), (7, 1), {}, small, n=60)
    add("different-networks", (21, 17), (3, 1), small, large, {"width": 1, "depth": 64, "n": 1, "sigma": 5.0})
    add("different-scales", (14, 15), (2, 2), {"per_layer": True, "q": (12, 15, 11)}, {"depth": 1, "q": (17, 17, 14)}, {"depth": 5, "per_layer": True}, small)
    add("equal-networks", (12, 12), (2, 1), small)
    mosaics["mosaic-equal-networks"] = replace(mosaics["mosaic-equal-networks"], models=mosaics["mosaic-equal-networks"].models[:1] * 2)
    add("part-for-each-point", (3, 4), (3, 4), n=9, width=3, depth=1, frequencies=2)
    add("1x300", (2, 300), (1, 300), channels=1, n=1, width=1, depth=1, frequencies=0, q=(10, 17, 14))  # more parts than one byte of a varint counts
    add("6-of-9", (9,), (6,), signal="array", channels=1, n=12, width=4, depth=1, frequencies=3)  # centres on borders that 2^32 / 6 rounds away from
    add("audio-2", (101,), (2,), **sound, channels=1)
    add("audio-stereo-7-of-97", (97,), (7,), large, small, **sound, channels=2)
    add("audio-long-coordinates", (65_537,), (3,), **{**sound, "frequencies": 0}, channels=1, width=3, depth=1, n=9, q=(3, 17, 14))
    add("u16", (11, 13), (3, 2), sample_type="u16", n=120)
    add("u16-rgba-powers-of-1.4", (8, 7), (1, 2), sample_type="u16", channels=4, ladder="1.4", frequencies=16, seed=2**64 - 1)
    add("32-channels", (5, 6), (2, 2), channels=32, n=40)
    add("occupancy-2x1x2", (7, 6, 9), (2, 1, 2), signal="occupancy", sample_type="u1", channels=1, frequencies=3, n=50)
    add("volume-3x2x2-u16", (7, 8, 9), (3, 2, 2), small, {}, signal="volume", sample_type="u16", channels=1, frequencies=3, n=50)
    add("video-2x1x2", (5, 9, 8), (2, 1, 2), signal="video", frequencies=3)
    add("array-4d", (3, 4, 3, 5), (2, 1, 3, 2), signal="array", channels=2, frequencies=2, n=20, width=4, depth=2)
    add("dense", (13, 11), (2, 2), {"n": 50}, {"n": 16}, {"n": 1, "width": 3}, {"n": 17, "depth": 1}, generator="dense")
    add("dense-no-encoding-u16", (10, 9), (1, 3), generator="dense", n=33, frequencies=0, q=(12, 17, 14), sample_type="u16", seed=0x0123456789ABCDEF)
    add("no-encoding", (15, 17), (2, 3), frequencies=0, q=(12, 17, 14), n=40)
    add("empty-payload", (9, 12), (1, 3), n=60, width=12, depth=5)
    first, _, last = mosaics["mosaic-empty-payload"].models
    mosaics["mosaic-empty-payload"] = Mosaic((1, 3), (first, coded_as_nothing(first), last))
    add("all-payloads-empty", (4, 6), (2, 1), n=60, width=12, depth=5)
    mosaics["mosaic-all-payloads-empty"] = Mosaic((2, 1), tuple(map(coded_as_nothing, mosaics["mosaic-all-payloads-empty"].models)))
    rng, ends = np.random.default_rng(98), np.array([-32768, 32767, 0, -1, 1], np.int32)
    add("extreme", (9, 9), (2, 2))
    extreme = [
        replace(m, latent_codes=ends[rng.integers(0, 5, 200)], bias_codes=ends[rng.integers(0, 5, (3, 12))], output_bias_codes=ends[[0, 1, i % 3]])
        for i, m in enumerate(mosaics["mosaic-extreme"].models)
    ]
    extreme[1] = replace(extreme[1], scales=(Scale(2047, 0, 17), Scale(2047, 0, 17), Scale(2047, 0, 14)))
    extreme[2] = replace(extreme[2], scales=(Scale(2047, 8, 0), Scale(0, 8, 0), Scale(1, 8, 0)))
    mosaics["mosaic-extreme"] = Mosaic((2, 2), tuple(extreme))
    add("two-pixels", (1, 2), (1, 2), channels=1, n=1, width=1, depth=1, frequencies=0, q=(10, 17, 14), seed=2)
    pixel = make(2, (1, 2), channels=1, n=1, width=1, depth=1, frequencies=0, q=(10, 17, 14))  # the network of image-1x1-grey-n1
    mosaics["mosaic-two-pixels"] = Mosaic((1, 2), (pixel, mosaics["mosaic-two-pixels"].models[1]))
    first, *others = mosaics["mosaic-different-networks"].models
    mosaics["mosaic-trellis-in-one"] = Mosaic((3, 1), (first, *map(on_trellis, others[:1]), *others[1:]))
    return mosaics


def coded_as_nothing(model: QuantModel) -> QuantModel:
    """The model whose payload is empty: the codes that a range decoder reads from zeros alone. (Many codes, so that the writer picks shift 0 for them.)

    The output layer has 8 times the weights, so that not all samples are at the top, where these output biases alone are.
    """
    output = model.scales[-1]
    return replace(
        model,
        scales=(*model.scales[:-1], replace(output, r=output.r - 3)),
        latent_codes=np.full_like(model.latent_codes, -25),
        bias_codes=np.full_like(model.bias_codes, -25),
        output_bias_codes=np.full_like(model.output_bias_codes, 24 << 8),
    )


def mosaic_regions(mosaic: Mosaic) -> list[Box]:
    """Boxes of all kinds of grid: the points beside each first border, one point, fewer points than parts, the finest grid at a border and at its end."""
    shape, parts = mosaic.shape, mosaic.parts
    double, huge, coarse = tuple(2 * n for n in shape), (2**31 - 1,) * len(shape), tuple(max(1, k - 1) for k in parts)
    odd = tuple(min(3 * n // 2 + 1, 40) for n in shape)

    def around(grid, size: int) -> Box:
        """`size` points (no more than the grid has) around the first border along each dimension that has one."""
        offset = tuple(max(0, min(n // k - size // 2, n - size)) for n, k in zip(grid, parts))
        return grid, offset, tuple(min(size, n) for n in grid)

    boxes = [
        around(shape, 4),
        around(double, 5),
        (odd, tuple(n // 3 for n in odd), tuple(n - n // 3 for n in odd)),
        (coarse, tuple(0 for _ in coarse), coarse),
        ((1,) * len(shape), (0,) * len(shape), (1,) * len(shape)),
        around(huge, 4),
        (huge, tuple(n - 2 for n in huge), (2,) * len(huge)),
        (shape, tuple(n - 1 for n in shape), (1,) * len(shape)),
    ]
    return list(dict.fromkeys(boxes))


# Files field by field: "signal", "dims", "shape0" .., "parts0" .., "encoding", "generator", "seed", then for record i "length.i", "width.i", "depth.i",
# "latents.i", "flags.i", "scale0.i" .., "bias_scale.i", "shifts.i", "payload.i", last "samples_crc".


def fields_of(mosaic: Mosaic) -> dict[str, bytes]:
    head: dict[str, bytes] = {}
    records: dict[str, bytes] = {}
    for i, model in enumerate(mosaic.models):
        data = container.pack_unsealed(model)
        r = reference.Reader(data[:-8], at=5)

        def take(into: dict[str, bytes], name: str, read, r=r) -> None:
            at = r.at
            read()
            into[name] = r.data[at : r.at]

        def byte(r=r) -> int:
            return r.uint(1)

        own: dict[str, bytes] = {}
        head = {"magic": data[:4], "version": b"\2"}
        for name, read in (("signal", byte), ("dims", byte), *((f"shape{t}", r.varint) for t in range(len(mosaic.parts)))):
            take(head, name, read)
        head |= {f"parts{t}": varint(k) for t, k in enumerate(mosaic.parts)}
        take(own, f"width.{i}", r.varint)
        take(own, f"depth.{i}", byte)
        for name, read in (("encoding", byte), ("generator", byte), ("seed", r.varint)):
            take(head, name, read)
        take(own, f"latents.{i}", r.varint)
        take(own, f"flags.{i}", byte)
        for s in range(len(model.scales)):
            take(own, f"scale{s}.{i}", lambda r=r: r.uint(3))
        take(own, f"bias_scale.{i}", lambda r=r: r.uint(2))
        take(own, f"shifts.{i}", byte)
        own[f"payload.{i}"] = data[r.at : -8]
        records |= {f"length.{i}": b"", **own}
    return {**head, **records, "samples_crc": struct.pack("<I", mosaic.samples_crc)}


def join(fields: dict[str, bytes], changes: dict[str, bytes] | None = None) -> bytes:
    """The file; lengths are those of the records unless `changes` states them."""
    changes = changes or {}
    fields = {**fields, **changes}
    for name in fields:
        if name.startswith("length.") and name not in changes:
            end = name[len("length") :]
            fields[name] = varint(sum(len(value) for other, value in fields.items() if other.endswith(end) and other != name))
    body = b"".join(fields.values())
    return body + struct.pack("<I", reference.crc32c(body))


def mosaic_file(mosaic: Mosaic) -> bytes:
    return join(fields_of(mosaic))


def invalid_mosaics(mosaics: dict[str, Mosaic], scale: Callable[..., bytes]) -> dict[str, tuple[bytes, str]]:
    """Every check of section 2.1, on a grey mosaic of 1 x 2 parts and on dense ones; `scale` gives the bytes of a scale."""
    f, dense = fields_of(mosaics["mosaic-1x2-grey"]), fields_of(mosaics["mosaic-dense"])
    names = list(f)
    files: dict[str, tuple[bytes, str]] = {}

    def add(name: str, error: str, fields: dict[str, bytes] | None = None, **changes: bytes) -> None:
        """A double underscore stands for the dot in a field's name."""
        files[f"mosaic-{name}"] = (join(fields or f, {key.replace("__", "."): value for key, value in changes.items()}), error)

    def up_to(name: str) -> dict[str, bytes]:
        return {key: f[key] for key in names[: names.index(name)]} | {"samples_crc": f["samples_crc"]}

    sides = {"shape0": varint(1 << 10), "shape1": varint(1 << 10)}
    add("parts-0", "BAD_SHAPE", parts0=b"\0")
    add("parts-0-last", "BAD_SHAPE", parts1=b"\0")
    add("parts-beyond-shape", "BAD_SHAPE", parts0=varint(10))
    add("parts-of-one", "BAD_SHAPE", parts1=b"\1")
    add("parts-beyond-2-to-16", "BAD_SHAPE", **sides, parts0=varint(256), parts1=varint(257))
    add("parts-2-to-16-without-records", "TRUNCATED", up_to("length.0"), **sides, parts0=varint(256), parts1=varint(256), seed=varint(2**64 - 1))
    add("parts-2-to-31", "BAD_SHAPE", shape0=varint(2**31 - 1), shape1=b"\1", parts0=varint(2**31 - 1), parts1=b"\1")
    add("parts-overlong", "BAD_VARINT", parts1=b"\x82\0")
    add("more-parts-than-records", "TRUNCATED", parts0=b"\2")
    add("fewer-parts-than-records", "BAD_CODES", fields_of(mosaics["mosaic-7x1"]), parts0=b"\2")
    add("no-dimensions", "BAD_SIGNAL", dims=b"\0")
    add("height-0", "BAD_SHAPE", shape0=b"\0")
    add("encoding-reserved-bit", "BAD_NETWORK", encoding=b"\x44")
    add("generator-2", "BAD_GENERATOR", generator=b"\2")
    add("seed-overlong", "BAD_VARINT", seed=b"\x85\0")
    add("cut-after-seed", "TRUNCATED", up_to("length.0"), seed=b"\xff" * 9 + b"\1", shape0=varint(300), shape1=varint(300))
    add("cut-after-first-record", "TRUNCATED", up_to("length.1"))
    add("cut-after-second-length", "TRUNCATED", up_to("length.1"), payload__0=f["payload.0"], length__1=varint(50))
    second = sum(len(value) for name, value in f.items() if name.endswith(".1"))
    add("length-by-one-too-long", "TRUNCATED", length__1=varint(second + 1))
    add("length-by-one-too-long-and-bad-width", "TRUNCATED", length__1=varint(second + 1), width__1=b"\0")
    add("length-2-to-64", "TRUNCATED", length__0=varint(2**64 - 1))
    add("length-2-to-64-last", "TRUNCATED", length__1=varint(2**64 - 1))
    add("length-2-to-32", "TRUNCATED", length__1=varint(2**32 + second))
    add("length-overlong", "BAD_VARINT", length__1=varint(second)[:-1] + bytes([varint(second)[-1] | 128, 0]))
    add("length-0", "TRUNCATED", length__1=b"\0")
    add("record-ends-in-latents", "TRUNCATED", length__0=b"\3", latents__0=b"\x99\1")
    add("record-ends-in-a-scale", "TRUNCATED", length__0=b"\6")
    add("record-ends-before-shifts", "TRUNCATED", length__1=varint(second - len(f["payload.1"]) - 1))
    add("length-by-one-too-short", "BAD_CODES", length__1=varint(second - 1))
    add("bytes-after-last-record", "BAD_CODES", samples_crc=b"\7" + f["samples_crc"])
    add("record-after-last-record", "BAD_CODES", samples_crc=b"\1\1" + f["samples_crc"])
    add("bytes-after-records-beyond-limits", "BAD_CODES", latents__0=varint(1 << 21), latents__1=varint(1 << 20), samples_crc=b"\7" + f["samples_crc"])
    add("second-width-0", "BAD_NETWORK", width__1=b"\0")
    add("second-width-1025", "BAD_NETWORK", width__1=varint(1025))
    add("second-depth-65", "BAD_NETWORK", depth__1=b"\x41")
    add("second-weights-beyond-2-to-24", "BAD_NETWORK", width__1=varint(1024), depth__1=b"\x40")
    add("sum-of-weights-beyond-2-to-24", "BAD_NETWORK", width__0=varint(1024), depth__0=b"\x0a", width__1=varint(1024), depth__1=b"\x08", latents__1=b"\0")
    add("sum-of-weights-2-to-20", "LIMIT_WEIGHTS", width__0=varint(800), width__1=varint(700))
    add("second-latents-0", "BAD_GENERATOR", latents__1=b"\0")
    add("second-latents-beyond-2-to-22", "BAD_GENERATOR", latents__1=varint((1 << 22) + 1))
    add("sum-of-latents-beyond-2-to-22", "BAD_GENERATOR", latents__0=varint(1 << 21), latents__1=varint((1 << 21) + 1), flags__1=b"\2")
    add("sum-of-latents-2-to-22", "LIMIT_LATENTS", latents__0=varint(1 << 21), latents__1=varint(1 << 21))
    add("sum-of-latents-beyond-limit", "LIMIT_LATENTS", latents__0=varint(1 << 19), latents__1=varint((1 << 19) + 1))
    add("second-dense-beyond-2-to-40", "BAD_GENERATOR", dense, latents__1=varint(1 << 20), width__1=varint(1024), depth__1=b"\x02")
    add("sum-of-work-beyond-limit", "LIMIT_WORK", shape0=varint(1 << 14), shape1=varint(1 << 14), width__0=varint(120), depth__0=b"\4",
        width__1=varint(121), depth__1=b"\4")  # fmt: skip
    add("second-flags-reserved-bit", "BAD_SCALE", flags__1=b"\2")
    add("second-scale-shift-48", "BAD_SCALE", scale0__1=scale(r=48))
    add("second-output-precision-15", "BAD_SCALE", scale2__1=scale(q=15))
    add("second-bias-exponent-21", "BAD_SCALE", bias_scale__1=struct.pack("<H", 21 << 11))
    for number, name in enumerate(("first", "second")):
        payload = f[f"payload.{number}"]
        add(f"{name}-payload-ends-in-zero", "BAD_CODES", **{f"payload.{number}": payload + b"\0"})
        add(f"{name}-payload-with-unread-bytes", "BAD_CODES", **{f"payload.{number}": payload + b"\1\2\3\4\5\6\7\x08"})
        add(f"{name}-payload-all-ones", "BAD_CODES", **{f"payload.{number}": b"\xff" * 400})
        add(f"{name}-payload-missing", "BAD_SAMPLES", **{f"payload.{number}": b""})
    add("bad-codes-in-both", "BAD_CODES", payload__0=b"\xff" * 400, payload__1=b"\xff" * 400)
    other = {f"{name[:-1]}{1 - int(name[-1])}": value for name, value in f.items() if name[-2:] in (".0", ".1")}
    add("records-in-wrong-order", "BAD_SAMPLES", {**f, **other})
    add("wrong-samples-crc", "BAD_SAMPLES", samples_crc=b"\1\2\3\4")
    whole = join(f)
    files["mosaic-flipped-bit"] = (whole[:40] + bytes([whole[40] ^ 16]) + whole[41:], "BAD_CHECKSUM")
    files["mosaic-truncated-by-one"] = (whole[:-1], "BAD_CHECKSUM")
    return files
