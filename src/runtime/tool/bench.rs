//! Benchmarks: interleaved runs, their spread, and the noise of the method.
//!
//! * *Interleaved*: each round runs every variant once, in an order that rotates by one each round.
//!   So clock changes affect all variants alike.
//! * *Noise*: one plan takes part twice (A/A). Without noise, the medians of both halves of both
//!   series would be equal. The noise is their largest relative difference. A smaller difference
//!   between two variants counts as none.
//! * *Percentiles* are of single inferences, by the nearest rank.

use super::super::error::Result;
use super::super::timing::{Span, StepKind, Timing};

/// The timings of one variant, round by round.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// One timing per round.
    pub timings: Vec<Timing>,
}

/// Statistics of a series, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// Half of the inferences took at most this long.
    pub median: u64,
    /// 95 % of them.
    pub p95: u64,
    /// 99 % of them.
    pub p99: u64,
    /// The shortest.
    pub min: u64,
    /// The mean.
    pub mean: u64,
}

/// Runs `variants` in turn: `warm_up` rounds that do not count, then `rounds` that do.
pub fn interleave(variants: &[String], warm_up: usize, rounds: usize, mut run: impl FnMut(usize) -> Result<Timing>) -> Result<Vec<Series>> {
    let mut all: Vec<Series> = variants.iter().map(|name| Series { name: name.clone(), timings: Vec::new() }).collect();
    for round in 0..warm_up + rounds {
        for turn in 0..all.len() {
            let who = (turn + round) % all.len();
            let timing = run(who)?;
            if round >= warm_up {
                all[who].timings.push(timing);
            }
        }
    }
    Ok(all)
}

impl Statistics {
    /// The statistics of `times`; `None` if there are none.
    pub fn of(mut times: Vec<u64>) -> Option<Statistics> {
        times.sort_unstable();
        let (&min, count) = (times.first()?, times.len());
        let rank = |percent: usize| times[(count * percent).div_ceil(100).clamp(1, count) - 1];
        let mean = (times.iter().map(|&t| u128::from(t)).sum::<u128>() / count as u128) as u64;
        Some(Statistics { median: rank(50), p95: rank(95), p99: rank(99), min, mean })
    }
}

impl Series {
    /// Statistics of the host's times.
    pub fn host(&self) -> Option<Statistics> {
        Statistics::of(self.timings.iter().map(|t| t.host).collect())
    }

    /// Statistics of the device's times.
    pub fn device(&self) -> Option<Statistics> {
        Statistics::of(self.timings.iter().map(|t| t.device).collect())
    }
}

/// The noise of the method, as a fraction: the largest relative difference between the medians of
/// the halves of two series of the same variant.
pub fn noise(a: &Series, b: &Series) -> f64 {
    let halves = [a, b].into_iter().flat_map(|series| {
        let (first, second) = series.timings.split_at(series.timings.len() / 2);
        [first, second].map(|half| Statistics::of(half.iter().map(|t| t.host).collect()).map(|f| f.median))
    });
    let medians: Vec<u64> = halves.flatten().collect();
    let (low, high) = (medians.iter().min().copied().unwrap_or(0), medians.iter().max().copied().unwrap_or(0));
    if low == 0 { 0.0 } else { (high - low) as f64 / low as f64 }
}

/// Each series relative to the first one, as a table and as JSON. `noise` is that of the A/A run.
pub fn report(series: &[Series], noise: f64, remarks: &[String]) -> (String, String) {
    let mut table = format!(
        "{:28} {:>10} {:>10} {:>10} {:>10} {:>11} {:>8}  {}\n",
        "us", "median", "95 %", "99 %", "on device", "inferences/s", "ratio", "difference"
    );
    let mut rows = Vec::new();
    let base = series.first().and_then(Series::host).map_or(0, |f| f.median);
    for one in series {
        let (Some(host), Some(device)) = (one.host(), one.device()) else { continue };
        let ratio = host.median as f64 / base.max(1) as f64;
        let verdict = match ratio - 1.0 {
            apart if apart.abs() <= noise => "none",
            apart if apart < 0.0 => "faster",
            _ => "slower",
        };
        let rate = 1e9 / host.mean.max(1) as f64;
        let us = |t: u64| format!("{:.1}", t as f64 / 1e3);
        table += &format!(
            "{:28} {:>10} {:>10} {:>10} {:>10} {rate:>11.1} {ratio:>8.3}  {verdict}\n",
            one.name,
            us(host.median),
            us(host.p95),
            us(host.p99),
            us(device.median)
        );
        let raw = |of: fn(&Timing) -> u64| one.timings.iter().map(|t| of(t).to_string()).collect::<Vec<_>>().join(",");
        rows.push(format!(
            "{{\"name\":{},\"median_ns\":{},\"p95_ns\":{},\"p99_ns\":{},\"mean_ns\":{},\"device_median_ns\":{},\"ratio\":{ratio:.6},\"difference\":\"{verdict}\",\"host_ns\":[{}],\"device_ns\":[{}]}}",
            quoted(&one.name),
            host.median,
            host.p95,
            host.p99,
            host.mean,
            device.median,
            raw(|t| t.host),
            raw(|t| t.device)
        ));
    }
    table += &format!("noise of the method (A/A): {:.2} %; a smaller difference counts as none\n", noise * 100.0);
    remarks.iter().for_each(|remark| table += &format!("{remark}\n"));
    let remarks: Vec<String> = remarks.iter().map(|remark| quoted(remark)).collect();
    (table, format!("\"noise\":{noise:.6},\"remarks\":[{}],\"series\":[{}]", remarks.join(","), rows.join(",")))
}

