"""Reads the table of launches that hiosc writes (launches.jsonl, see docs/benchmarks.md), and
compares it with the machine code, with its own summary and with figures from elsewhere. Part of
sass_cycles.py."""

import json
import math
import pathlib

from simulator import Failure

# What a table has to satisfy: executed per useful multiply-add, in launches of more than
# CHECKED_MACS and in all of them; what may differ from --macs (a fusion may save some) and
# --weights.
CHECKED_MACS, LAUNCH_WORK, CRATE_WORK, GIVEN_MACS, GIVEN_WEIGHTS = 1e6, (1.0, 2.5), (1.0, 1.8), (0.85, 1.15), 0.95


def read_table(path):
    """(launches, alike ones as one, with a count; summary)."""
    alike, summary, number = {}, None, 0
    for line, text in enumerate(pathlib.Path(path).read_text().splitlines(), 1):
        try:
            if summary is not None:
                raise ValueError("something follows the summary")
            entry = json.loads(text)
            if "summary" in entry:
                summary = {key: int(entry["summary"][key]) for key in ("macs", "weights_bytes", "launches", "operators")}
                continue
            if entry["launch"] != number or max(entry.get("waits", []), default=-1) >= number:
                raise ValueError(f"not launch {number}, or it waits for a later one")
            launch = dict(
                name=entry["entry"],
                block=math.prod(entry["block"]),
                shared=entry.get("dynamic_shared", 0),
                split=entry.get("split", 1),
                trips=entry["trips"] if isinstance(entry["trips"], list) else [entry["trips"]],
                early=bool(entry.get("early")),
                members=[{key: m[key] for key in ("blocks", "trips")} for m in entry.get("members", [])],
                io_bytes=entry["read_bytes"] + entry["write_bytes"],
                workspace_bytes=entry.get("workspace_bytes", 0),
                **{key: entry[key] for key in ("file", "grid", "macs", "weight_bytes")},
            )
            if (
                min(math.prod(launch["grid"]), launch["block"], launch["split"]) < 1
                or min(*launch["trips"], launch["macs"], launch["weight_bytes"], 0) < 0
            ):
                raise ValueError("a grid, block or split below 1, or something negative")
        except (ValueError, KeyError, TypeError) as error:
            raise Failure(f"{path}:{line}: {'no ' if isinstance(error, KeyError) else ''}{error}")
        alike.setdefault(json.dumps(launch), launch | dict(launches=[]))["launches"].append(number)
        number += 1
    if summary is None:
        raise Failure(f"{path}: no summary in the last line")
    return [launch | dict(count=len(launch["launches"])) for launch in alike.values()], summary


def violations(launches, rows, kernels, summary, macs, weights):
    """Where the table, the machine code and the figures from elsewhere (macs, weights, or None)
    contradict one another."""
    total = lambda key: sum(launch[key] * launch["count"] for launch in launches)
    outside = lambda value, limits: not limits[0] <= value <= limits[1]
    count, all_macs, all_weights = sum(launch["count"] for launch in launches), total("macs"), total("weight_bytes")
    if count != summary["launches"]:
        yield f"{count} launches, {summary['launches']} in the summary"
    if outside(all_macs, (0.999 * summary["macs"], 1.001 * summary["macs"])):
        yield f"{all_macs} multiply-adds, {summary['macs']} in the summary"
    if all_weights < summary["weights_bytes"]:
        yield f"{all_weights} bytes of weights read, {summary['weights_bytes']} in the summary"
    if weights and all_weights < GIVEN_WEIGHTS * weights:
        yield f"{all_weights} bytes of weights read, {weights} in the model"
    if macs and outside(all_macs / macs, GIVEN_MACS):
        yield f"{all_macs} multiply-adds, {macs} in the model"
    for launch in launches:
        where, kernel = f"launch {launch['launches'][0]}, {launch['name']}", kernels.get((launch["file"], launch["name"]))
        members, trips, loops = launch["members"], launch["trips"], len(kernel.loops) if kernel else 0
        if not kernel:
            yield f"{where}: not in {launch['file']}"
        elif max(trips) > 1 and len(trips) > loops:
            yield f"{where}: trips {trips}, but {loops} loops in the machine code"
        elif launch["early"] and not any(i.base == "ACQBULK" for i in kernel.code):
            yield f"{where}: early, but never waits (griddepcontrol.wait)"
        if members and (sum(m["blocks"] for m in members), [max(m["trips"] for m in members)]) != (math.prod(launch["grid"]), trips):
            yield f"{where}: the members' blocks are not the grid's, or the trips not those of the longest member"
    for row in rows:
        if row["macs"] > CHECKED_MACS and outside(row["executed"] / row["macs"], LAUNCH_WORK):
            executes = f"executes {row['executed'] / row['macs']:.2f} of its multiply-adds, not {LAUNCH_WORK}"
            yield f"launch {row['launches'][0]}, {row['name']}: {executes}"
    work = sum(row["executed"] * row["count"] for row in rows if row["macs"]) / (macs or summary["macs"] or 1)
    if (macs or summary["macs"]) and outside(work, CRATE_WORK):
        yield f"executes {work:.2f} of all multiply-adds, not {CRATE_WORK}"
