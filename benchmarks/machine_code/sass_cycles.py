#!/usr/bin/env python3
"""Predicts what the launches of a generated crate cost, without a GPU, from its table of launches
and the machine code of its kernels. SIMULATED, not measured: see simulator.py.

    sass_cycles.py --crate DIR                      all launches, as DIR/launches.jsonl says
    sass_cycles.py --launches FILE --crate DIR      the same, from another table
    sass_cycles.py kernel.cu --block 128 -D BM=64   one file; with --grid and --steps a time too

docs/benchmarks.md describes the table. It is compared with the machine code: what does not agree is
printed as VIOLATED, and the exit status is 1. A crate without a table is an error.
"""

import argparse
import collections
import functools
import json
import math
import os
import pathlib
import re
import sys
import tempfile

sys.dont_write_bytecode = True

from launch_table import read_table, violations
from simulator import BARRIER_CYCLES, DEVICES, L2_BYTES_PER_CYCLE, LDS_CYCLES, Failure, Kernel, Tools, width

HEADING = """
SIMULATED, not measured, +-35 %. {name} ({arch}): {sms} SMs, {ghz} GHz, {launch_us} us from kernel to kernel ({early_us} where one
starts early), one stream; global load {load}, {weights:.1f} MiB of weights), LDS {lds} + wavefronts,
BAR {barrier}; DRAM {dram_gbs:.0f} GB/s, L2 {l2_gbs:.0f} GB/s. All latencies, efficiencies and times between kernels are assumed.
FMA% to INT: one iteration of the main loop; FMA% = its share of FP (FFMA, FMUL, FADD) and HMMA. late: the part of that
arithmetic that stands between a global load and its first use. lds%, glb%: cycles in which a lone warp waits for shared,
global loads. cycles: a step with 1/2/4 blocks on an SM. work: multiply-adds executed for a useful one. /4: split-K. early:
starts before its predecessor ends.

   us  total   n blocks x thr /SM reg stack static   dyn |FMA%   FP HMMA LDS LDG LDGSTS STS BAR INT | late lds% glb% steps  work \
cycles 1/2/4    kernel"""
WIDTHS = 5, 7, 4, 7, 2, 4, 4, 4, 6, 7, 6, 2, 4, 5, 5, 4, 4, 7, 4, 4, 4, 2, 5, 5, 5, 6, 6


def body_cycles(kernel, launch):
    """Cycles of all blocks, and of the reduction: the last block of a tile reads the partial sums of
    all."""
    blocks, trips, device = math.prod(launch["grid"]), launch["trips"], kernel.device
    if launch["members"]:
        cycles = kernel.group_cycles([m["trips"] for m in launch["members"] for _ in range(m["blocks"])])
    else:
        cycles = kernel.waves(blocks, lambda n: kernel.cycles(n, trips))
    if launch["split"] > 1 and launch["workspace_bytes"]:
        cycles += 2 * device.l2_cycles + launch["workspace_bytes"] / (blocks / launch["split"]) / L2_BYTES_PER_CYCLE
    return cycles


def traffic(kernel, launch):
    """Bytes that loops which fill shared memory fetch from L2, by the machine code."""
    grouped, fetched = sum(m["blocks"] * m["trips"] for m in launch["members"]), 0
    for trips, loop in kernel.pairs(launch["trips"]):
        body = kernel.bodies[loop]
        if any(i.base in ("STS", "LDGSTS") for i in body):
            iterations = grouped or trips * math.prod(launch["grid"])
            fetched += iterations * sum(width(i) for i in body if i.base in ("LDG", "LDGSTS"))
    return 32 * kernel.warps * fetched


