#!/usr/bin/env python3
"""Plants faults in the kernel headers, one at a time, and checks that the gate notices each.

    faults.py PROGRAM           PROGRAM as for gate.py
    faults.py PROGRAM NAME...   these faults

A fault is an edit of a copy of the headers, and words that the gate has to say about it. A text
that is not found, a fault that does not compile, and one that the gate does not notice are errors:
exit status 1. Only the bodies FEW are checked. Without a fault, the gate must have no complaint
about them.
"""

import argparse
import collections
import pathlib
import re
import sys
import tempfile

sys.dont_write_bytecode = True

from gate import TABLE, check, read_table, write_bodies
from measure import measured, read_bodies
from simulator import Failure

# The bodies that the faults are planted in, and their architecture.
FEW = ("1x7, whole steps of a tap: 64x64", "pointwise, 16-byte copies: 128x64")
ARCH = "sm_90"

# What it is called, [(header, text, replacement)], what the gate has to say.
Fault = collections.namedtuple("Fault", "name edits says")

ASYNC, LOOP, MACROS, TILE = "async_copy.cuh", "gather_gemm.cuh", "hiosc.cuh", "tile.cuh"

# Pieces of the headers.
WAIT = 'asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");'
WAIT_AND_BARRIER = "        wait_copies<STAGES - 2>();\n        __syncthreads();\n"
PACKED_COPY = "copy_async<16>(&tile[row + i * ROWS][line], from + i * (ROWS * PADDED));"
TAP_COPY = "copy_async<4>(&tile[row + i * ROWS][column], from + i * (ROWS * Traits::PLANE), inside);"
BOUNDS = "__launch_bounds__(threads, blocks) "
READ_AHEAD = "fragments[(k + AHEAD) % SETS].read(a_tiles[from], b_tiles[from], thread);"
MULTIPLY = "fragments[k % SETS].multiply(sum);"
READ_LEFT = "load(left, &a[Tile::row(thread)]);"
BEFORE_LOOP = "  int reading = 0, writing = STAGES - 1;\n"
STEPS = "HIOSC_UNROLL_BY(1)\n  for (int step = 0;"
TERMS = "HIOSC_UNROLL\n    for (int k = 0; k < BK; ++k) {\n      if (k == BK - AHEAD)"

# Worse ones.
SCALAR_COPIES = "for (int e = 0; e < 4; ++e) copy_async<4>(&tile[row + i * ROWS][line + e], from + i * (ROWS * PADDED) + e);"
PLAIN_COPY = "*(float4 *)&tile[row + i * ROWS][line] = *(const float4 *)(from + i * (ROWS * PADDED));"
READ_NOW = "fragments[0].read(a_tiles[reading * BK + k], b_tiles[reading * BK + k], thread);"
MULTIPLY_NOW = f"{READ_NOW} __syncwarp(); fragments[0].multiply(sum); __syncwarp();"
READ_SCALARS = "for (int i = 0; i < Tile::TM; ++i) left[i] = *(const volatile float *)&a[Tile::row(thread) + i];"
EXTRA_SHARED = "  volatile __shared__ int extra[32];\n  extra[thread % 32] = steps;\n"

