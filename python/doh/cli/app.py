"""The commands of `doh` and their options, as typer sees them. What they do stands in the modules that they call, imported when they are called."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from doh.cli.report import errors_in_one_line, fail, show

app = typer.Typer(
    name="doh",
    help="One signal as a few kilobytes: a seeded projection turns a short code into a sine network that draws it at any size.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _path_of(what: str) -> Callable[[str], Path]:
    """What reads the name of a file: an empty one, as of a variable that is not set, would be the current folder."""

    def path(text: str) -> Path:
        return Path(text or fail(f"the name of {what} is empty: give that of a file"))

    return path


DohFile = Annotated[Path, typer.Argument(parser=_path_of("IN"), metavar="IN.doh", help="A .doh file.", show_default=False)]
Decodable = Annotated[
    Path, typer.Argument(parser=_path_of("IN"), metavar="IN", help="A .doh file, or an .onnx file that doh export wrote.", show_default=False)
]
Threads = Annotated[int | None, typer.Option(min=1, max=1024, help="Threads to use. (default: all cores)", show_default=False)]
NoLimits = Annotated[
    bool, typer.Option("--no-limits", help="Decode files of any size and work: for those that you trust, as they may take hours and all memory.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


def _version(asked: bool) -> None:
    if asked:
        from doh import __version__

        with errors_in_one_line():
            show(f"doh {__version__}", sys.stdout)
        raise typer.Exit()


@app.callback()
def _all(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")] = False) -> None:
    pass


@app.command()
def encode(
    sources: Annotated[
        list[Path],
        typer.Argument(
            parser=_path_of("IN"), metavar="IN", help="Images (PNG, JPEG, WebP, TIFF, BMP), sounds, meshes, volumes, or .npy arrays.", show_default=False
        ),
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="OUT.doh|DIR/", help="The file to write; a folder for DIR/<name of IN>.doh.", show_default=False)
    ],
    latents: Annotated[int | None, typer.Option(min=1, help="Budget: so many latent numbers.", show_default=False)] = None,
    bpp: Annotated[float | None, typer.Option(help="Budget: at most so many bits per pixel in the file.", show_default=False)] = None,
    size: Annotated[int | None, typer.Option("--bytes", min=1, help="Budget: at most so many bytes.", show_default=False)] = None,
    preset: Annotated[
        str | None, typer.Option(help="fast, balanced or best; paper, coin, mlp8 and inric are others' methods. (default: balanced)", show_default=False)
    ] = None,
    config: Annotated[Path | None, typer.Option(parser=_path_of("--config"), metavar="FILE.toml", help="Settings from a file.", show_default=False)] = None,
    seconds: Annotated[
        float | None,
        typer.Option("--time", metavar="SECONDS", help="Be done in this time, for each IN, with as many steps as that allows.", show_default=False),
    ] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting; repeatable.", show_default=False)] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the projection and of the run.", show_default=False)] = None,
    grid: Annotated[int | None, typer.Option(min=2, max=1024, help="Meshes: cells along a side of their cube. (default: 512)", show_default=False)] = None,
    occupancy: Annotated[bool, typer.Option("--occupancy", help="The samples say which points are filled, as those of a mesh always do.")] = False,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda. (default: auto)", show_default=False)] = None,
    threads: Threads = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoints OUT.doh.ckpt of an interrupted run.")] = False,
) -> None:
    """Encode an image or another signal into a .doh file, or many into a folder, one on each core."""
    if sum(budget is not None for budget in (latents, bpp, size)) > 1:
        raise typer.BadParameter("give one of --latents, --bpp and --bytes")
    if bpp is not None and not bpp > 0:
        raise typer.BadParameter("--bpp takes a positive number")
    if seconds is not None and not seconds > 0:
        raise typer.BadParameter("--time takes a positive number of seconds")
    with errors_in_one_line():
        from doh.cli.encode import run
        from doh.train.interrupts import as_ctrl_c

        options = {"latents": latents, "bpp": bpp, "bytes": size, "seconds": seconds, "seed": seed, "device": device, "threads": threads}
        with as_ctrl_c():
            run(sources, output, preset, config, settings or [], resume, options, {"grid": grid, "occupancy": occupancy})


@app.command()
def decode(
    source: Decodable,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            parser=_path_of("OUT"),
            metavar="OUT",
            help="The file to write; the extension says how: .png, .wav, .ply, .npy ...",
            show_default=False,
        ),
    ],
    scale: Annotated[str | None, typer.Option(metavar="S", help="Zoom: a number or a fraction such as 3/2. (default: 1)", show_default=False)] = None,
    crop: Annotated[str | None, typer.Option(metavar="X,Y,W,H", help="Only this box, in pixels before the zoom.", show_default=False)] = None,
    grid: Annotated[
        int | None,
        typer.Option(min=2, max=4096, help="Occupancy, volumes: points along the longest side. (default: as stored; a mesh: at most 256)", show_default=False),
    ] = None,
    rate: Annotated[
        int | None,
        typer.Option(min=1, max=655350, metavar="HZ", help="Sound files: sampling rate, which a .doh file does not hold. (default: 44100)", show_default=False),
    ] = None,
    threads: Threads = None,
    no_limits: NoLimits = False,
    provider: Annotated[str, typer.Option(help="For an .onnx file: cpu or cuda.")] = "cpu",
) -> None:
    """Decode a .doh file, or an .onnx file made of one, or a part of it, at any size."""
    if provider not in ("cpu", "cuda"):
        raise typer.BadParameter("--provider takes cpu or cuda")
    if source.suffix.lower() != ".onnx" and provider != "cpu":
        raise typer.BadParameter("--provider is for .onnx files")
    with errors_in_one_line(source):
        if source.suffix.lower() == ".onnx":
            from doh.cli.onnx import decode as run_onnx

            run_onnx(source, output, scale, crop, threads, grid, rate, provider, no_limits)
        else:
            from doh.cli.decode import run

            run(source, output, scale, crop, threads, grid, rate, no_limits)


@app.command()
def export(
    source: DohFile,
    output: Annotated[Path, typer.Option("--output", "-o", parser=_path_of("OUT"), metavar="OUT.onnx", help="The file to write.", show_default=False)],
    kind: Annotated[str, typer.Option(help="exact, exact-baked, f32 or f16.")] = "exact",
    points: Annotated[bool, typer.Option("--points", help="Coordinates go in and samples come out, instead of a grid.")] = False,
    threads: Threads = None,
    no_limits: NoLimits = False,
) -> None:
    """Make an ONNX file of a .doh file: bit-exact, or a fast floating-point twin."""
    if kind not in ("exact", "exact-baked", "f32", "f16"):
        raise typer.BadParameter("--kind takes exact, exact-baked, f32 or f16")
    with errors_in_one_line(source):
        from doh.cli.onnx import export as run

        run(source, output, kind, points, threads, no_limits)


@app.command()
def info(source: DohFile, as_json: Json = False) -> None:
    """Show what a .doh file holds."""
    with errors_in_one_line(source):
        from doh.cli.look import show_info

        show_info(source, as_json)


@app.command()
def verify(source: DohFile, threads: Threads = None, no_limits: NoLimits = False) -> None:
    """Check that a .doh file is undamaged and decodes to exactly what its encoder saw."""
    with errors_in_one_line(source):
        from doh.cli.look import verify as run

        run(source, threads, no_limits)


@app.command(name="eval")
def evaluate(
    source: DohFile,
    reference: Annotated[Path, typer.Argument(parser=_path_of("REFERENCE"), metavar="REFERENCE", help="The original.", show_default=False)],
    grid: Annotated[int | None, typer.Option(min=2, max=1024, help="With a mesh: points a side. (default: as stored)", show_default=False)] = None,
    as_json: Json = False,
    threads: Threads = None,
    no_limits: NoLimits = False,
) -> None:
    """Compare a .doh file with the original: bytes, bits per point, PSNR; SSIM of images, IoU and Chamfer distance of occupancy, SNR of sounds."""
    with errors_in_one_line(source):
        from doh.cli.look import evaluate as run

        run(source, reference, as_json, threads, grid, no_limits)
