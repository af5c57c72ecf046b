//! Schedules of the published scheduling graphs, compared with the results of others.

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::support::skipped;
use hiosc::device::Nanos;
use hiosc::schedule::{
    Algorithm, Effort, LinkMode, Problem, ScheduleOptions, compare, compare_with, evaluate, lower_bound_ungrouped, schedule_with, verify,
};

/// Options for many graphs: a small budget of evaluations.
fn quick(max_streams: usize) -> ScheduleOptions {
    ScheduleOptions::default().max_streams(max_streams).effort(Effort::Evaluations(500))
}

/// The published scheduling graphs: beside a checkout, or where `HIOSC_DAGS` says.
fn dags(test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("HIOSC_DAGS").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/dags"), PathBuf::from);
    if !folder.join("random").is_dir() {
        skipped!("SKIPPED {test}: no scheduling graphs (set HIOSC_DAGS to their folder)");
        return None;
    }
    Some(folder)
}

fn texts(folder: &Path, prefix: &str) -> Vec<(String, String)> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let name = |path: &PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    files.iter().filter(|p| name(p).starts_with(prefix)).map(|p| (name(p), std::fs::read_to_string(p).unwrap())).collect()
}

/// The mean speed-up over sequential on the default family. And no graph is far from the result of
/// an independent HIOS-LP.
#[test]
fn hios_lp_on_the_published_graphs() {
    let Some(folder) = dags("hios_lp_on_the_published_graphs") else { return };
    let reference = std::fs::read_to_string(folder.join("reference_results.csv")).unwrap();
    let mut rows = reference.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = rows.next().unwrap();
    let column = |name: &str| header.iter().position(|h| *h == name).unwrap();
    let (lp, sequential, bound) = (column("independent_lp_exact"), column("sequential"), column("lower_bound"));

    println!("family   GPUs  graphs  speed-up  independent LP  bound    mean ms to schedule");
    let mut table = std::collections::BTreeMap::new();
    for row in rows.filter(|r| !r[0].starts_with("small")) {
        let (graph, gpus): (&str, usize) = (row[0], row[1].parse().unwrap());
        let text = std::fs::read_to_string(folder.join("random").join(format!("{graph}.txt"))).unwrap();
        let problem = Problem::from_dag_text(&text, gpus, LinkMode::Free).unwrap();
        let started = Instant::now();
        let schedule = schedule_with(&problem, Algorithm::HiosLp, &quick(1)).unwrap().schedule;
        let elapsed = started.elapsed().as_secs_f64() * 1e3;
        let timeline = evaluate(&problem, &schedule).unwrap();
        verify(&problem, &schedule, &timeline).unwrap();
        let number = |column: usize| row[column].parse::<f64>().unwrap_or(f64::NAN);
        let one = compare(&problem, &[Algorithm::Sequential]).unwrap()[0].1.latency as f64 / 1e6;
        let lowest = lower_bound_ungrouped(&problem) as f64 / 1e6;
        for (what, ours, theirs) in [("sequential", one, number(sequential)), ("lower bound", lowest, number(bound))] {
            assert!(theirs.is_nan() || (ours - theirs).abs() < 1e-3, "{graph} on {gpus} GPUs: {what} {ours}, reference {theirs}");
        }
        let ours = timeline.latency as f64 / 1e6;
        let family = graph.split('_').next().unwrap().to_string();
        let entry: &mut Vec<[f64; 4]> = table.entry((family, gpus)).or_default();
        entry.push([one / ours, one / number(lp), one / number(bound), elapsed]);
    }
    for ((family, gpus), rows) in &table {
        let mean = |i: usize| rows.iter().map(|r| r[i]).sum::<f64>() / rows.len() as f64;
        println!("{family:8} {gpus:4} {:7} {:9.3} {:15.3} {:6.3} {:10.2}", rows.len(), mean(0), mean(1), mean(2), mean(3));
    }
    for (gpus, least) in [(2, 1.95), (4, 3.65), (8, 5.2), (12, 5.2)] {
        let rows = &table[&("default".to_string(), gpus)];
        let mean = rows.iter().map(|r| r[0]).sum::<f64>() / rows.len() as f64;
        assert!(mean >= least, "{gpus} GPUs: mean speed-up {mean:.3}, at least {least} expected");
    }
}

/// With relaxed paths, HIOS-LP gives the same results as an independent implementation of that
/// reading, except for ties.
#[test]
fn relaxed_paths_agree_with_an_independent_implementation() {
    let Some(folder) = dags("relaxed_paths_agree_with_an_independent_implementation") else { return };
    let reference = std::fs::read_to_string(folder.join("reference_results.csv")).unwrap();
    let mut rows = reference.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let column = rows.next().unwrap().iter().position(|name| *name == "independent_lp_without_validity_exact").unwrap();
    let options = quick(1).relaxed_paths(true);
    let (mut compared, mut equal, mut strict) = (0, 0, 0);
    for row in rows.filter(|r| !r[0].starts_with("small")) {
        let Ok(theirs) = row[column].parse::<f64>() else { continue };
        let text = std::fs::read_to_string(folder.join("random").join(format!("{}.txt", row[0]))).unwrap();
        let problem = Problem::from_dag_text(&text, row[1].parse().unwrap(), LinkMode::Free).unwrap();
        let latency = |options| compare_with(&problem, &[Algorithm::InterLp], options).unwrap()[0].1.latency as f64 / 1e6;
        let ours = latency(&options);
        assert!((ours / theirs - 1.0).abs() < 0.005, "{row:?}: {ours}");
        compared += 1;
        equal += usize::from((ours - theirs).abs() < 1e-4);
        strict += usize::from((latency(&quick(1)) - theirs).abs() < 1e-4);
    }
    println!("{equal} of {compared} latencies are equal; with the rule for paths, {strict} are");
    assert!(compared > 150 && equal * 100 >= compared * 90 && strict * 2 < compared, "{equal}, {strict} of {compared}");
}

