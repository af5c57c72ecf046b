#!/usr/bin/env python3
"""Plants faults in the code that generates crates, one at a time, and checks that hiosc refuses to
write what it then generates, and names a step of the plan.

    emit_faults.py              all faults
    emit_faults.py NAME...      these faults

A fault is an edit of `src/emit/code.rs` or `src/program/mod.rs` in a copy of the committed
sources. hiosc is built with it, and compiles the SqueezeNet in `testdata/` for two GPUs, with each
of three schedules, until it fails. A text that is not found, a fault that does not compile, and one
that no schedule shows are errors: exit status 1. Without a fault, hiosc must write the crate.

The copy has a target folder of its own, which begins as a copy of this one's, about 4 GB.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
EMIT, PROGRAM = "src/emit/code.rs", "src/program/mod.rs"
MODEL, SCHEDULES = "testdata/squeezenet1_1.onnx", ("scatter", "hios-lp", "ios")
STEP = re.compile(r"internal error in emit: .*\bstep \d+")

WAIT, RECORD = "            Step::Wait { event: e, .. } => {\n                vec![", "            Step::Record { event: e, .. } => {\n                vec!["
ARGUMENTS = "                if arguments.len() <= MOST_REMARKS {"
COPY_TO = 'right(format!("    {},", self.buffer(*to)), &format!("on '
COPY_ON = '                    format!("    {stream},"),\n                    right('
KERNEL = "self.program.kernels[kernel].kernel.name.to_uppercase()"
DOWNLOAD = 'x.download({stream}, {output}, {})?;", self.buffer(*from)'
UPLOAD = 'format!("({index}, weights{g}::{name})")'
ARENA = 'format!("arena({offset}, {bytes})")'
CALLS = "functions.iter().map(|function| function.name.clone()).collect()"
EVENTS = "plan.events.iter().map(|gpu| gpu.0.to_string())"
JOINED = "Ok(Region { bytes, ..self.buffer(parts[0]) })"
PLACED = "Ok((index, Region::weights(gpu.index(), offset, weight.bytes(self.graph))))"
LARGEST = "largest[stream.index()] = bytes.max(largest[stream.index()]);"
LAUNCHED_BY = "entry.gpus.insert(index, gpu.index());"

# What it is called: (file, text, replacement).
FAULTS = {
    "operands of launches are swapped": (EMIT, ARGUMENTS, "                arguments.swap(0, 1);\n" + ARGUMENTS),
    "a wait is left out": (EMIT, WAIT, WAIT.replace(" =>", " if e.0 == 1 => Vec::new(),\n" + WAIT.split(" =>")[0] + " =>")),
    "a record is left out": (EMIT, RECORD, RECORD.replace(" =>", " if e.0 == 1 => Vec::new(),\n" + RECORD.split(" =>")[0] + " =>")),
    "copies are on the wrong stream": (EMIT, COPY_ON, COPY_ON.replace("{stream},\")", '{},", self.stream(StreamId(0)))')),
    "copies go to their source": (EMIT, COPY_TO, COPY_TO.replace("*to", "*from", 1)),
    "weights are swapped": (EMIT, UPLOAD, UPLOAD.replace("({index},", "({},").replace('")', '", index ^ 1)')),
    "offsets are wrong": (EMIT, ARENA, ARENA.replace("{offset}", "{}").replace('")', '", offset + 256)')),
    "launches have the wrong kernel": (EMIT, KERNEL, KERNEL.replace("[kernel]", "[0]")),
    "downloads have the wrong buffer": (EMIT, DOWNLOAD, DOWNLOAD.replace("*from", "BufferId(0)")),
    "stages are in another order": (EMIT, CALLS, CALLS.replace(".collect()", ".rev().collect()")),
    "events are on the wrong GPU": (EMIT, EVENTS, EVENTS.replace("gpu.0", "(gpu.0 ^ 1)")),
    "program: joined tensors begin at their last part": (PROGRAM, JOINED, JOINED.replace("parts[0]", "parts[parts.len() - 1]")),
    "program: weights have the index of another": (PROGRAM, PLACED, PLACED.replace("(index,", "(index.saturating_sub(1),")),
    "program: staging is too small": (PROGRAM, LARGEST, LARGEST.replace("bytes.max(largest[stream.index()])", "bytes / 2")),
    "program: kernels are loaded on the first GPU": (PROGRAM, LAUNCHED_BY, LAUNCHED_BY.replace("gpu.index()", "0")),
}


class Failure(Exception):
    pass


def copied(folder):
    """The committed sources, and what has been built, in `folder`."""
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, stdout=subprocess.PIPE)
    subprocess.run(["tar", "x"], cwd=folder, check=True, input=archive.stdout)
    built = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
    if built.is_dir():
        subprocess.run(["cp", "-a", built, folder / "target" / "release"], check=True)


def said(folder):
    """The first error of hiosc, built with what is in `folder`; nothing if all schedules pass."""
    environment = os.environ | {"CARGO_TARGET_DIR": str(folder / "target")}
    # unoptimised, as only hiosc itself is built again
    fast = ["--config", "profile.release.package.hiosc.opt-level=0"]
    build = ["cargo", "build", "--release", "--locked", "--bin", "hiosc", *fast]
    built = subprocess.run(build, cwd=folder, env=environment, capture_output=True, text=True)
    if built.returncode != 0:
        raise Failure(built.stderr)
    for schedule in SCHEDULES:
        options = ["--device", "a40", "--gpus", "2", "--algorithm", schedule, "--no-check", "--kernels", "source"]
        program = [folder / "target/release/hiosc", MODEL, "-o", folder / "target/out", *options]
        done = subprocess.run(program, cwd=folder, capture_output=True, text=True)
        if done.returncode != 0:
            return done.stderr.strip().splitlines()[-1]
    return ""


def main():
    names = sys.argv[1:] or list(FAULTS)
    if unknown := [name for name in names if name not in FAULTS]:
        raise Failure(f"no fault {', '.join(unknown)}; the faults are: {', '.join(FAULTS)}")
    wrong = 0
    folder = pathlib.Path(tempfile.mkdtemp())
    try:
        (folder / "target").mkdir()
        copied(folder)
        if words := said(folder):
            raise Failure(f"without a fault: {words}")
        print("no fault: no complaint", flush=True)
        for name in names:
            file, text, replacement = FAULTS[name]
            sound = (folder / file).read_text()
            if sound.count(text) != 1 or text == replacement:
                raise Failure(f"{name}: not once in {file}: {text}")
            (folder / file).write_text(sound.replace(text, replacement))
            words = said(folder)
            (folder / file).write_text(sound)
            found = STEP.search(words)
            wrong += not found
            print(f"{name}: {words}" if found else f"WRONG: {name}: {words or 'no complaint'}", flush=True)
    finally:
        shutil.rmtree(folder)
    print(f"{len(names)} faults, {wrong} of them not noticed" if wrong else f"all {len(names)} faults noticed")
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Failure, OSError, subprocess.CalledProcessError) as failure:
        sys.exit(f"emit_faults: {failure}")
