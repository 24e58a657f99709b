"""`doh info`, `doh verify`, `doh eval`: everything that only looks at a file."""

from __future__ import annotations

import json
from dataclasses import asdict
from math import isinf
from pathlib import Path

from doh import container, metrics
from doh.cli.decode import all_cores
from doh.cli.report import fail, say
from doh.files import read_bytes
from doh.model import TOP
from doh.signals import read_signal


def show_info(source: Path, as_json: bool) -> None:
    """The header, as lines for people or as one JSON object."""
    info = container.read_info(read_bytes(source))
    if as_json:
        print(json.dumps({**asdict(info), "bpp": info.bpp}, indent=2))
        return
    size = " x ".join(str(n) for n in (info.shape[::-1] if len(info.shape) == 2 else info.shape))
    checksums = info.bytes - info.header_bytes - info.payload_bytes
    encoding = f"{info.frequencies} frequencies ({info.ladder})" if info.frequencies else "no positional encoding"
    rows = [
        ("signal", f"{info.signal}, {size}, {info.channels} channel{'s' if info.channels > 1 else ''}, {info.sample_type}"),
        ("file", f"{info.bytes:,} bytes, {info.bpp:.4f} bits per point"),
        ("bytes", f"header {info.header_bytes}, codes {info.payload_bytes:,}, checksums {checksums}"),
        ("network", f"{info.depth} sine layers of {info.width}, {encoding}, {info.weights:,} weights"),
        ("generator", f"{info.generator}, {info.latents:,} latents, seed {info.seed}"),
        ("decoding", f"{info.work:,} multiply-adds, {info.samples_bytes:,} bytes of samples"),
        ("checksums", f"file {info.file_crc:08x}, samples {info.samples_crc:08x} (CRC-32C)"),
    ]
    print(f"{source}: .doh, version {info.version}")
    for name, text in rows:
        print(f"  {name:<10} {text}")


def verify(source: Path, threads: int | None) -> None:
    """Both checksums: of the bytes, and of the samples that this machine decodes."""
    info = container.verify(read_bytes(source), threads=threads or all_cores())
    print(f"{source}: good: the {info.bytes:,} bytes match their checksum {info.file_crc:08x}, the decoded samples theirs {info.samples_crc:08x}")


def evaluate(source: Path, reference: Path, as_json: bool, threads: int | None) -> None:
    """Bytes, bits per point, PSNR and SSIM of the decoded file against the original.

    In JSON, psnr is null for identical samples, ssim for what is no image, for a very small one, and (with a remark) where scikit-image is missing.
    """
    data = read_bytes(source)
    info = container.read_info(data)
    signal, notes = read_signal(reference)
    for note in notes:
        say(note)
    mine, other = (f"{kind.channels} channels of {kind.sample_type} on a grid of {kind.shape}" for kind in (info, signal))
    if mine != other:
        fail(f"{source} holds {mine}, {reference} has {other}: they cannot be compared")
    samples = container.decode(data, threads=threads or all_cores())
    top = TOP[info.sample_type]
    psnr = metrics.psnr(samples, signal.samples, top)
    result = {
        "bytes": info.bytes,
        "bpp": info.bpp,
        "psnr": None if isinf(psnr) else psnr,
        "ssim": None,
        "identical": isinf(psnr),
        "points": info.points,
        "channels": info.channels,
    }
    if info.signal == "image":
        try:
            result["ssim"] = metrics.ssim(samples, signal.samples, top)
        except ValueError as error:
            say(f"no SSIM: {error}")
        except ImportError:
            say("no SSIM: it needs scikit-image; install it with: pip install 'doh[bench]'")
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        decibels = "identical" if result["identical"] else f"{psnr:.2f} dB"
        ssim = "" if result["ssim"] is None else f", SSIM {result['ssim']:.4f}"
        print(f"{source}: {info.bytes:,} bytes, {info.bpp:.4f} bpp, {decibels}{ssim}")
