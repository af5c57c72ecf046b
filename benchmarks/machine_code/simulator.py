"""What a compiled kernel costs, without a GPU: compiles it (NVRTC), disassembles it (nvdisasm) with
its control words, and simulates its main loop cycle by cycle.

Everything that comes out is SIMULATED, not measured: +-35 %, and that is a judgement, since no
figure has been compared with a GPU. Good for comparing two versions of a kernel. docs/kernels.md
says what it cannot see.

The tools are the files that NVRTC (or HIOSC_NVRTC), NVDISASM and CUOBJDUMP name, else those in the
running Python's site-packages:

    pip install nvidia-cuda-nvrtc-cu12==12.9.86 nvidia-cuda-nvdisasm==13.5.37 nvidia-cuda-cuobjdump==13.5.37
"""

import collections
import ctypes
import functools
import glob
import heapq
import math
import os
import pathlib
import re
import site
import struct
import subprocess
import tempfile


class Failure(Exception):
    """A mistake of the caller: printed as one line."""


# All latencies are assumed (in cycles), and so are the efficiencies of memory (0.85), the bandwidth
# of L2 and the time from one kernel to the next in a CUDA graph (launch_us). The rest is NVIDIA's.
# early_us: the same where the next kernel starts early (programmatic dependent launch, from sm_90
# on), its prologue under the end of the one before.
# fp32_interval: cycles for which one FFMA keeps a scheduler's pipe; 2 where an SM has 64 pipes.
Device = collections.namedtuple(
    "Device",
    "arch sms ghz fp32_interval l2_cycles dram_cycles dram_gbs l2_gbs launch_us early_us shared_per_sm threads_per_sm "
    "blocks_per_sm l2_bytes",
)
DEVICES = {
    "h100": Device("sm_90", 132, 1.98, 1, 280, 650, 3350 * 0.85, 5500, 1.3, 0.6, 228 << 10, 2048, 32, 50 << 20),
    "a100": Device("sm_80", 108, 1.41, 2, 240, 520, 2039 * 0.85, 3500, 1.5, 1.5, 164 << 10, 2048, 32, 40 << 20),
    "a40": Device("sm_86", 84, 1.74, 1, 250, 520, 696 * 0.85, 1800, 1.5, 1.5, 100 << 10, 1536, 16, 6 << 20),
}
LDS_CYCLES, LDS128_WAVEFRONTS, BARRIER_CYCLES, RESERVED_SHARED, NO_SCOREBOARD = 30, 3, 20, 1024, 7
L2_BYTES_PER_CYCLE = 64  # that one SM can read from L2


def find(variables, pattern):
    for variable in variables:
        if os.environ.get(variable):
            return os.environ[variable]
    for folder in [*site.getsitepackages(), site.getusersitepackages()]:
        if found := sorted(glob.glob(os.path.join(folder, "nvidia", "*", pattern))):
            return found[-1]
    raise Failure(f"{os.path.basename(pattern)} not found: set {variables[0]}, or pip install it (see --help)")


def run_tool(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"{os.path.basename(command[0])} failed: {' '.join((done.stderr or done.stdout).split())[:200]}")
    return done.stdout


class Instruction:
    def __init__(self, text):
        self.text, self.op = text, re.sub(r"^(@!?U?P\w+\s+)?(\{\s*)?", "", text).split()[0]  # with modifiers: LDS.128
        self.base = self.op.split(".")[0]
        self.target = m[1] if self.base == "BRA" and (m := re.search(r"`\((\.L_\w+)\)", text)) else None
        # cp.async groups that may still be in flight
        self.allowed = int(m[1], 0) if self.base == "DEPBAR" and (m := re.search(r"SB\d, (0x\w+|\d+)", text)) else None
        self.stall, self.sets, self.reads, self.waits = 1, NO_SCOREBOARD, NO_SCOREBOARD, ()

    def control(self, word):
        """Bits 105 to 121 of the 128: cycles until this warp may issue again; the scoreboard that is
        released when the result is there, and the one when the operands have been read (7: none);
        the scoreboards waited for before issue."""
        bits = word >> 41
        self.stall, self.sets, self.reads = max(1, bits & 15), bits >> 5 & 7, bits >> 8 & 7
        self.waits = tuple(board for board in range(6) if bits >> 11 + board & 1)


