"""The tables of docs/benchmarks.md from a folder of raw results: summary.py results"""

import glob
import json
import os
import sys

MODELS = ["inception_v3", "nasnetalarge.folded", "randwire_ws32", "squeezenet1_1", "resnet50", "ddddocr_det_yolox"]
MISSING = "not measured"


def load(path):
    try:
        with open(path) as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def virtual(bench):
    return any("virtual" in remark for remark in (bench or {}).get("remarks", []))


def figure(bench, name):
    if not bench or virtual(bench):
        return None
    return next((s["median_ns"] for s in bench["series"] if s["name"] == name), None)


def cell(nanoseconds):
    return MISSING if nanoseconds is None else f"{nanoseconds / 1e3:.1f}"


def median(values):
    return sorted(values)[len(values) // 2] if values else None


def main(folder):
    print("| model | eager | CUDA graph | reduce-overhead | max-autotune | hiosc sequential | hiosc best | best / sequential | noise |")
    print("|---|---|---|---|---|---|---|---|---|")
    for model in MODELS:
        result = load(os.path.join(folder, f"{model}.torch.json")) or {}
        bench = result.get("hiosc")
        times = {} if virtual(bench) else result.get("pytorch_ns", {})
        ways = ["eager", "CUDA graph", "torch.compile reduce-overhead", "torch.compile max-autotune"]
        sequential, best = (figure(bench, f"{name} graph, resident") for name in ("sequential", "best"))
        ratio = f"{best / sequential:.3f}" if sequential and best else MISSING
        noise = f"{bench['noise'] * 100:.1f} %" if sequential else MISSING
        row = [cell(median(times.get(way))) for way in ways] + [cell(sequential), cell(best), ratio, noise]
        print(f"| {model} | {' | '.join(row)} |")
    print("\n| model | plan | predicted, us | measured, us | ratio | with stage barriers |\n|---|---|---|---|---|---|")
    for model in MODELS:
        plain, barriers = (load(os.path.join(folder, f"{model}.bench{b}.json")) for b in ("", "--stage-barriers"))
        ends = {} if not barriers or virtual(barriers) else {e["name"]: e for e in barriers["end_to_end"]}
        rows = [] if not plain or virtual(plain) else [e for e in plain["end_to_end"] if e["name"] in ("sequential", plain["chosen"])]
        for end in rows:
            ratio = lambda e: f"{e['measured_ns'] / max(e['predicted_ns'], 1):.2f}" if e else MISSING
            name = end["name"]
            print(f"| {model} | {name} | {cell(end['predicted_ns'])} | {cell(end['measured_ns'])} | {ratio(end)} | {ratio(ends.get(name))} |")
        if not rows:
            print(f"| {model} | {MISSING} | {MISSING} | {MISSING} | {MISSING} | {MISSING} |")
    checks = [line.rstrip("\n").split("\t") for path in glob.glob(os.path.join(folder, "check.tsv")) for line in open(path)]
    passed = sum(1 for c in checks if c[2] == "PASS")
    print(f"\ncorrectness: {passed} of {len(checks)} checks passed")
    for name, placement, verdict, *_ in checks:
        if verdict != "PASS":
            print(f"* {name}, {placement}: {verdict}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "results")
