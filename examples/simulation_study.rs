//! Repeats the HIOS paper's simulation study: random layered graphs, one parameter varied at a time, all algorithms compared.
//!
//! ```text
//! cargo run --release --example simulation_study -- docs/simulation [GRAPHS A POINT] [EFFORT OF best]
//! ```
//!
//! Writes `study.csv` and one plot a sweep. The graphs come from the seeded generator below, so the same arguments write the same files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use hiosc::schedule::{Algorithm, Effort, LinkMode, Options, Problem, evaluate, schedule_with, verify};

/// One point of a sweep. The default values are the paper's.
#[derive(Clone, Copy)]
struct Point {
    nodes: usize,
    edges: usize,
    layers: usize,
    /// Transfer time in parts of the reader's time.
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

/// splitmix64.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A layered graph: every operator but those of the first layer reads one of the layer before; further edges go from any layer to any later one.
/// Ids are topological. Times are 0.1 to 4 ms, utilisations 0.6 to 1, as in the published graphs.
fn graph(point: Point, seed: u64) -> String {
    let mut draw = Draw(seed);
    let n = point.nodes;
    let layer = |op: usize| op * point.layers / n;
    let first = |layer: usize| (layer * n).div_ceil(point.layers);
    let times: Vec<f64> = (0..n).map(|_| draw.between(0.1, 4.0)).collect();
    let mut edges = BTreeSet::new();
    for op in first(1)..n {
        let before = layer(op) - 1;
        edges.insert((first(before) + draw.below(first(before + 1) - first(before)), op));
    }
    while edges.len() < point.edges {
        let (a, b) = (draw.below(n), draw.below(n));
        if layer(a) < layer(b) {
            edges.insert((a, b));
        }
    }
    let mut text = format!("{n}\n");
    for (op, time) in times.iter().enumerate() {
        let _ = writeln!(text, "{op} {time:.6} {:.4}", draw.between(0.6, 1.0));
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
    let graphs: u64 = arguments.next().map_or(Ok(5), |n| n.parse())?;
    let effort: Effort = arguments.next().map_or(Ok(Effort::Low), |e| e.parse())?;
    let options = Options { effort, ..Options::default() };
    std::fs::create_dir_all(&folder)?;

    let mut csv = String::from("sweep,value,algorithm,graphs,mean_latency_ms,mean_speed_up\n");
    for (name, label, points) in sweeps() {
        let mut curves: BTreeMap<Algorithm, Vec<(f64, f64)>> = BTreeMap::new();
        for (x, point) in points {
            let mut sums = [(0.0, 0.0); ALGORITHMS.len()];
            for seed in 0..graphs {
                let problem = Problem::from_dag_text(&graph(point, seed), point.gpus, LinkMode::Free)?;
                let sequential = problem.time.iter().map(|row| row[0]).sum::<u64>() as f64;
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
                curves.entry(algorithm).or_default().push((x, latency));
            }
        }
        std::fs::write(folder.join(format!("{name}.svg")), plot(label, &curves))?;
        println!("{}", Path::new(&folder).join(format!("{name}.svg")).display());
    }
    std::fs::write(folder.join("study.csv"), csv)?;
    Ok(())
}

/// Mean latency over the parameter, a line an algorithm.
fn plot(label: &str, curves: &BTreeMap<Algorithm, Vec<(f64, f64)>>) -> String {
    let (width, height, left, top) = (560.0, 300.0, 60.0, 20.0);
    let points: Vec<(f64, f64)> = curves.values().flatten().copied().collect();
    let low = points.iter().map(|p| p.0).fold(f64::INFINITY, f64::min);
    let high = points.iter().map(|p| p.0).fold(f64::NEG_INFINITY, f64::max);
    let most = points.iter().map(|p| p.1).fold(1.0, f64::max);
    let x = |value: f64| left + width * (value - low) / (high - low).max(1e-9);
    let y = |value: f64| top + height * (1.0 - value / most);
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 760 370\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"760\" height=\"370\" fill=\"white\"/>\n",
    );
    let bottom = top + height;
    let _ = writeln!(svg, "<path d=\"M{left} {top}V{bottom}H{}\" fill=\"none\" stroke=\"black\"/>", left + width);
    let mut ticks: Vec<f64> = curves.values().next().into_iter().flatten().map(|p| p.0).collect();
    ticks.dedup();
    for tick in ticks {
        let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{tick}</text>", x(tick), bottom + 16.0);
    }
    for part in 0..=4 {
        let value = most * f64::from(part) / 4.0;
        let _ = writeln!(svg, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value:.0}</text>", left - 6.0, y(value) + 4.0);
    }
    let _ = writeln!(svg, "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{label}</text>", left + width / 2.0, bottom + 36.0);
    let _ = writeln!(svg, "<text x=\"{}\" y=\"14\">mean latency, ms</text>", left + 6.0);
    for (index, algorithm) in ALGORITHMS.into_iter().enumerate() {
        let line: Vec<String> = curves.get(&algorithm).into_iter().flatten().map(|&(a, b)| format!("{:.1},{:.1}", x(a), y(b))).collect();
        let _ = writeln!(svg, "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>", line.join(" "), COLOURS[index]);
        let at = top + 14.0 + 18.0 * index as f64;
        let _ = writeln!(svg, "<path d=\"M640 {}h20\" stroke=\"{}\" stroke-width=\"2\"/>", at - 4.0, COLOURS[index]);
        let _ = writeln!(svg, "<text x=\"666\" y=\"{at}\">{algorithm}</text>");
    }
    svg + "</svg>\n"
}