# Prefixes of what computes addresses and predicates.
INTEGER = tuple("IMAD IADD LEA SHF LOP ISETP SEL MOV PLOP3 PRMT VIADD VIMNMX IABS CS2R R2UR IMNMX P2R R2P SGXT BMSK".split())


def kind(i):
    """FP is what does the arithmetic; INT, with the uniform datapath, is what addresses and
    predicates cost."""
    if i.base in ("FFMA", "FMUL", "FADD"):
        return "FP"
    if i.base.endswith("MMA"):
        return "HMMA"  # also IMMA, HGMMA, DMMA
    if i.base in ("LDS", "LDSM", "LDG", "LDGSTS", "STS", "STG", "LDL", "STL", "BAR", "BRA", "SHFL", "MUFU"):
        return i.base
    if i.base.startswith("U") or i.base.startswith(INTEGER):
        return "INT"
    return "OTHER"


def multiply_adds(i):
    """That a warp does in this instruction. HFMA2 with RZ is how ptxas loads constants."""
    if m := re.match(r"[A-Z]GMMA\.(\d+)x(\d+)x(\d+)", i.op):
        return math.prod(map(int, m.groups())) // 4  # four warps share it
    if m := re.match(r"[A-Z]MMA\.(?:SP\.)?(8|16)8(\d+)\b", i.op):
        return int(m[1]) * 8 * int(m[2])
    if i.base == "IDP":
        return 64 if ".2A" in i.op else 128
    return {"FFMA": 32, "DFMA": 32, "FFMA2": 64, "HFMA2": 0 if "RZ" in i.text else 64}.get(i.base, 0)


def width(i):
    return 16 if ".128" in i.op else 8 if ".64" in i.op else 2 if ".U16" in i.op else 1 if ".U8" in i.op else 4


class Tools:
    """NVRTC, nvdisasm and cuobjdump."""

    def __init__(self):
        self.paths = [
            find(["NVRTC", "HIOSC_NVRTC"], "lib/libnvrtc.so.*[0-9]"),
            find(["NVDISASM"], "bin/nvdisasm"),
            find(["CUOBJDUMP"], "bin/cuobjdump"),
        ]
        self.nvrtc = ctypes.CDLL(self.paths[0])

    def compile(self, source, name, options):
        """The cubin of a source."""

        def output(what):
            size = ctypes.c_size_t()
            getattr(self.nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
            buffer = ctypes.create_string_buffer(size.value)
            getattr(self.nvrtc, f"nvrtcGet{what}")(program, buffer)
            return buffer.raw

        program, given = ctypes.c_void_p(), (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
        self.nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), name.encode(), 0, None, None)
        try:
            if self.nvrtc.nvrtcCompileProgram(program, len(options), given):
                log = output("ProgramLog").decode(errors="replace").strip("\0\n").splitlines() or [f"{name}: does not compile"]
                raise Failure(next((line for line in log if "error" in line), log[0]))
            return output("CUBIN")
        finally:
            self.nvrtc.nvrtcDestroyProgram(ctypes.byref(program))

    def disassemble(self, cubin, folder):
        """{kernel: (instructions, labels, resources)}"""
        path = os.path.join(folder, f"{os.getpid()}.cubin")
        pathlib.Path(path).write_bytes(cubin)
        usage = run_tool(self.paths[2], "-res-usage", path)
        resources = {
            m[1]: dict(registers=int(m[2]), stack=int(m[3]), shared=int(m[4]))
            for m in re.finditer(r"Function (\w+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+)", usage)
        }
        kernels, code, labels, pending = {}, [], {}, []
        for line in run_tool(self.paths[1], "-hex", "-c", path).splitlines():
            if m := re.match(r"\.text\.(\w+):", line):
                code, labels, pending = [], {}, []
                if m[1] in resources:
                    kernels[m[1]] = (code, labels, resources[m[1]])
            elif m := re.match(r"(\.L_\w+):", line):
                pending.append(m[1])
            elif m := re.search(r"/\*[0-9a-f]{4,5}\*/\s+(.*?)\s*;", line):
                labels.update({label: len(code) for label in pending})
                pending = []
                code.append(Instruction(m[1]))
            elif code and (m := re.search(r"/\* (0x[0-9a-f]{16}) \*/", line)):
                code[-1].control(int(m[1], 16))
        return kernels

    def machine_code(self, source, name, arch, headers, defines, folder):
        """{kernel: (instructions, labels, resources)} of a source."""
        flags = [f"--gpu-architecture={arch}", "--std=c++17", f"-I{headers}", *(f"-D{define}" for define in defines)]
        return self.disassemble(self.compile(source, name, flags), folder)


