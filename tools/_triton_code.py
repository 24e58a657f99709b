"""What Triton makes of doh's kernels for NVIDIA's H100, without a GPU: needs triton alone.

`python tools/_triton_code.py` prints the table of docs/training-speed.md.
Counts are of instructions in the machine code's innermost loop, for one thread of each; they say how much there is to do, not how long it takes.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from doh.model import Target
from doh.train import triton_dense, triton_step

H100 = GPUTarget("cuda", 90, 32)
ENTRIES = 16 * triton_dense.ROWS  # of the matrix, for a thread in one turn of the loop of _product; 16 in that of _transposed
INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,5})\*/\s+((?:@!?U?P\w+ )?([A-Z0-9]+).*?);")


class Code(NamedTuple):
    ptx: str
    machine: list[tuple[int, str, str]]  # (address, instruction, its name)
    shared: int  # bytes of a multiprocessor's shared memory for one program

    def names(self) -> Counter[str]:
        return Counter(name for _, _, name in self.machine)

    def loop(self) -> Counter[str]:
        """Instructions of the longest loop without another one inside."""
        jumps = [(int(found[1], 16), at) for at, text, _ in self.machine if (found := re.search(r"BRA.*?0x([0-9a-f]+)", text))]
        loops = [(begin, end) for begin, end in jumps if begin < end]
        inner = [a for a in loops if not any(a != b and a[0] <= b[0] and b[1] <= a[1] for b in loops)]
        begin, end = max(inner, key=lambda pair: pair[1] - pair[0])
        return Counter(name for at, _, name in self.machine if begin <= at <= end)


def compiled(kernel: Any, arguments: dict[str, str], settings: dict[str, Any], warps: int) -> Code:
    aligned = {(i,): [["tt.divisibility", 16]] for i, kind in enumerate(arguments.values()) if kind.startswith("*")}
    source = ASTSource(fn=kernel, signature={**arguments, **dict.fromkeys(settings, "constexpr")}, constexprs=settings, attrs=aligned)
    made = triton.compile(source, target=H100, options={"num_warps": warps, "enable_fp_fusion": True})
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        program = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
        text = subprocess.run([program, "-sass", file.name], capture_output=True, text=True, check=True).stdout
    return Code(made.asm["ptx"], [(int(m[1], 16), m[2], m[3]) for m in INSTRUCTION.finditer(text)], made.metadata.shared)


def types(text: str) -> dict[str, str]:
    return {name: kind for word in text.split() for name, kind in [word.split(":")]}


def step(target: Target, precision: str = "ieee") -> Code:
    arrays = "points:*i64 tables:*fp32 grids:*i64 samples:*u8 starts:*i64 ranges:*fp32 weights:*fp32 biases:*fp32 output_bias:*fp32 scratch:*fp32"
    arguments = types(arrays + " sums:*fp32 importance:*fp32 batch:i32 depth:i32 factor:fp32")
    return compiled(triton_step._grid_step, arguments, triton_step.settings(target, precision), triton_step.warps(target))


def product(signals: int) -> Code:
    arguments = types("keys:*i32 rows:*i32 layers:*i32 latents:*fp32 out:*fp32 count:i32 blocks:i32 signals:i32")
    return compiled(triton_dense._product, arguments, {"GROUP": signals, "ROWS": triton_dense.ROWS, "CALLS": triton_dense.CALLS}, 1)


def transposed(signals: int) -> Code:
    arguments = types("keys:*i32 rows:*i32 layers:*i32 grad:*fp32 sums:*fp32 count:i32 per_part:i32 blocks:i32 signals:i32")
    return compiled(triton_dense._transposed, arguments, {"GROUP": signals, "CALLS": triton_dense.CALLS}, 1)


def main() -> None:
    for name, make, entries in (("B z", product, ENTRIES), ("transpose of B, times g", transposed, 16)):
        one, eight = (make(signals).loop() for signals in (1, 8))
        for signals, loop in ((1, one), (8, eight)):
            each = loop.total() / entries
            shares = f"{loop['FFMA'] / entries:.1f} of them multiply-adds, {each / signals:.1f} a signal"
            print(f"{name}, {signals} signals: {each:.1f} instructions for an entry, {shares}")
    for width in (16, 40, 64, 128, 256):
        target = Target(dims=2, channels=3, width=width, depth=9, frequencies=10)
        code = step(target)
        print(f"step, {width} units: {code.shared} bytes of shared memory, {code.names().total()} instructions")


if __name__ == "__main__":
    main()