/// When a step should run, in nanoseconds since the inference began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prediction<Name> {
    /// What it does.
    pub kind: StepKind,
    /// The operator's or tensor's ONNX name.
    pub label: Name,
    /// The logical GPU.
    pub gpu: usize,
    /// The stream, by number.
    pub stream: usize,
    /// For a launch: GPU and index of its stage.
    pub stage: Option<(usize, usize)>,
    /// Predicted start.
    pub start: u64,
    /// Predicted end.
    pub end: u64,
}

/// Predicted and measured duration of a stage, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageTiming {
    /// The logical GPU.
    pub gpu: usize,
    /// Its index on that GPU.
    pub index: usize,
    /// Operators in it.
    pub operators: usize,
    /// The predicted duration.
    pub predicted: u64,
    /// From the start of its first launch to the end of its last: the median of several runs.
    pub measured: u64,
}

/// Durations of the stages, over several traces.
pub fn stages<Name>(predictions: &[Prediction<Name>], traces: &[Vec<Span>]) -> Vec<StageTiming> {
    let mut keys: Vec<(usize, usize)> = predictions.iter().filter_map(|p| p.stage).collect();
    keys.sort();
    keys.dedup();
    let within = |times: &mut dyn Iterator<Item = (u64, u64)>| {
        let (start, end) = times.fold((u64::MAX, 0), |(start, end), (s, e)| (start.min(s), end.max(e)));
        end.saturating_sub(start)
    };
    let stage = |(gpu, index)| {
        let own = |p: &&Prediction<Name>| p.stage == Some((gpu, index));
        let predicted = within(&mut predictions.iter().filter(own).map(|p| (p.start, p.end)));
        let one = |trace: &Vec<Span>| {
            let pairs = predictions.iter().zip(trace).filter(|(p, _)| p.stage == Some((gpu, index)));
            within(&mut pairs.map(|(_, span)| (span.start, span.end)))
        };
        let measured = Statistics::of(traces.iter().map(one).collect()).map_or(0, |f| f.median);
        StageTiming { gpu, index, operators: predictions.iter().filter(own).count(), predicted, measured }
    };
    keys.into_iter().map(stage).collect()
}

/// The stages as a table, and as JSON.
pub fn stage_report(stages: &[StageTiming]) -> (String, String) {
    let mut table = format!("{:14} {:>9} {:>12} {:>12} {:>8}\n", "stage, us", "operators", "predicted", "measured", "ratio");
    let mut rows = Vec::new();
    for StageTiming { gpu, index, operators, predicted, measured } in stages {
        let ratio = *measured as f64 / (*predicted).max(1) as f64;
        let [p, m] = [predicted, measured].map(|&t| t as f64 / 1e3);
        table += &format!("{:14} {operators:>9} {p:>12.1} {m:>12.1} {ratio:>8.2}\n", format!("gpu{gpu} {index}"));
        rows.push(format!(
            "{{\"gpu\":{gpu},\"stage\":{index},\"operators\":{operators},\"predicted_ns\":{predicted},\"measured_ns\":{measured}}}"
        ));
    }
    (table, format!("\"stages\":[{}]", rows.join(",")))
}