def launch_bounds(cubin, entry):
    """The threads a block may have, as `__launch_bounds__` said; None if it said nothing. They are in
    the ELF section `.nv.info.ENTRY`: records of a format, an attribute (5: threads) and a value."""
    (sections,) = struct.unpack_from("<Q", cubin, 40)
    size, count, names = struct.unpack_from("<HHH", cubin, 58)
    headers = [struct.unpack_from("<IIQQQQ", cubin, sections + n * size) for n in range(count)]
    name = lambda at: cubin[headers[names][4] + at :].split(b"\0", 1)[0].decode()
    for at, _, _, _, begin, length in headers:
        if name(at) == f".nv.info.{entry}":
            record = begin
            while record < begin + length:
                form, attribute, value = struct.unpack_from("<BBH", cubin, record)
                if (form, attribute) == (4, 5):
                    return math.prod(struct.unpack_from("<3I", cubin, record + 4))
                record += 4 + (value if form == 4 else 0)
    return None


def follow(start, edges, barred=None):
    """Everything that `start` reaches without passing `barred`."""
    seen, todo = {barred}, [start]
    while todo:
        if (at := todo.pop()) not in seen:
            seen.add(at)
            todo.extend(edges[at])
    return seen - {barred}


def conditional(i):
    return i.text.startswith("@") or bool(re.search(r"BRA(\.\w+)? !?U?P|DIV", i.text))


def successors(code, labels):
    jumps = lambda i: (
        [labels[n] for n in re.findall(r"\.L_\w+", i.text) if labels.get(n, len(code)) < len(code)] if i.base in ("BRA", "BRX") else []
    )
    falls = lambda at, i: at + 1 < len(code) and (conditional(i) or i.base not in ("BRA", "BRX", "EXIT", "RET"))
    return [jumps(i) + [at + 1] * falls(at, i) for at, i in enumerate(code)]


def find_loops(code, labels):
    """The natural loops, as sorted lists of instructions: {head: members}. A backward branch whose
    target can be passed by (code that was moved out of the way and jumps back) makes none; several
    branches to one head make one."""
    after, before, loops = successors(code, labels), [[] for _ in code], {}
    live = follow(0, after)
    for at, targets in enumerate(after):
        for to in targets:
            before[to].append(at)
    for last, i in enumerate(code):
        for head in after[last] if i.base == "BRA" and last in live else ():
            if head <= last and (head == 0 or last == head or last not in follow(0, after, head)):
                loops[head] = loops.get(head, {head}) | follow(last, before, head) & live
    return {head: sorted(members) for head, members in loops.items()}


def main_loops(code, labels):
    """The loops that multiply, the heaviest first, weighed by what they do outside the loops within
    them: so the innermost one counts, but not one that only spins on a barrier. Where none
    multiplies, the one with most memory operations. [members], without those of the others."""
    loops = find_loops(code, labels)
    own = {
        head: set(members).difference(*(m for h, m in loops.items() if h != head and h in members and len(m) < len(members)))
        for head, members in loops.items()
    }
    memory = lambda i: i.base in ("LDG", "LDGSTS", "STG", "LDS", "LDSM", "STS", "LD", "ST", "ATOMG", "RED", "ATOMS")
    for weigh in (multiply_adds, memory):
        weights = {head: sum(weigh(code[at]) for at in own[head]) for head in loops}
        heavy = sorted((head for head in loops if weights[head]), key=lambda head: (-weights[head], len(loops[head]), head))
        heavy = [h for h in heavy if weights[h] * 10 >= weights[heavy[0]]][: None if weigh is multiply_adds else 1]
        inner = lambda h: set().union(*(loops[o] for o in heavy if o != h and o in loops[h] and len(loops[o]) < len(loops[h])))
        if heavy:
            return [sorted(set(loops[h]) - inner(h)) for h in heavy]
    return []


