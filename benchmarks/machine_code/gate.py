#!/usr/bin/env python3
"""The gate on machine code: compiles the kernels that `examples/kernel_bodies.rs` writes for sm_80,
sm_86 and sm_90, and compares their machine code with what they declare, with thresholds and with
the table beside this file. No GPU; all cycles are SIMULATED.

    gate.py PROGRAM             PROGRAM is the compiled example, or a folder with its output:
                                a100, a40, h100
    gate.py PROGRAM --renew     rewrites the table

One line a complaint, exit status 1 if there is any. docs/kernels.md explains every check.
"""

import argparse
import csv
import math
import pathlib
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True

from measure import ARCHS, measured, read_bodies
from simulator import DEVICES, Failure, occupancy

TABLE = pathlib.Path(__file__).parent / "table.tsv"
COLUMNS = ["body", "arch", "registers", "blocks_per_sm", "copies", "reads", "late_load", "lds_wait", "cycles_1", "cycles_2", "cycles_4"]

CYCLES = 1.05  # of the table's
LDS_WAIT = 0.10  # of a lone warp's cycles
# Of the loop's arithmetic, between a plain load and its first use.
LATE_LOAD = 0.5
# Stages less this are under way, in iterations: the last one's copies are waited for a few terms
# before its end.
WAIT_EARLY = 1.25


def row_of(name, arch, found):
    """The line of the table."""
    loop, cycles = found["loop"], found["cycles_per_step"]
    row = [name, arch, found["registers"], found["blocks_per_sm"], loop.get("LDGSTS", 0) + loop.get("LDG", 0)]
    row += [loop.get("LDS", 0), f"{found['late_load'] or 0:.2f}", f"{found['lds_wait'] * 100:.0f}%"]
    return dict(zip(COLUMNS, map(str, row + [cycles.get(n, "-") for n in "124"])))


def declared(body, arch, found):
    """Where the machine code is not as the body declares."""
    if found["stack"] > 0:
        yield f"{found['stack']} bytes of stack"
    if found["registers"] > body["registers"]:
        yield f"{found['registers']} registers, {body['registers']} declared"
    if found["static"] != body["static_shared"]:
        yield f"{found['static']} bytes of static shared memory, {body['static_shared']} declared"
    if found["launch_bounds"] != body["block"]:
        yield f"launch bounds of {found['launch_bounds'] or 'no'} threads, blocks of {body['block']}"
    resources = dict(registers=body["registers"], static=body["static_shared"])
    promised = occupancy(resources, body["dynamic_shared"], body["block"], DEVICES[ARCHS[arch]])
    if found["blocks_per_sm"] < promised:
        yield f"{found['blocks_per_sm']} blocks fit an SM, {promised} by what is declared"


def thresholds(body, found):
    """What is wrong with the main loop, whatever the table says."""
    loop, late = found["loop"], found["late_load"]
    expected = math.prod(body["tile"])
    if found["multiply_adds"] != expected:
        yield f"{found['multiply_adds']} multiply-adds in an iteration, {expected} in a step"
    if not loop.get("BAR"):
        yield "no barrier in the loop"
    if body["stages"] and loop.get("LDG"):
        yield f"{loop['LDG']} plain loads in the loop"
    if body["stages"] and loop.get("LDGSTS") and not found["waits"]:
        yield "asynchronous copies are never waited for"
    elif late is None:
        yield "no global load in the loop"
    elif late < (body["stages"] - WAIT_EARLY if loop.get("LDGSTS") else LATE_LOAD):
        yield f"loads are {late:.2f} iterations under way, with {body['stages']} stages"
    if found["lds_wait"] > LDS_WAIT:
        yield f"waits for shared loads in {found['lds_wait']:.0%} of the cycles, more than {LDS_WAIT:.0%}"


def compared(now, before):
    """(what is worse than the table, what is better)"""
    worse, better = [], []
    for column, what in (("copies", "global loads"), ("reads", "shared loads")):
        if int(now[column]) != int(before[column]):
            (worse if int(now[column]) > int(before[column]) else better).append(f"{now[column]} {what}, {before[column]} in the table")
    for blocks in "124":
        new, old = now[f"cycles_{blocks}"], before[f"cycles_{blocks}"]
        if "-" in (new, old):
            if new != old:
                (worse if new == "-" else better).append(f"{blocks} blocks {'do not ' * (new == '-')}fit an SM, unlike in the table")
            continue
        change = int(new) / int(old)
        if change > CYCLES or change < 1 / CYCLES:
            text = f"{new} cycles a step with {blocks} blocks on an SM, {old} in the table ({change - 1:+.0%})"
            (worse if change > CYCLES else better).append(text)
    return worse, better


def check(body, arch, name, found, before):
    """(complaints, notes, the row of the table or None)"""
    if "failure" in found:
        return [found["failure"]], [], None
    complaints = list(declared(body, arch, found))
    if not found["loop"] or not found["multiply_adds"]:
        return complaints + ["no loop that multiplies"], [], None
    now = row_of(name, arch, found)
    complaints += thresholds(body, found)
    worse, better = compared(now, before) if before else ([], [])
    return complaints + worse, better, now


def read_table(path):
    with open(path, newline="") as file:
        return {(row["body"], row["arch"]): row for row in csv.DictReader(file, delimiter="\t")}


def write_table(path, rows):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_bodies(program, folder):
    """The program's output for every device, in `folder`; or what it wrote before."""
    program = pathlib.Path(program)
    if program.is_dir():
        return {arch: program / device for arch, device in ARCHS.items()}
    for device in ARCHS.values():
        done = subprocess.run([program.resolve(), folder / device, "--device", device], capture_output=True, text=True)
        if done.returncode:
            raise Failure(f"{program}: {done.stderr.strip()}")
    return {arch: folder / device for arch, device in ARCHS.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", metavar="PROGRAM")
    parser.add_argument("--renew", action="store_true", help="rewrite the table")
    parser.add_argument("--table", default=TABLE, help="[default: table.tsv beside this file]")
    parser.add_argument("--jobs", type=int, default=2, help="processes [default: 2]")
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folders = write_bodies(options.program, pathlib.Path(scratch))
        tasks = [(name, arch, body) for arch, folder in folders.items() for name, body in read_bodies(folder).items()]
        results, fresh = measured([(folders[arch], body, arch) for _, arch, body in tasks], options.jobs)
    table = {} if options.renew else read_table(options.table)
    rows, complaints, notes = [], [], []
    for (name, arch, body), found in zip(tasks, results):
        before = table.get((name, arch))
        wrong, better, row = check(body, arch, name, found, before)
        if not before and not options.renew:
            wrong.append("not in the table")
        complaints += [f"{arch}, {name}: {text}" for text in wrong]
        notes += [f"{arch}, {name}: {text}" for text in better]
        rows += [row] if row else []
    present = {(name, arch) for name, arch, _ in tasks}
    complaints += [f"{arch}, {name}: in the table, but no such body" for name, arch in table if (name, arch) not in present]
    print(*complaints, sep="\n", end="\n" if complaints else "")
    if notes:
        print(*(f"better than the table, renew it: {text}" for text in notes), sep="\n")
    if options.renew:
        write_table(options.table, sorted(rows, key=lambda row: (row["body"], row["arch"])))
    seconds = time.monotonic() - started
    print(f"{len(tasks)} bodies, {fresh} not in the cache, {len(complaints)} complaints, {seconds:.0f} s; cycles are simulated")
    return 1 if complaints else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Failure, OSError) as failure:
        sys.exit(f"gate: {failure}")
