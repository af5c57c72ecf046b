//! Repeats the HIOS paper's simulation study: random layered graphs, one parameter varied at a
//! time, all algorithms compared.
//!
//! ```text
//! cargo run --release --example simulation_study -- docs/simulation [GRAPHS_PER_POINT] [EFFORT]
//! ```
//!
//! Writes `study.csv` and one plot per sweep. EFFORT is that of `best`. The graphs come from a
//! seeded generator, so the same arguments write the same files. With 0 graphs per point, it only
//! redraws the plots from the existing table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use hiosc::schedule::{Algorithm, Effort, LinkMode, Problem, ScheduleOptions, evaluate, schedule_with, verify};
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// One point of a sweep. The default values are the paper's.
#[derive(Clone, Copy)]
struct Point {
    nodes: usize,
    edges: usize,
    layers: usize,
    /// Transfer time, relative to the reader's time.
    ratio: f64,
    gpus: usize,
}

const DEFAULT: Point = Point { nodes: 200, edges: 400, layers: 14, ratio: 0.8, gpus: 4 };

const ALGORITHMS: [Algorithm; 8] = [
    Algorithm::Ios,
    Algorithm::IntraGpu,
    Algorithm::InterMr,
    Algorithm::HiosMr,
    Algorithm::InterLp,
    Algorithm::HiosLp,
    Algorithm::Heft,
    Algorithm::Best,
];

const COLOURS: [&str; 8] = ["#999999", "#c49c6b", "#9ecae1", "#3182bd", "#a1d99b", "#31a354", "#756bb1", "#d62728"];

type Sweep = (&'static str, &'static str, Vec<(f64, Point)>);

fn sweeps() -> Vec<Sweep> {
    let of = |values: &[f64], set: &dyn Fn(&mut Point, f64)| {
        let point = |&x: &f64| {
            let mut point = DEFAULT;
            set(&mut point, x);
            (x, point)
        };
        values.iter().map(point).collect()
    };
    vec![
        ("nodes", "operators", of(&[100.0, 200.0, 300.0, 400.0], &|p, x| (p.nodes, p.edges) = (x as usize, 2 * x as usize))),
        ("layers", "layers", of(&[6.0, 10.0, 14.0, 18.0, 22.0], &|p, x| p.layers = x as usize)),
        ("edges", "dependencies", of(&[400.0, 450.0, 500.0, 550.0, 600.0], &|p, x| p.edges = x as usize)),
        ("ratio", "transfer time / operator time", of(&[0.4, 0.6, 0.8, 1.0, 1.2], &|p, x| p.ratio = x)),
        ("gpus", "GPUs", of(&[2.0, 4.0, 6.0, 8.0, 10.0, 12.0], &|p, x| p.gpus = x as usize)),
    ]
}

/// A random number below `limit`.
fn below(rng: &mut SplitMix64, limit: usize) -> usize {
    (rng.next_u64() % limit as u64) as usize
}

/// A random number in [low, high).
fn between(rng: &mut SplitMix64, low: f64, high: f64) -> f64 {
    low + (high - low) * (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// A layered graph. Every operator but those of the first layer reads one of the previous layer.
/// Further edges go from any layer to any later one. Ids are topological. Times are 0.1 to 4 ms and
/// utilisations 0.6 to 1, as in the published graphs.
fn graph(point: Point, seed: u64) -> String {
    let mut rng = SplitMix64::seed_from_u64(seed);
    let n = point.nodes;
    let layer = |op: usize| op * point.layers / n;
    let first = |layer: usize| (layer * n).div_ceil(point.layers);
    let times: Vec<f64> = (0..n).map(|_| between(&mut rng, 0.1, 4.0)).collect();
    let mut edges = BTreeSet::new();
    for op in first(1)..n {
        let before = layer(op) - 1;
        edges.insert((first(before) + below(&mut rng, first(before + 1) - first(before)), op));
    }
    while edges.len() < point.edges {
        let (a, b) = (below(&mut rng, n), below(&mut rng, n));
        if layer(a) < layer(b) {
            edges.insert((a, b));
        }
    }
    let mut text = format!("{n}\n");
    for (op, time) in times.iter().enumerate() {
        let _ = writeln!(text, "{op} {time:.6} {:.4}", between(&mut rng, 0.6, 1.0));
    }
    let _ = writeln!(text, "{}", edges.len());
    for (from, to) in edges {
        let _ = writeln!(text, "{from} {to} {:.6}", point.ratio * times[to]);
    }
    text
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| "docs/simulation".into()));
    let graphs: u64 = arguments.next().map_or(Ok(10), |n| n.parse())?;
    let effort: Effort = arguments.next().map_or(Ok(Effort::Default), |e| e.parse())?;
    std::fs::create_dir_all(&folder)?;
    let table = folder.join("study.csv");
    if graphs > 0 {
        std::fs::write(&table, study(graphs, effort)?)?;
    }
    let csv = std::fs::read_to_string(&table)?;
    for (name, label, _) in sweeps() {
        std::fs::write(folder.join(format!("{name}.svg")), plot(label, &curves(&csv, name)?))?;
    }
    Ok(())
}

