//! Checks the schedulers on the published scheduling graphs: prints the value required, the value
//! reached, and whether it is enough.
//!
//! ```text
//! cargo run --release --example published_graphs -- FOLDER [--high] [--seed N] [--quick] [--times]
//! cargo run --release --example published_graphs -- FOLDER table [FAMILY|all] [EFFORT] [MAX_STREAMS] [WINDOW] [GPUS,GPUS]
//! ```
//!
//! FOLDER holds `random/` and `small/` with graphs in text form, `reference_results.csv` and
//! `small_optimum.csv`. A graph's family is its name up to the first underscore. Links are free.
//! `--high` also runs `best --effort high`, which takes ten times as long as all the rest;
//! `--quick` compares the default family only; `--times` measures times only. Times are CPU seconds
//! of one thread. The second form prints mean speed-ups over sequential, with one line per family,
//! number of GPUs and algorithm.

#[path = "common/layered.rs"]
mod layered;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use hiosc::schedule::{Algorithm, Effort, LinkMode, Problem, ScheduleOptions, evaluate, lower_bound_ungrouped, schedule_with, verify};
use layered::cpu_seconds;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const GPUS: [usize; 4] = [2, 4, 8, 12];

fn main() -> Outcome<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.is_empty() {
        return Err("expected a folder of scheduling graphs".into());
    }
    let folder = PathBuf::from(arguments.remove(0));
    if arguments.first().is_some_and(|a| a == "table") {
        return table(&folder, &arguments[1..]);
    }
    let (mut high, mut quick, mut times, mut seed) = (false, false, false, 0);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--high" => high = true,
            "--quick" => quick = true,
            "--times" => times = true,
            "--seed" => seed = rest.next().ok_or("expected a seed")?.parse()?,
            other => return Err(format!("unknown argument `{other}`").into()),
        }
    }
    let study = Study { folder, options: ScheduleOptions::default().max_streams(1).seed(seed) };
    if times {
        return study.times();
    }
    study.speed_ups(high)?;
    study.references(quick)?;
    study.small()?;
    study.grouping()?;
    study.times()
}

/// One line of the report.
fn report(what: &str, wanted: &str, reached: String, enough: bool) {
    println!("{what:58} {wanted:>10} {reached:>12}  {}", if enough { "PASS" } else { "SHORT" });
}

fn at_least(what: &str, wanted: f64, reached: f64) {
    report(what, &format!(">= {wanted}"), format!("{reached:.4}"), reached >= wanted);
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len() as f64;
    values.sum::<f64>() / n
}

/// A schedule found, judged by the evaluator and the verifier.
#[derive(Clone, Copy)]
struct Judged {
    latency: u64,
    speed_up: f64,
    seconds: f64,
}

fn judge(problem: &Problem, algorithm: Algorithm, options: &ScheduleOptions) -> Outcome<Judged> {
    let started = cpu_seconds();
    let schedule = schedule_with(problem, algorithm, options)?.schedule;
    let seconds = cpu_seconds() - started;
    let timeline = evaluate(problem, &schedule)?;
    verify(problem, &schedule, &timeline)?;
    let latency = timeline.latency;
    Ok(Judged { latency, speed_up: problem.sequential_latency() as f64 / latency as f64, seconds })
}

/// The same on many problems, on all cores.
fn judge_all(problems: &[Problem], algorithm: Algorithm, options: &ScheduleOptions) -> Outcome<Vec<Judged>> {
    let next = Mutex::new(0..problems.len());
    let found = Mutex::new(vec![Err("not reached".to_string()); problems.len()]);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(index) = next.lock().ok().and_then(|mut next| next.next()) {
                    let judged = judge(&problems[index], algorithm, options).map_err(|error| error.to_string());
                    if let Ok(mut found) = found.lock() {
                        found[index] = judged;
                    }
                }
            });
        }
    });
    let found = found.into_inner().map_err(|_| "a thread failed")?;
    found.into_iter().map(|judged| judged.map_err(Into::into)).collect()
}

/// The graphs of a folder whose names begin with `prefix`.
fn texts(folder: &Path, prefix: &str) -> Outcome<Vec<(String, String)>> {
    let mut files: Vec<_> = std::fs::read_dir(folder)?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
    files.sort();
    let mut found = Vec::new();
    for file in files.iter().filter(|f| f.extension().is_some_and(|e| e == "txt")) {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(prefix) {
            found.push((name, std::fs::read_to_string(file)?));
        }
    }
    Ok(found)
}

fn problems(folder: &Path, prefix: &str, gpus: usize) -> Outcome<Vec<Problem>> {
    texts(folder, prefix)?.iter().map(|(_, text)| Ok(Problem::from_dag_text(text, gpus, LinkMode::Free)?)).collect()
}

/// The rows of a table of comma-separated values, each by column.
fn rows(file: &Path) -> Outcome<Vec<BTreeMap<String, String>>> {
    let text = std::fs::read_to_string(file)?;
    let mut lines = text.lines().map(|line| line.split(',').map(str::to_string).collect::<Vec<_>>());
    let header = lines.next().ok_or("an empty table")?;
    Ok(lines.map(|row| header.iter().cloned().zip(row).collect()).collect())
}