def analyse(kernel, launch, cold):
    """One row of the output. A launch without `trips` is a file of which only the loop is known."""
    device, loop = kernel.device, kernel.main_loop()
    row = dict(name=kernel.name, **kernel.resources, dynamic=kernel.dynamic, threads=kernel.threads, blocks_per_sm=kernel.blocks_per_sm)
    row |= dict(blocks=None, count=launch["count"], loop=None, cycles_per_step={}, late_load=None, lds_wait=None, global_wait=None)
    row |= dict(steps=max(launch["trips"] or [0]) or None, us=None) | (loop or {})
    if not launch["grid"] or launch["trips"] is None and kernel.loops:
        return row
    launch["trips"] = launch["trips"] or [0]
    # partial sums are written, then read
    weights, io = launch["weight_bytes"], launch["io_bytes"] + 2 * launch["workspace_bytes"]
    dram = (weights if cold else 0) + (io if io >= 0.6 * device.l2_bytes else 0)
    memory_us = max(dram / device.dram_gbs, max(weights + io, traffic(kernel, launch)) / device.l2_gbs) / 1e3
    body_us = body_cycles(kernel, launch) / device.ghz / 1e3
    edge_us = device.early_us if launch["early"] else device.launch_us
    row.update(blocks=math.prod(launch["grid"]), us=edge_us + max(body_us, memory_us + 0.8))
    # what no kernel can fall below: the launch, its beginning and end, arithmetic or bytes
    arithmetic_us = launch.get("macs", 0) / (device.sms * 128 / device.fp32_interval * device.ghz * 1e3)
    row["floor_us"] = edge_us + 0.9 + max(arithmetic_us, (weights if cold else 0) / device.dram_gbs / 1e3)
    if "macs" in launch:
        blocks = [(m["blocks"], [m["trips"]]) for m in launch["members"]] or [(row["blocks"], launch["trips"])]
        notes = [f" /{launch['split']}" * (launch["split"] > 1), f" group of {len(launch['members'])}" * bool(launch["members"])]
        row.update(
            macs=launch["macs"],
            executed=sum(n * kernel.multiply_adds(trips) for n, trips in blocks),
            launches=launch["launches"],
            note="".join(notes) + " early" * launch["early"],
        )
    return row