/// Predicted and measured, side by side, in the Trace Event Format, which Perfetto and
/// chrome://tracing read. One process per GPU and side, one thread per stream. Times are
/// microseconds.
pub fn chrome_trace<Name: AsRef<str>>(predictions: &[Prediction<Name>], spans: &[Span], remark: &str) -> String {
    let mut events = Vec::new();
    let mut named = Vec::new();
    for (side, offset) in [("measured", 0), ("predicted", 1000)] {
        for (p, span) in predictions.iter().zip(spans) {
            let (start, end) = if offset == 0 { (span.start, span.end) } else { (p.start, p.end) };
            let (process, thread) = (p.gpu + offset, p.stream);
            if !named.contains(&(process, None)) {
                named.push((process, None));
                let name = quoted(&format!("gpu{} {side}", p.gpu));
                events.push(format!("{{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":{process},\"args\":{{\"name\":{name}}}}}"));
            }
            if !named.contains(&(process, Some(thread))) {
                named.push((process, Some(thread)));
                let name = format!("{{\"name\":\"stream {thread}\"}}");
                events.push(format!("{{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":{process},\"tid\":{thread},\"args\":{name}}}"));
            }
            let category = match p.kind {
                StepKind::Upload => "upload",
                StepKind::Launch => "operator",
                StepKind::Copy => "transfer",
                StepKind::Download => "download",
            };
            let stage = p.stage.map_or(String::new(), |(_, stage)| format!("\"stage\":{stage}"));
            let [at, long] = [start, end.saturating_sub(start)].map(|t| t as f64 / 1e3);
            let name = quoted(p.label.as_ref());
            events.push(format!(
                "{{\"ph\":\"X\",\"name\":{name},\"cat\":\"{category}\",\"pid\":{process},\"tid\":{thread},\"ts\":{at:.3},\"dur\":{long:.3},\"args\":{{{stage}}}}}"
            ));
        }
    }
    format!("{{\"displayTimeUnit\":\"ns\",\"otherData\":{{\"remark\":{}}},\"traceEvents\":[\n{}\n]}}\n", quoted(remark), events.join(",\n"))
}

/// A JSON string.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if (c as u32) < 32 => out += &format!("\\u{:04x}", c as u32),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(times: &[u64]) -> Series {
        Series { name: "s".into(), timings: times.iter().map(|&host| Timing { host, device: host / 2 }).collect() }
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let f = Statistics::of((1..=100).rev().collect()).unwrap();
        assert_eq!((f.median, f.p95, f.p99, f.min, f.mean), (50, 95, 99, 1, 50));
        assert_eq!(Statistics::of(vec![7]).map(|f| (f.median, f.p99)), Some((7, 7)));
        assert_eq!(Statistics::of(Vec::new()), None);
    }

    #[test]
    fn a_difference_below_the_noise_is_none() {
        let (a, b) = (series(&[100, 100, 104, 104]), series(&[100, 100, 102, 102]));
        assert!((noise(&a, &b) - 0.04).abs() < 1e-9);
        let (table, json) = report(&[a, series(&[103; 4]), series(&[90; 4]), series(&[120; 4])], 0.04, &["\"virtual\"".into()]);
        let verdicts: Vec<&str> = table.lines().skip(1).take(4).map(|line| line.rsplit(' ').next().unwrap()).collect();
        assert_eq!(verdicts, ["none", "none", "faster", "slower"], "{table}");
        assert!(json.contains("\"remarks\":[\"\\\"virtual\\\"\"]") && json.contains("\"host_ns\":[90,90,90,90]"), "{json}");
    }

    #[test]
    fn contestants_take_turns() {
        let mut turns = Vec::new();
        let names = ["a".to_string(), "b".into(), "c".into()];
        let all = interleave(&names, 1, 2, |who| {
            turns.push(who);
            Ok(Timing { host: who as u64, device: 0 })
        });
        assert_eq!(turns, [0, 1, 2, 1, 2, 0, 2, 0, 1]);
        assert!(all.unwrap().iter().enumerate().all(|(who, s)| s.timings.iter().all(|t| t.host == who as u64) && s.timings.len() == 2));
    }

    #[test]
    fn stages_are_measured_from_first_launch_to_last_end() {
        let p =
            |stage, start, end| Prediction { kind: StepKind::Launch, label: "x\"", gpu: 0, stream: 0, stage: Some((0, stage)), start, end };
        let s = |start, end| Span { kind: StepKind::Launch, gpu: 0, stream: 0, start, end };
        let predictions = [p(0, 0, 10), p(0, 0, 20), p(1, 20, 30)];
        let traces = vec![vec![s(0, 12), s(3, 30), s(31, 40)]; 3];
        let found = stages(&predictions, &traces);
        assert_eq!(found.iter().map(|s| (s.operators, s.predicted, s.measured)).collect::<Vec<_>>(), [(2, 20, 30), (1, 10, 9)]);
        let trace = chrome_trace(&predictions, &traces[0], "r");
        assert_eq!((trace.matches("\"ph\":\"X\"").count(), trace.matches("\"name\":\"x\\\"\"").count()), (6, 6), "{trace}");
    }
}