struct Study {
    folder: PathBuf,
    options: ScheduleOptions,
}

impl Study {
    fn default_family(&self, gpus: usize) -> Outcome<Vec<Problem>> {
        problems(&self.folder.join("random"), "default_", gpus)
    }

    /// The mean speed-up on the default family.
    fn speed_up(&self, gpus: usize, algorithm: Algorithm, options: &ScheduleOptions) -> Outcome<f64> {
        Ok(mean(judge_all(&self.default_family(gpus)?, algorithm, options)?.iter().map(|j| j.speed_up)))
    }

    fn speed_ups(&self, high: bool) -> Outcome<()> {
        println!("1. Default family, no grouping, mean speed-up over sequential");
        let wanted: [(Algorithm, &str, Effort, [f64; 4]); 4] = [
            (Algorithm::HiosLp, "hios-lp", Effort::Default, [1.95, 3.65, 5.2, 5.2]),
            (Algorithm::Heft, "heft", Effort::Default, [1.94, 3.70, 6.1, 6.8]),
            (Algorithm::Best, "best", Effort::Default, [1.97, 3.83, 6.85, 7.45]),
            (Algorithm::Best, "best, high effort", Effort::High, [1.975, 3.84, 7.05, 7.65]),
        ];
        for (algorithm, name, effort, least) in wanted.into_iter().filter(|w| high || w.2 != Effort::High) {
            for (gpus, least) in GPUS.into_iter().zip(least) {
                let reached = self.speed_up(gpus, algorithm, &self.options.clone().effort(effort))?;
                at_least(&format!("{name}, {gpus} GPUs"), least, reached);
            }
        }
        let reference = rows(&self.folder.join("reference_results.csv"))?;
        for gpus in GPUS {
            let ours = self.speed_up(gpus, Algorithm::HiosLp, &self.options.clone().relaxed_paths(true))?;
            let of = |row: &BTreeMap<String, String>| {
                let number = |column: &str| row.get(column).and_then(|n| n.parse::<f64>().ok());
                Some(number("sequential")? / number("independent_lp_without_validity_exact")?)
            };
            let theirs: Vec<f64> = reference
                .iter()
                .filter(|row| row["graph"].starts_with("default_") && row["gpus"] == gpus.to_string())
                .filter_map(of)
                .collect();
            println!("   hios-lp with relaxed paths, {gpus} GPUs: {ours:.4} (independent implementation: {:.4})", mean(theirs.into_iter()));
        }
        Ok(())
    }

    fn references(&self, quick: bool) -> Outcome<()> {
        println!("   `best` against the reference, row by row");
        let rows = rows(&self.folder.join("reference_results.csv"))?;
        let (mut all, mut named) = (Vec::new(), Vec::new());
        for row in rows.iter().filter(|row| !quick || row["graph"].starts_with("default_")) {
            let folder = if row["graph"].starts_with("small") { "small" } else { "random" };
            let text = std::fs::read_to_string(self.folder.join(folder).join(format!("{}.txt", row["graph"])))?;
            all.push(Problem::from_dag_text(&text, row["gpus"].parse()?, LinkMode::Free)?);
            named.push(row);
        }
        let found = judge_all(&all, Algorithm::Best, &self.options)?;
        for column in ["heft_exact", "independent_lp_exact"] {
            let figures = named.iter().zip(&found).filter_map(|(row, judged)| Some((row[column].parse::<f64>().ok()?, judged)));
            let worse = figures.clone().filter(|(theirs, judged)| judged.latency as f64 / 1e6 > theirs + 1e-6).count();
            report(&format!("rows on which best is worse than {column}, of {}", figures.count()), "0", worse.to_string(), worse == 0);
        }
        Ok(())
    }

    fn small(&self) -> Outcome<()> {
        println!("2. Small graphs, proven optima");
        let mut worst: f64 = 0.0;
        let rows = rows(&self.folder.join("small_optimum.csv"))?;
        let proven: Vec<_> = rows.iter().filter(|row| row["cp_sat_status"] == "OPTIMAL").collect();
        for row in &proven {
            let text = std::fs::read_to_string(self.folder.join("small").join(format!("{}.txt", row["graph"])))?;
            let problem = Problem::from_dag_text(&text, row["gpus"].parse()?, LinkMode::Free)?;
            let best = row["best_found"].parse::<f64>()?;
            worst = worst.max(judge(&problem, Algorithm::Best, &self.options)?.latency as f64 / 1e6 / best - 1.0);
        }
        let what = format!("best above the optimum at worst, of {} rows", proven.len());
        report(&what, "<= 1 %", format!("{:.3} %", worst * 100.0), worst <= 0.01);
        Ok(())
    }