def show(rows, name, device, cold, weights):
    load = f"{device.dram_cycles} cycles (DRAM: cold" if cold else f"{device.l2_cycles} cycles (L2: hot"
    figures = dict(name=name, load=load, weights=weights / 2**20, lds=LDS_CYCLES, barrier=BARRIER_CYCLES)
    print(HEADING.format(**device._asdict(), **figures))
    form = lambda value, pattern, factor=1: format(value * factor, pattern) if value is not None else "-"
    for r in rows:
        loop, steps = collections.Counter(r["loop"]), r["cycles_per_step"]
        values = [form(r["us"], ".1f"), form(r["us"], ".1f", r["count"]), r["count"], form(r["blocks"], "d"), "x", r["threads"]]
        values += [r[key] for key in ("blocks_per_sm", "registers", "stack", "static", "dynamic")]
        share = (loop["FP"] + loop["HMMA"]) / loop["instructions"] if loop else None
        values += ["|", form(share, ".0f", 100), loop["FP"], loop["HMMA"], loop["LDS"] + loop["LDSM"]]
        values += [loop[key] for key in ("LDG", "LDGSTS", "STS", "BAR", "INT")]
        values += ["|", form(r["late_load"], ".2f"), form(r["lds_wait"], ".0f", 100), form(r["global_wait"], ".0f", 100)]
        values += [form(r["steps"], "d"), form(r["executed"] / r["macs"] if r.get("macs") else None, ".2f")]
        cycles = "/".join(str(steps.get(n, "-")) for n in "124") if steps else "-"
        print("".join(f"{value:>{w}}" for value, w in zip(values, WIDTHS)), f"{cycles:<15} {r['name']}{r.get('note', '')}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("file", nargs="*", help="a .cu file, or several")
    add("--crate", metavar="DIR", help="a generated crate: every launch of its launches.jsonl")
    add(
        "--launches",
        metavar="FILE",
        help="the table of launches [default: launches.jsonl of the crate]; without --crate, of the crate beside it",
    )
    add("--macs", type=int, help="multiply-adds of the model, to check the table against")
    add("--weights", type=int, help="bytes of the model's weights, to check the table against")
    add("--no-checks", action="store_true", help="do not compare a table with the machine code, nor with its summary")
    add("--headers", metavar="DIR", help="where the .cuh files are [default: beside the source]")
    add("--arch", choices=sorted({d.arch for d in DEVICES.values()}), help="[default: the device's]")
    add("--device", choices=DEVICES, help="[default: the first of that arch, or h100]")
    add("--cold", action="store_true", help="loads come from DRAM [default: if the crate's weights exceed 0.8 of L2]")
    add("-D", dest="defines", metavar="NAME=VALUE", action="append", default=[], help="a macro for NVRTC")
    add("--block", type=int, help="threads a block, for a file [default: as HIOSC_KERNEL says]")
    add("--grid", metavar="X,Y,Z", help="blocks, for a file; needed for a time")
    add("--shared", type=int, default=0, help="dynamic shared bytes, for a file")
    add("--steps", type=int, help="iterations of the main loop, for a file; needed for a time")
    add("--json", action="store_true", help="print everything as JSON")
    options = parser.parse_args()
    if bool(options.crate or options.launches) == bool(options.file):
        raise Failure("give either --crate DIR (or --launches FILE) or .cu files")
    if options.grid and not re.fullmatch(r"\d+,\d+,\d+", options.grid):
        raise Failure(f"--grid {options.grid}: expected X,Y,Z")
    if (options.macs or options.weights) and options.file:
        raise Failure("no launch table, so --macs and --weights check nothing")
    return options


def main():
    options = arguments()
    name = options.device or next((n for n, d in DEVICES.items() if d.arch == options.arch), "h100")
    device = DEVICES[name]._replace(arch=options.arch or DEVICES[name].arch)
    crate, summary, weights, launches = "", None, 0, []
    if not options.file:
        table = options.launches or os.path.join(options.crate, "launches.jsonl")
        crate = options.crate or os.path.dirname(table)
        launches, summary = read_table(table)
        weights = max(summary["weights_bytes"], options.weights or 0)
    cold, kernels, rows, tools = options.cold or weights > 0.8 * device.l2_bytes, {}, [], Tools()
    with tempfile.TemporaryDirectory() as folder:

        @functools.cache
        def compiled(path):
            headers = options.headers or os.path.dirname(path) or "."
            source = pathlib.Path(path).read_text()
            return tools.machine_code(source, os.path.basename(path), device.arch, headers, options.defines, folder)

        def block(path, entry):
            said = re.search(rf"HIOSC_KERNEL\w*\({entry}, (\d+)", pathlib.Path(path).read_text())
            if not options.block and not said:
                raise Failure(f"{path}: {entry}: say --block THREADS")
            return options.block or int(said[1])

        machine = functools.cache(
            lambda path, entry, threads, dynamic: Kernel(entry, compiled(path)[entry], threads, dynamic, device, cold)
        )
        grid = options.grid and [int(n) for n in options.grid.split(",")]
        alone = dict(grid=grid, shared=options.shared, trips=options.steps and [options.steps], count=1, split=1, members=[], early=False)
        alone |= dict(weight_bytes=0, io_bytes=0, workspace_bytes=0)
        launches += [dict(file=path, name=entry, block=block(path, entry), **alone) for path in options.file for entry in compiled(path)]
        for launch in launches:
            path, entry = os.path.join(crate, launch["file"]), launch["name"]
            if not os.path.isfile(path) or entry not in compiled(path):
                continue  # a violation
            kernels[launch["file"], entry] = kernel = machine(path, entry, launch["block"], launch["shared"])
            rows.append(analyse(kernel, launch, cold))
    checked = summary and not options.no_checks
    found = list(violations(launches, rows, kernels, summary, options.macs, options.weights)) if checked else []
    rows.sort(key=lambda r: -(r["us"] or 0) * r["count"])
    total = lambda key: sum((r[key] or 0) * r["count"] for r in rows)
    if options.json:
        assumptions = device._asdict() | dict(device=name, cold=cold, lds_cycles=LDS_CYCLES, barrier_cycles=BARRIER_CYCLES)
        result = dict(note="simulated, +-35 %", assumptions=assumptions, total_us=total("us"), violations=found, kernels=rows)
        print(json.dumps(result, indent=1))
    else:
        show(rows, name, device, cold, weights)
        if found:
            print("", *(f"VIOLATED: {text}" for text in found), sep="\n")
        if summary:
            executed = sum(r["executed"] * r["count"] for r in rows if r["macs"])
            verdict = "off" if options.no_checks else f"{len(found)} violated" if found else "all hold"
            print(f"\nchecks: {verdict}; {total('macs') / 1e6:.1f} M useful multiply-adds, {executed / 1e6:.1f} M executed for them")
        if all(r["us"] for r in rows) and len(rows) == len(launches):
            count = sum(r["count"] for r in rows)
            small = sum(r["count"] for r in rows if r["blocks"] < device.sms)
            print(f"\ntotal {total('us'):.0f} us in {count} launches of {len(kernels)} kernels")
            print(f"floor {total('floor_us'):.0f} us; {small} launches have fewer blocks than the {device.sms} multiprocessors")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    try:
        main()
    except (Failure, OSError) as failure:
        sys.exit(f"sass_cycles: {failure}")