/// On no row of the published graphs, of any family, is `best` worse than a plain HEFT or HIOS-LP,
/// even with a small budget.
#[test]
fn best_is_at_or_below_the_reference_on_every_row() {
    let Some(folder) = dags("best_is_at_or_below_the_reference_on_every_row") else { return };
    let reference = std::fs::read_to_string(folder.join("reference_results.csv")).unwrap();
    let mut rows = reference.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = rows.next().unwrap();
    let column = |name: &str| header.iter().position(|h| *h == name).unwrap();
    let columns = [column("heft_exact"), column("independent_lp_exact")];
    let options = ScheduleOptions::default().max_streams(1).effort(Effort::Evaluations(20_000));
    let mut compared = 0;
    for row in rows.filter(|r| !r[0].starts_with("small")) {
        let text = std::fs::read_to_string(folder.join("random").join(format!("{}.txt", row[0]))).unwrap();
        let problem = Problem::from_dag_text(&text, row[1].parse().unwrap(), LinkMode::Free).unwrap();
        let latency = compare_with(&problem, &[Algorithm::Best], &options).unwrap()[0].1.latency as f64 / 1e6;
        for theirs in columns.iter().filter_map(|&c| row[c].parse::<f64>().ok()) {
            assert!(latency <= theirs + 1e-6, "{} on {} GPUs: {latency}, reference {theirs}", row[0], row[1]);
            compared += 1;
        }
    }
    println!("{compared} figures compared");
    assert!(compared > 100);
}

/// Grouping pays: on two GPUs, `best` with stages of two is at least 5 % better than without.
#[test]
fn best_gains_from_grouping() {
    let Some(folder) = dags("best_gains_from_grouping") else { return };
    let (mut alone, mut grouped) = (0.0, 0.0);
    for (_, text) in texts(&folder.join("random"), "default") {
        let problem = Problem::from_dag_text(&text, 2, LinkMode::Free).unwrap();
        let sequential = problem.time.iter().map(|row| row[0]).sum::<Nanos>() as f64;
        for (max_streams, sum) in [(1, &mut alone), (2, &mut grouped)] {
            let options = ScheduleOptions::default().max_streams(max_streams).effort(Effort::Evaluations(50_000));
            *sum += sequential / compare_with(&problem, &[Algorithm::Best], &options).unwrap()[0].1.latency as f64;
        }
    }
    println!("speed-up {:.3} without grouping, {:.3} with", alone / 10.0, grouped / 10.0);
    assert!(grouped >= 1.05 * alone, "{grouped} {alone}");
}

/// Compared with proven optima: one operator per stage, free links.
#[test]
fn small_published_graphs_are_not_below_their_optimum() {
    let Some(folder) = dags("small_published_graphs_are_not_below_their_optimum") else { return };
    let optima = std::fs::read_to_string(folder.join("small_optimum.csv")).unwrap();
    let mut worst: f64 = 1.0;
    for row in optima.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>()) {
        let text = std::fs::read_to_string(folder.join("small").join(format!("{}.txt", row[0]))).unwrap();
        let problem = Problem::from_dag_text(&text, row[1].parse().unwrap(), LinkMode::Free).unwrap();
        let best: f64 = row[4].parse().unwrap();
        for (schedule, timeline) in compare_with(&problem, &Algorithm::ALL, &ScheduleOptions::default().max_streams(1)).unwrap() {
            let latency = timeline.latency as f64 / 1e6;
            if row[5] == "OPTIMAL" {
                assert!(latency >= best - 1e-4, "{} on {}: {latency} is below the optimum {best}", schedule.algorithm, row[0]);
            }
            if schedule.algorithm == "hios-lp" {
                worst = worst.max(latency / best);
            }
            if schedule.algorithm == "best" && row[5] == "OPTIMAL" {
                assert!(latency <= best * 1.01, "best on {}: {latency}, the optimum is {best}", row[0]);
            }
        }
    }
    println!("hios-lp is at most {:.1} % above the best known schedule of a small graph", (worst - 1.0) * 100.0);
}

/// Every published graph, every algorithm, both kinds of links.
#[test]
fn all_published_graphs_pass_the_verifier() {
    let Some(folder) = dags("all_published_graphs_pass_the_verifier") else { return };
    let mut graphs = texts(&folder.join("random"), "");
    graphs.extend(texts(&folder.join("small"), ""));
    for (name, text) in graphs {
        for (gpus, links) in [(2, LinkMode::Serial), (8, LinkMode::Serial), (3, LinkMode::Free)] {
            let problem = Problem::from_dag_text(&text, gpus, links).unwrap();
            if let Err(error) = compare_with(&problem, &Algorithm::ALL, &quick(2)) {
                panic!("{name} on {gpus} GPUs, {links:?}: {error}");
            }
        }
    }
}