def late_load(body):
    """How much of the loop's arithmetic stands between a global load and the first wait for it: the
    mean, 1 = all of it. cp.async groups in flight count whole iterations. None without loads."""
    work = [kind(i) in ("FP", "HMMA") for i in body]
    total, n, shares = sum(work), len(body), []
    if not total:
        return None
    drains = [(at, i.allowed) for at, i in enumerate(body) if i.allowed is not None]
    for at, i in enumerate(body):
        if i.base == "LDGSTS" and drains:
            # the group committed now is waited for once `allowed` younger ones have followed
            drain, allowed = drains[0]
            between = sum(work[at:]) + sum(work[:drain]) if drain <= at else sum(work[at:drain])
            shares.append(between / total + allowed)
        elif i.base == "LDG" and i.sets != NO_SCOREBOARD:
            use = next((d for d in range(1, n + 1) if i.sets in body[(at + d) % n].waits), n)
            shares.append(sum(work[(at + d) % n] for d in range(use)) / total)
    return sum(shares) / len(shares) if shares else None


def timing(i, load_cycles):
    """(latency, wavefronts on the shared load/store port)"""
    words = max(1, width(i) // 4)
    if i.base == "LDS":
        return LDS_CYCLES, LDS128_WAVEFRONTS if words == 4 else words  # 4 broadcasting threads share a wavefront
    if i.base in ("LDG", "LDGSTS"):
        return load_cycles, words
    if i.base.endswith("MMA"):
        return 33, 0
    return {
        "STS": (20, words),
        "LDSM": (33, 4),
        "STG": (30, 4 if words == 4 else 1),
        "STL": (30, 4 if words == 4 else 1),
        "LDL": (40, 1),
        "SHFL": (25, 1),
        "LDC": (40, 0),
        "S2R": (30, 0),
        "S2UR": (30, 0),
        "R2UR": (30, 0),
        "MUFU": (25, 0),
        "I2F": (25, 0),
        "F2I": (25, 0),
        "F2F": (25, 0),
        "I2I": (25, 0),
    }.get(i.base, (15, 0))


def simulate(code, warps_per_block, blocks, device, load_cycles):
    """Cycles until the blocks of one SM have run this straight code, and per warp the cycles spent
    waiting by cause. In-order warps on 4 schedulers; one load/store port; scoreboards and stall
    counts as the control words say; cp.async groups; barriers."""
    trace = [(i, *timing(i, load_cycles)) for i in code]
    warps, waited = warps_per_block * blocks, collections.Counter()
    at, boards = [0] * warps, [[(0, "")] * 6 for _ in range(warps)]
    groups, group_done = [[] for _ in range(warps)], [0] * warps  # cp.async: when each committed group has arrived
    issue, fp_pipe, port, arrived = [0] * 4, [0] * 4, 0, collections.defaultdict(list)
    queue = [(0, warp) for warp in range(warps)]
    while queue:
        now, warp = heapq.heappop(queue)
        if at[warp] == len(trace):
            continue
        i, latency, wavefronts = trace[at[warp]]
        ready, cause, scheduler = now, "", warp & 3
        for board in i.waits:
            if boards[warp][board][0] > ready:
                ready, cause = boards[warp][board]
        if i.allowed is not None:
            due = max(groups[warp][: max(0, len(groups[warp]) - i.allowed)], default=0)
            if due > ready:
                ready, cause = due, "LDGSTS"
        if cause:
            waited[cause] += ready - now
        ready = max(ready, issue[scheduler], fp_pipe[scheduler] if i.base in ("FFMA", "FMUL", "FADD") else 0)
        if ready > now:
            heapq.heappush(queue, (ready, warp))
            continue
        issue[scheduler] = now + 1
        if i.base in ("FFMA", "FMUL", "FADD"):
            fp_pipe[scheduler] = now + device.fp32_interval
        done = now + latency
        if wavefronts:
            start = max(now + 4, port)
            port, done = start + wavefronts, start + wavefronts - 1 + latency
        if i.base == "LDGSTS":
            group_done[warp] = max(group_done[warp], done)
        if i.base == "LDGDEPBAR":
            groups[warp].append(group_done[warp])
        if i.sets != NO_SCOREBOARD:
            boards[warp][i.sets] = max(boards[warp][i.sets], (done, i.base))
        if i.reads != NO_SCOREBOARD:
            boards[warp][i.reads] = max(boards[warp][i.reads], (now + 14 + wavefronts, "operands"))
        at[warp] += 1
        if i.base == "BAR":
            block = arrived[warp // warps_per_block]
            block.append((now + i.stall, warp))
            if len(block) == warps_per_block:
                for _, other in block:
                    heapq.heappush(queue, (max(block)[0] + BARRIER_CYCLES, other))
                block.clear()
        else:
            heapq.heappush(queue, (now + i.stall, warp))
    return now, {cause: cycles / warps for cause, cycles in waited.items()}


def loop_cycles(body, *rest):
    """Of one iteration in the steady state, and the waits in it."""
    few, many = (5, 9) if any(i.base == "LDGSTS" for i in body) else (2, 5)
    (short, waits_short), (long, waits_long) = (simulate(body * n, *rest) for n in (few, many))
    return (long - short) / (many - few), {c: (w - waits_short.get(c, 0)) / (many - few) for c, w in waits_long.items()}


def straighten(code, labels, trips):
    """The whole kernel as straight code: backward branches taken `trips` times in all, conditional
    forward ones never."""
    path, pc, taken = [], 0, collections.Counter()
    while pc < len(code) and len(path) < 60000:
        i, target, here = code[pc], labels.get(code[pc].target), pc
        path.append(i)
        may_pass = conditional(i)
        taken[here] += 1
        if not may_pass and (i.base == "EXIT" or target is not None and target <= here):
            break
        pc = target if target is not None and (taken[here] < trips if target <= here else not may_pass) else here + 1
    return path


def occupancy(resources, dynamic, threads, device):
    warps = -(-threads // 32)
    shared = -(-(resources["static"] + dynamic + RESERVED_SHARED) // 128) * 128
    register_warps = 65536 // (-(-resources["registers"] * 32 // 256) * 256) // 4 * 4
    return min(register_warps // warps, device.shared_per_sm // shared, device.threads_per_sm // 32 // warps, device.blocks_per_sm)


class Kernel:
    """A compiled kernel at one block size, and what a part of it costs with some number of blocks on
    an SM."""

    def __init__(self, name, compiled, threads, dynamic, device, cold):
        self.name, self.threads, self.dynamic, self.device, self.warps = name, threads, dynamic, device, -(-threads // 32)
        code, labels, resources = compiled
        self.resources = {k: v for k, v in resources.items() if k != "shared"}
        self.resources["static"] = max(0, resources["shared"] - (RESERVED_SHARED if device.arch == "sm_90" else 0))
        self.blocks_per_sm = occupancy(self.resources, dynamic, threads, device)
        if self.blocks_per_sm < 1:
            raise Failure(f"{name}: not even one block fits an SM")
        self.code, self.loops, self.live = code, main_loops(code, labels), follow(0, successors(code, labels))
        self.bodies = [[code[at] for at in members] for members in self.loops]
        self.load_cycles = device.dram_cycles if cold else device.l2_cycles
        run = lambda path, blocks: simulate(path, self.warps, blocks, device, self.load_cycles)[0]
        self.iteration = functools.cache(
            lambda blocks, loop=0: loop_cycles(self.bodies[loop], self.warps, blocks, device, self.load_cycles)[0]
        )
        self.straight = functools.cache(lambda blocks, trips=1: 250 + run(straighten(code, labels, trips), blocks))
        tail = code[max((members[-1] for members in self.loops), default=-1) + 1 :]  # the epilogue, up to EXIT
        tail = tail[: next((at for at, i in enumerate(tail) if i.base == "EXIT" and not conditional(i)), len(tail) - 1) + 1]
        self.around = functools.cache(
            lambda blocks: 210 + self.load_cycles + min(*(m[0] for m in self.loops), 500) * 0.8 + run(tail, blocks)
        )

    def pairs(self, trips):
        """(trips, loop): of the heaviest loop, or, of several, in the order of the machine code."""
        return (
            zip(trips, [0] if len(trips) == 1 else sorted(range(len(self.loops)), key=lambda loop: self.loops[loop][0]))
            if self.loops
            else ()
        )

    def cycles(self, blocks, trips):  # launch, prologue with the first loads, loops, epilogue
        if not self.loops or max(trips) <= 1:
            return self.straight(blocks)
        return self.around(blocks) + sum(n * self.iteration(blocks, loop) for n, loop in self.pairs(trips))

    def group_cycles(self, each):
        """Until blocks of these trips, in this order, are done: each starts on the SM with fewest blocks,
        and the blocks of an SM share it equally. Prologue and epilogue count as some more trips."""
        if not self.loops or max(each) <= 1:
            return self.waves(len(each), lambda n: self.cycles(n, [max(each)]))
        sms = self.device.sms
        fit = min(self.blocks_per_sm, -(-len(each) // sms))
        more, waiting, events = self.around(fit) / self.iteration(fit), collections.deque(each[sms * fit :]), []
        goals = [sorted(trips + more for trips in each[sm : sms * fit : sms]) for sm in range(min(sms, len(each)))]
        done = [0] * len(goals)  # trips that every block of the SM would have done had it been there from the beginning
        plan = lambda now, sm: heapq.heappush(events, (now + (goals[sm][0] - done[sm]) * self.iteration(len(goals[sm])), sm))
        for sm in range(len(goals)):
            plan(0, sm)
        while events:
            now, ended = events[0][0], set()
            while events and events[0][0] <= now * 1.000001:
                ended.add(sm := heapq.heappop(events)[1])
                done[sm] = goals[sm][0]
                goals[sm] = [goal for goal in goals[sm] if goal > done[sm] * 1.000001]
            while waiting and len(goals[sm := min(ended, key=lambda sm: len(goals[sm]))]) < fit:
                heapq.heappush(goals[sm], done[sm] + waiting.popleft() + more)
            for sm in ended:
                if goals[sm]:
                    plan(now, sm)
        return now

    def waves(self, total, cycles):
        """One after the other: `cycles(n)` for n blocks on an SM."""
        full, rest = divmod(total, self.device.sms * self.blocks_per_sm)
        return (full * cycles(self.blocks_per_sm) if full else 0) + (cycles(-(-rest // self.device.sms)) if rest else 0)

    def multiply_adds(self, trips):
        """That a block of these trips executes: what is outside the loops counts once."""
        once = lambda members: sum(multiply_adds(self.code[at]) for at in members)
        return self.warps * (once(self.live) + sum((max(1, n) - 1) * once(self.loops[loop]) for n, loop in self.pairs(trips)))

    def main_loop(self):
        """Of the heaviest loop: its instructions by kind; the distance from global loads to their
        first use, and a lone warp's waits, which show what the order of instructions exposes; the
        cycles of an iteration with 1, 2 and 4 blocks on an SM. None without a loop."""
        if not self.loops:
            return None
        body = self.bodies[0]
        alone, waits = loop_cycles(body, 1, 1, self.device, self.load_cycles)
        return dict(
            loop=dict(instructions=len(body), **collections.Counter(map(kind, body))),
            late_load=late_load(body),
            lds_wait=waits.get("LDS", 0) / alone,
            global_wait=(waits.get("LDG", 0) + waits.get("LDGSTS", 0)) / alone,
            cycles_per_step={str(n): round(self.iteration(n)) for n in (1, 2, 4) if n <= self.blocks_per_sm},
        )
