//! Batches of cases, given to workers: processes that may die or never answer.
//!
//! A worker that dies or is silent for [`TIMEOUT`] is ended. The case that it was running counts
//! as crashed, and the cases that it did not reach go into a new batch. If it was compiling the
//! kernels of all cases, each case gets a worker of its own; a case that fails there counts as
//! crashed.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use hiosc::schedule::Algorithm;

use crate::worker::{Kind, Outcome};

/// Number of cases in a batch: their kernels are compiled together.
const BATCH: usize = 50;

/// The longest silence allowed: enough to compile the kernels of a batch on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(180);

/// The outcome of each of `cases`, under each of `algorithms`.
pub fn run(cases: &[PathBuf], algorithms: &[Algorithm]) -> anyhow::Result<BTreeMap<PathBuf, Outcome>> {
    let batches: Mutex<VecDeque<Vec<PathBuf>>> = Mutex::new(cases.chunks(BATCH).map(<[_]>::to_vec).collect());
    let outcomes = Mutex::new(BTreeMap::new());
    let work = || -> anyhow::Result<()> {
        loop {
            let Some(batch) = lock(&batches).pop_front() else { return Ok(()) };
            let (found, rest) = one(batch, algorithms)?;
            lock(&outcomes).extend(found);
            lock(&batches).extend(rest);
            let (done, all) = (lock(&outcomes).len(), cases.len());
            eprintln!("{done} of {all} cases");
        }
    };
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
        let workers: Vec<_> = (0..processors).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a thread of the pool panicked"))))
    })?;
    Ok(outcomes.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Runs one worker. Returns its outcomes, and batches of the cases that it did not finish.
#[allow(clippy::type_complexity)]
fn one(batch: Vec<PathBuf>, algorithms: &[Algorithm]) -> anyhow::Result<(BTreeMap<PathBuf, Outcome>, Vec<Vec<PathBuf>>)> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--worker", "--algorithm", &algorithms.iter().map(Algorithm::to_string).collect::<Vec<_>>().join(",")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        for case in &batch {
            writeln!(stdin, "{}", case.display())?;
        }
    }
    let (sender, lines) = mpsc::channel();
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    let complaints = std::thread::spawn(move || {
        let lines: Vec<String> = stderr.into_iter().flat_map(|s| BufReader::new(s).lines().map_while(Result::ok)).collect();
        lines.last().cloned().unwrap_or_default()
    });
    std::thread::spawn(move || {
        let lines = stdout.into_iter().flat_map(|s| BufReader::new(s).lines().map_while(Result::ok));
        lines.for_each(|line| drop(sender.send(line)));
    });

    let mut found = BTreeMap::new();
    let mut at: Option<PathBuf> = None;
    let silent = loop {
        match lines.recv_timeout(TIMEOUT) {
            Ok(line) => match line.split('\t').collect::<Vec<_>>()[..] {
                ["at", case] => at = Some(case.into()),
                ["at"] => at = None,
                ["done", case, kind, detail] => {
                    let kind = Kind::ALL.into_iter().find(|k| k.name() == kind).unwrap_or(Kind::Crashed);
                    found.insert(case.into(), Outcome::new(kind, detail));
                }
                _ => {}
            },
            Err(mpsc::RecvTimeoutError::Disconnected) => break false,
            Err(mpsc::RecvTimeoutError::Timeout) => break true,
        }
    };
    if silent {
        child.kill()?;
    }
    let status = child.wait()?;
    let complaint = complaints.join().unwrap_or_default();
    let missing: Vec<PathBuf> = batch.iter().filter(|case| !found.contains_key(*case)).cloned().collect();
    if missing.is_empty() {
        return Ok((found, Vec::new()));
    }
    let why = match silent {
        true => format!("no answer within {} s", TIMEOUT.as_secs()),
        false => format!("{status}: {complaint}"),
    };
    let crash = |case: &Path, found: &mut BTreeMap<PathBuf, Outcome>| found.insert(case.into(), Outcome::new(Kind::Crashed, &why));
    match at.filter(|case| missing.contains(case)) {
        Some(case) => {
            crash(&case, &mut found);
            let rest: Vec<PathBuf> = missing.into_iter().filter(|other| *other != case).collect();
            Ok((found, if rest.is_empty() { Vec::new() } else { vec![rest] }))
        }
        None if batch.len() == 1 => {
            crash(&batch[0], &mut found);
            Ok((found, Vec::new()))
        }
        None => Ok((found, missing.into_iter().map(|case| vec![case]).collect())),
    }
}