/// One line per sweep, value and algorithm.
fn study(graphs: u64, effort: Effort) -> Result<String, Box<dyn std::error::Error>> {
    let options = ScheduleOptions::default().effort(effort);
    let mut csv = String::from("sweep,value,algorithm,graphs,mean_latency_ms,mean_speed_up\n");
    for (name, _, points) in sweeps() {
        for (x, point) in points {
            let mut sums = [(0.0, 0.0); ALGORITHMS.len()];
            for seed in 0..graphs {
                let problem = Problem::from_dag_text(&graph(point, seed), point.gpus, LinkMode::Free)?;
                let sequential = problem.sequential_latency() as f64;
                for (algorithm, sum) in ALGORITHMS.into_iter().zip(&mut sums) {
                    let schedule = schedule_with(&problem, algorithm, &options)?.schedule;
                    let timeline = evaluate(&problem, &schedule)?;
                    verify(&problem, &schedule, &timeline)?;
                    sum.0 += timeline.latency as f64 / 1e6;
                    sum.1 += sequential / timeline.latency as f64;
                }
            }
            for (algorithm, (latency, speed_up)) in ALGORITHMS.into_iter().zip(sums) {
                let (latency, speed_up) = (latency / graphs as f64, speed_up / graphs as f64);
                let _ = writeln!(csv, "{name},{x},{algorithm},{graphs},{latency:.3},{speed_up:.4}");
            }
        }
    }
    Ok(csv)
}

/// (value, mean speed-up) pairs of each algorithm.
type Curves = BTreeMap<Algorithm, Vec<(f64, f64)>>;

fn curves(csv: &str, sweep: &str) -> Result<Curves, Box<dyn std::error::Error>> {
    let mut curves = Curves::new();
    for row in csv.lines().map(|line| line.split(',').collect::<Vec<_>>()).filter(|row| row[0] == sweep) {
        curves.entry(row[2].parse()?).or_default().push((row[1].parse()?, row[5].parse()?));
    }
    Ok(curves)
}

/// Mean speed-up over the parameter, one line per algorithm. Those for one GPU are far below the
/// others and are in the table only.
fn plot(label: &str, curves: &Curves) -> String {
    let (width, height, left, top) = (560.0, 300.0, 60.0, 20.0);
    let shown: Vec<_> = ALGORITHMS.into_iter().zip(COLOURS).filter(|(algorithm, _)| !algorithm.one_gpu()).collect();
    let of = |algorithm: Algorithm| curves.get(&algorithm).into_iter().flatten().copied();
    let points: Vec<(f64, f64)> = shown.iter().flat_map(|&(algorithm, _)| of(algorithm)).collect();
    let low = points.iter().map(|p| p.0).fold(f64::INFINITY, f64::min);
    let high = points.iter().map(|p| p.0).fold(f64::NEG_INFINITY, f64::max);
    let least = points.iter().map(|p| p.1).fold(f64::INFINITY, f64::min).floor();
    let most = points.iter().map(|p| p.1).fold(1.0, f64::max).ceil();
    let x = |value: f64| left + width * (value - low) / (high - low).max(1e-9);
    let y = |value: f64| top + height * (1.0 - (value - least) / (most - least));
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 760 370\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"760\" height=\"370\" fill=\"white\"/>\n",
    );
    let bottom = top + height;
    let _ = writeln!(svg, "<path d=\"M{left} {top}V{bottom}H{}\" fill=\"none\" stroke=\"black\"/>", left + width);
    for (tick, _) in of(Algorithm::Best) {
        let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{tick}</text>", x(tick), bottom + 16.0);
    }
    for part in 0..=4 {
        let value = least + (most - least) * f64::from(part) / 4.0;
        let _ = writeln!(svg, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value:.2}</text>", left - 6.0, y(value) + 4.0);
    }
    let _ = writeln!(svg, "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{label}</text>", left + width / 2.0, bottom + 36.0);
    let _ = writeln!(svg, "<text x=\"{}\" y=\"14\">mean speed-up over sequential</text>", left + 6.0);
    for (index, (algorithm, colour)) in shown.iter().enumerate() {
        let line: Vec<String> = of(*algorithm).map(|(a, b)| format!("{:.1},{:.1}", x(a), y(b))).collect();
        let _ = writeln!(svg, "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>", line.join(" "), colour);
        let at = top + 14.0 + 18.0 * index as f64;
        let _ = writeln!(svg, "<path d=\"M640 {}h20\" stroke=\"{}\" stroke-width=\"2\"/>", at - 4.0, colour);
        let _ = writeln!(svg, "<text x=\"666\" y=\"{at}\">{algorithm}</text>");
    }
    svg + "</svg>\n"
}
