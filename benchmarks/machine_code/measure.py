"""What the simulator finds in the bodies that `examples/kernel_bodies.rs` writes, several at a
time, with a cache. Part of gate.py and faults.py.

A body is a line of `bodies.jsonl`: the example says what its keys are. What is found is SIMULATED,
not measured.
"""

import collections
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import tempfile

from simulator import DEVICES, Failure, Kernel, Tools, launch_bounds, multiply_adds

# The device of each architecture that the gate checks.
ARCHS = {device.arch: name for name, device in sorted(DEVICES.items(), key=lambda item: item[1].arch)}

tools = None  # of this process


def cache_folder():
    """As src/cache.rs has it."""
    variables = (("HIOSC_CACHE", ""), ("XDG_CACHE_HOME", "hiosc"), ("HOME", ".cache/hiosc"))
    found = (os.path.join(os.environ[name], folder) for name, folder in variables if os.environ.get(name))
    return pathlib.Path(next(found, os.path.join(tempfile.gettempdir(), "hiosc-cache"))) / "machine_code"


def name_of(body):
    """A name for people, without the numbers of the signature."""
    rows, columns, _ = body["tile"]
    parts = f" / {body['split']}" if body["split"] > 1 else ""
    return f"{body['operator']}: {rows}x{columns}{parts}"


def read_bodies(folder):
    """{name: body}"""
    lines = (folder / "bodies.jsonl").read_text().splitlines()
    bodies = [json.loads(line) for line in lines]
    names = collections.Counter(map(name_of, bodies))
    if twice := [name for name, count in names.items() if count > 1]:
        raise Failure(f"{folder}: several bodies have the name {twice[0]}")
    return {name_of(body): body for body in bodies}


def text_of(folder, body):
    """The source, with a check that the declared shared memory is what the tile needs."""
    source = (folder / body["file"]).read_text()
    needed = f"hiosc::{body['type']}::shared_floats * 4"
    return source + f'static_assert({needed} == {body["dynamic_shared"]}, "dynamic shared memory is not as declared");\n'


def included(folder, text, seen):
    """The headers that a text includes, directly or not: {name: text}"""
    for name in re.findall(r'^\s*#include "([^"]+)"', text, re.M):
        if name not in seen and (path := folder / name).is_file():
            seen[name] = path.read_text()
            included(folder, seen[name], seen)
    return seen


def simulated(folder, body, arch):
    """What the machine code of a body is like, and what one iteration of its main loop costs."""
    global tools
    tools = tools or Tools()
    name, device = body["entry"], DEVICES[ARCHS[arch]]
    flags = [f"--gpu-architecture={arch}", "--std=c++17", f"-I{(folder / body['file']).parent}"]
    try:
        cubin = tools.compile(text_of(folder, body), name, flags)
        with tempfile.TemporaryDirectory() as scratch:
            code = tools.disassemble(cubin, scratch)[name]
        kernel = Kernel(name, code, body["block"], body["dynamic_shared"], device, False)
    except Failure as failure:
        return dict(failure=str(failure))
    found = dict(kernel.resources, blocks_per_sm=kernel.blocks_per_sm, launch_bounds=launch_bounds(cubin, name))
    found |= kernel.main_loop() or dict(loop=None)
    if found["loop"]:
        found["multiply_adds"] = kernel.warps * sum(multiply_adds(i) for i in kernel.bodies[0])
        found["waits"] = [i.allowed for i in kernel.bodies[0] if i.allowed is not None]
    return found


def versions():
    """A hash of everything that results depend on besides the source."""
    here = pathlib.Path(__file__).parent
    files = [here / "simulator.py", here / "measure.py", *map(pathlib.Path, Tools().paths)]
    return hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()


def measured(tasks, jobs):
    """For every (folder, body, arch), in this order, what `simulated` returns. Results are kept in
    the cache under a hash of source, headers, architecture and tools."""
    cache, version, found, waiting = cache_folder(), versions(), {}, {}
    cache.mkdir(parents=True, exist_ok=True)
    keys = []
    for folder, body, arch in tasks:
        text = text_of(folder, body)
        headers = included((folder / body["file"]).parent, text, {})
        key = hashlib.sha256(json.dumps([version, arch, body["block"], text, sorted(headers.items())]).encode()).hexdigest()
        keys.append(key)
        path = cache / f"{key}.json"
        if path.is_file():
            found[key] = json.loads(path.read_text())
        else:
            waiting[key] = (folder, body, arch)
    with concurrent.futures.ProcessPoolExecutor(jobs) as pool:
        # the largest first, so that no process is left with one of them at the end
        largest = sorted(waiting, key=lambda key: -waiting[key][1]["tile"][0] * waiting[key][1]["tile"][1])
        for key, result in zip(largest, pool.map(simulated, *zip(*(waiting[key] for key in largest)))) if largest else ():
            found[key] = result
            fresh = cache / f"{key}.{os.getpid()}"
            fresh.write_text(json.dumps(result))
            fresh.rename(cache / f"{key}.json")
    return [found[key] for key in keys], len(waiting)
