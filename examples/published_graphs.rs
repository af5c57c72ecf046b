//! The table of mean speed-ups over sequential on a folder of scheduling graphs, a line for each family, number of GPUs and algorithm. A file's family
//! is its name up to the first underscore.
//!
//! ```text
//! cargo run --release --example published_graphs -- FOLDER [FAMILY|all] [EFFORT] [MAX_STREAMS] [WINDOW] [GPUS,GPUS]
//! ```

use std::collections::BTreeMap;
use std::time::Instant;

use hiosc::schedule::{Algorithm, Effort, LinkMode, Options, Problem, evaluate, lower_bound_ungrouped, schedule_with, verify};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("a folder of scheduling graphs expected")?;
    let wanted = arguments.next().unwrap_or_else(|| "all".into());
    let effort: Effort = arguments.next().map_or(Ok(Effort::Default), |e| e.parse())?;
    let max_streams = arguments.next().map_or(Ok(1), |s| s.parse())?;
    let window = arguments.next().map_or(Ok(4), |s| s.parse())?;
    let gpus = arguments.next().unwrap_or_else(|| "2,4,8,12".into());
    let options = Options { window, max_streams, effort, ..Options::default() };

    let mut families: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut files: Vec<_> = std::fs::read_dir(folder)?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
    files.sort();
    for file in files.iter().filter(|f| f.extension().is_some_and(|e| e == "txt")) {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let family = name.split('_').next().unwrap_or_default().to_string();
        if wanted == "all" || wanted == family {
            families.entry(family).or_default().push(std::fs::read_to_string(file)?);
        }
    }
    println!("family   GPUs  algorithm   speed-up    limit   mean ms to schedule");
    for (family, texts) in &families {
        for gpus in gpus.split(',') {
            let gpus: usize = gpus.parse()?;
            let problems: Vec<Problem> =
                texts.iter().map(|text| Problem::from_dag_text(text, gpus, LinkMode::Free)).collect::<Result<_, _>>()?;
            for algorithm in Algorithm::ALL {
                let (mut speed_up, mut limit, mut seconds) = (0.0, 0.0, 0.0);
                for problem in &problems {
                    let started = Instant::now();
                    let schedule = schedule_with(problem, algorithm, &options)?.schedule;
                    seconds += started.elapsed().as_secs_f64();
                    let timeline = evaluate(problem, &schedule)?;
                    verify(problem, &schedule, &timeline)?;
                    let sequential = problem.time.iter().map(|row| row[0]).sum::<u64>() as f64;
                    speed_up += sequential / timeline.latency as f64;
                    limit += sequential / lower_bound_ungrouped(problem) as f64;
                }
                let n = problems.len() as f64;
                println!("{family:8} {gpus:4}  {algorithm:10} {:9.4} {:8.3} {:12.2}", speed_up / n, limit / n, seconds / n * 1e3);
            }
        }
    }
    Ok(())
}