FAULTS = [
    Fault("a wait is missing", [(ASYNC, WAIT, "")], "never waited for"),
    Fault("the wait is for all copies", [(ASYNC, WAIT, WAIT.replace("(PENDING)", "(0)"))], "iterations under way"),
    Fault("the loop has no barrier", [(LOOP, WAIT_AND_BARRIER, WAIT_AND_BARRIER.replace("__syncthreads();", ""))], "no barrier"),
    Fault("one stage fewer", [(LOOP, "STAGES = stages }", "STAGES = stages - 1 }")], "iterations under way"),
    Fault("scalar copies of weights", [(LOOP, PACKED_COPY, SCALAR_COPIES)], "global loads"),
    Fault("plain loads of weights", [(LOOP, PACKED_COPY, PLAIN_COPY)], "plain loads"),
    Fault("no launch bounds", [(MACROS, BOUNDS, "")], "launch bounds"),
    Fault("too few registers", [(MACROS, BOUNDS, BOUNDS.replace("blocks)", "1024 / threads)"))], "bytes of stack"),
    Fault("operands are read when they are needed", [(LOOP, READ_AHEAD, ""), (LOOP, MULTIPLY, MULTIPLY_NOW)], "waits for shared loads"),
    Fault("a division per copy", [(LOOP, TAP_COPY, TAP_COPY.replace("from +", "from + channel / int(gridDim.z + i) +"))], "cycles a step"),
    Fault("registers with a dynamic index", [(LOOP, MULTIPLY, MULTIPLY.replace("k %", "(k + gridDim.z) %"))], "bytes of stack"),
    Fault("static shared memory", [(LOOP, BEFORE_LOOP, BEFORE_LOOP + EXTRA_SHARED)], "static shared memory"),
    Fault("wider rows of tiles", [(TILE, "kTilePad = 4", "kTilePad = 8")], "dynamic shared memory is not as declared"),
    Fault("the main loop is unrolled", [(LOOP, STEPS, STEPS.replace("BY(1)", "BY(2)"))], "multiply-adds in an iteration"),
    Fault("terms are not unrolled", [(LOOP, TERMS, TERMS.replace("UNROLL\n", "UNROLL_BY(1)\n"))], "multiply-adds in an iteration"),
    Fault("scalar reads of operands", [(LOOP, READ_LEFT, READ_SCALARS)], "shared loads"),
]


def planted(fault, folder, bodies, to):
    """A copy of headers and sources with the fault."""
    texts = {path.name: path.read_text() for path in (folder / "kernels").glob("*.cuh")}
    texts |= {pathlib.Path(body["file"]).name: (folder / body["file"]).read_text() for body in bodies}
    for header, text, replacement in fault.edits:
        if texts.get(header, "").count(text) != 1:
            raise Failure(f"{fault.name}: not once in {header}: {' '.join(text.split())}")
        texts[header] = texts[header].replace(text, replacement)
    (to / "kernels").mkdir(parents=True)
    for name, text in texts.items():
        (to / "kernels" / name).write_text(text)
    return to


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", metavar="PROGRAM")
    parser.add_argument("name", nargs="*")
    parser.add_argument("--table", default=TABLE, help="[default: table.tsv beside this file]")
    parser.add_argument("--jobs", type=int, default=2, help="processes [default: 2]")
    options = parser.parse_args()
    if unknown := set(options.name) - {fault.name for fault in FAULTS}:
        raise Failure(f"no fault {', '.join(sorted(unknown))}")
    faults = [Fault("no fault", [], "")] + [fault for fault in FAULTS if not options.name or fault.name in options.name]
    table, wrong = read_table(options.table), 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_bodies(options.program, pathlib.Path(scratch) / "sound")[ARCH]
        bodies = {name: body for name, body in read_bodies(folder).items() if name in FEW}
        if len(bodies) != len(FEW):
            raise Failure(f"of the bodies {', '.join(FEW)} only {', '.join(bodies) or 'none'} are there")
        folders = [planted(fault, folder, bodies.values(), pathlib.Path(scratch) / re.sub(r"\W", "_", fault.name)) for fault in faults]
        results, _ = measured([(at, body, ARCH) for at in folders for body in bodies.values()], options.jobs)
    for number, fault in enumerate(faults):
        said = []
        for (name, body), found in zip(bodies.items(), results[number * len(bodies) :]):
            said += [f"{name}: {text}" for text in check(body, ARCH, name, found, table[name, ARCH])[0]]
        expected = [text for text in said if fault.says and fault.says in text]
        if expected or not fault.says and not said:
            more = f" (and {len(said) - 1} more)" if len(said) > 1 else ""
            print(f"{fault.name}: {expected[0] if expected else 'no complaint'}{more}")
        else:
            wrong += 1
            print(f"WRONG: {fault.name}: {'; '.join(said) or 'no complaint'}")
    print(f"{len(faults) - 1} faults, {wrong} of them not noticed" if wrong else f"all {len(faults) - 1} faults noticed")
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Failure, OSError) as failure:
        sys.exit(f"faults: {failure}")
