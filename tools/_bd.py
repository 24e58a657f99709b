"""Rate-distortion curves, and Bjøntegaard's deltas of two of them (VCEG-M33; here by PCHIP, as JCT-VC and JVET compute them).

The deltas come from the package bjontegaard (BSD-3). Curves that share no range, or that do not rise, get a plain answer here instead of its NaN or
an error of scipy.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from pathlib import Path

PUBLISHED = Path(__file__).with_name("kodak_rd.json")


@dataclass(frozen=True)
class Curve:
    """Points by increasing rate, at least two of them; both bpp and PSNR (dB) must rise from each to the next. Raises ValueError."""

    name: str
    bpp: tuple[float, ...]
    psnr: tuple[float, ...]
    kind: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if len(self.bpp) != len(self.psnr) or len(self.bpp) < 2:
            raise ValueError(f"{self.name}: a curve takes two points or more, not {len(self.bpp)} rates and {len(self.psnr)} PSNRs")
        if not all(isfinite(x) and x > 0 for x in (*self.bpp, *self.psnr)):
            raise ValueError(f"{self.name}: rates and PSNRs must be positive numbers")
        for values, what in ((self.bpp, "rate"), (self.psnr, "PSNR")):
            for low, high in pairwise(values):
                if high <= low:
                    raise ValueError(f"{self.name}: the {what} does not rise from {low:.4g} to the next point, {high:.4g}")


@dataclass(frozen=True)
class Delta:
    """What one curve saves over another: `rate` in percent (negative saves) over the PSNRs of both, `psnr` in dB over the rates of both.

    None where the curves share no such range; `shared_psnr` is that range in dB.
    """

    rate: float | None
    psnr: float | None
    shared_psnr: tuple[float, float] | None


def delta(anchor: Curve, test: Curve) -> Delta:
    """How `test` does against `anchor`. Raises ImportError without bjontegaard (the extra `bench`)."""
    import matplotlib

    matplotlib.use("Agg")  # bjontegaard imports pyplot
    import bjontegaard

    points = anchor.bpp, anchor.psnr, test.bpp, test.psnr
    options = {"method": "pchip", "require_matching_points": False, "min_overlap": 0}  # how much is shared is said beside each figure
    shared_psnr, shared_rate = shared(anchor.psnr, test.psnr), shared(anchor.bpp, test.bpp)
    rate = float(bjontegaard.bd_rate(*points, **options)) if shared_psnr else None
    return Delta(rate, float(bjontegaard.bd_psnr(*points, **options)) if shared_rate else None, shared_psnr)


def shared(a: tuple[float, ...], b: tuple[float, ...]) -> tuple[float, float] | None:
    """The range that two rising rows of numbers have in common, if any."""
    low, high = max(a[0], b[0]), min(a[-1], b[-1])
    return (low, high) if low < high else None


def published() -> list[Curve]:
    """The curves in kodak_rd.json: means over the 24 Kodak images."""
    return [Curve(c["name"], tuple(c["bpp"]), tuple(c["psnr"]), c["kind"], c["source"]) for c in json.loads(PUBLISHED.read_text())["curves"]]