    fn grouping(&self) -> Outcome<()> {
        println!("3. Grouping");
        let with = |max_streams, window| self.options.clone().max_streams(max_streams).window(window);
        let (mut worse, mut compared) = (0, 0);
        for gpus in GPUS {
            let problems = self.default_family(gpus)?;
            let alone = judge_all(&problems, Algorithm::HiosLp, &self.options)?;
            let grouped = judge_all(&problems, Algorithm::HiosLp, &with(2, 4))?;
            worse += alone.iter().zip(&grouped).filter(|(alone, grouped)| grouped.latency > alone.latency).count();
            compared += alone.len();
        }
        report(&format!("rows on which grouping makes hios-lp worse, of {compared}"), "0", worse.to_string(), worse == 0);
        let alone = self.speed_up(2, Algorithm::Best, &self.options)?;
        let grouped = self.speed_up(2, Algorithm::Best, &with(2, 4))?;
        at_least("best at 2 GPUs, grouped over ungrouped", 1.05, grouped / alone);
        for (streams, window) in [(2, 2), (2, 4), (3, 8), (4, 16)] {
            print!("   2 GPUs, s = {streams}, w = {window}:");
            for algorithm in [Algorithm::IntraGpu, Algorithm::HiosLp, Algorithm::HiosMr, Algorithm::Best] {
                print!(" {algorithm} {:.3}", self.speed_up(2, algorithm, &with(streams, window))?);
            }
            println!();
        }
        Ok(())
    }

    fn times(&self) -> Outcome<()> {
        println!("4. CPU seconds of one core, 8 GPUs");
        let below = |what: &str, wanted: f64, reached: f64| report(what, &format!("< {wanted}"), format!("{reached:.4}"), reached < wanted);
        // The least of three means, since the machine may be busy; each over enough runs, since
        // some systems count CPU time in steps of milliseconds.
        let least = |problem: &Problem, algorithm, options: &ScheduleOptions, runs: u32| -> Outcome<f64> {
            let mean = || -> Outcome<f64> {
                let started = cpu_seconds();
                for _ in 0..runs {
                    schedule_with(problem, algorithm, options)?;
                }
                Ok((cpu_seconds() - started) / f64::from(runs))
            };
            (0..3).map(|_| mean()).try_fold(f64::INFINITY, |a, b| Ok(a.min(b?)))
        };
        let grouped = self.options.clone().max_streams(2);
        let slowest = |problems: &[Problem], algorithm, options: &ScheduleOptions, runs| -> Outcome<f64> {
            problems.iter().map(|p| least(p, algorithm, options, runs)).try_fold(0.0, |a: f64, b| Ok(a.max(b?)))
        };
        let large = Problem::from_dag_text(&layered::graph(10_000), 8, LinkMode::Free)?;
        let wide = problems(&self.folder.join("random"), "nodes_n400", 8)?;
        for (name, options) in [("no grouping", &self.options), ("stages of two", &grouped)] {
            let default = self.default_family(8)?;
            below(&format!("hios-lp, 200 operators, {name}"), 0.01, slowest(&default, Algorithm::HiosLp, options, 100)?);
            below(&format!("hios-lp, 10000 operators, {name}"), 1.0, least(&large, Algorithm::HiosLp, options, 1)?);
            below(&format!("best, 400 operators, {name}"), 1.0, slowest(&wide, Algorithm::Best, options, 1)?);
        }
        let mut all = 0.0;
        for algorithm in Algorithm::ALL {
            all += judge(&wide[0], algorithm, &grouped)?.seconds;
        }
        below("all algorithms, 400 operators, stages of two", 60.0, all);
        Ok(())
    }
}

/// Prints mean speed-ups, one line per family, number of GPUs and algorithm.
fn table(folder: &Path, arguments: &[String]) -> Outcome<()> {
    let argument = |index: usize, default: &str| arguments.get(index).cloned().unwrap_or_else(|| default.into());
    let wanted = argument(0, "all");
    let options = ScheduleOptions::default()
        .effort(argument(1, "default").parse()?)
        .max_streams(argument(2, "1").parse()?)
        .window(argument(3, "4").parse()?);
    let mut families: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, text) in texts(&folder.join("random"), "")? {
        let family = name.split('_').next().unwrap_or_default().to_string();
        if wanted == "all" || wanted == family {
            families.entry(family).or_default().push(text);
        }
    }
    println!("family   GPUs  algorithm   speed-up    limit  mean CPU ms to schedule");
    for (family, texts) in &families {
        for gpus in argument(4, "2,4,8,12").split(',') {
            let gpus: usize = gpus.parse()?;
            let problems: Vec<Problem> =
                texts.iter().map(|text| Problem::from_dag_text(text, gpus, LinkMode::Free)).collect::<Result<_, _>>()?;
            let limit = mean(problems.iter().map(|p| p.sequential_latency() as f64 / lower_bound_ungrouped(p) as f64));
            for algorithm in Algorithm::ALL {
                let found = judge_all(&problems, algorithm, &options)?;
                let (speed_up, ms) = (mean(found.iter().map(|j| j.speed_up)), mean(found.iter().map(|j| j.seconds * 1e3)));
                println!("{family:8} {gpus:4}  {algorithm:10} {speed_up:9.4} {limit:8.3} {ms:12.2}");
            }
        }
    }
    Ok(())
}
