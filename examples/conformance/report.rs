//! Counts, and the comparison with the expected refusals.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::case;
use crate::worker::{Kind, Outcome};

/// All cases by name, each with its operators and its outcome.
pub struct Report {
    cases: BTreeMap<String, (Vec<String>, Outcome)>,
}

/// `node/test_abs`: the case's folder and the one that holds it.
pub fn name_of(case: &Path) -> String {
    let part = |path: Option<&Path>| path.and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    format!("{}/{}", part(case.parent()), part(Some(case)))
}

impl Report {
    pub fn new(cases: &[PathBuf], outcomes: &BTreeMap<PathBuf, Outcome>) -> Report {
        let never = Outcome::new(Kind::Crashed, "it was never run");
        let entry = |case: &PathBuf| (name_of(case), (case::operators(case), outcomes.get(case).unwrap_or(&never).clone()));
        Report { cases: cases.iter().map(entry).collect() }
    }

    /// Makes the wrong cases that `file` lists disputed, with the reason in the list. A listed case
    /// that passes becomes wrong.
    pub fn dispute(&mut self, file: &Path) -> anyhow::Result<()> {
        for (name, why) in expected(file)? {
            let Some((_, outcome)) = self.cases.get_mut(&name) else { continue };
            match outcome.kind {
                Kind::Wrong => *outcome = Outcome::new(Kind::Disputed, why),
                Kind::Passed => *outcome = Outcome::new(Kind::Wrong, format!("it passes, and {} lists it", file.display())),
                _ => {}
            }
        }
        Ok(())
    }

    fn count(&self, kind: Kind) -> usize {
        self.cases.values().filter(|(_, outcome)| outcome.kind == kind).count()
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = (&String, &Outcome)> {
        self.cases.iter().filter(move |(_, (_, outcome))| outcome.kind == kind).map(|(name, (_, outcome))| (name, outcome))
    }

    /// Nothing wrong, nothing crashed.
    pub fn sound(&self) -> bool {
        self.count(Kind::Wrong) + self.count(Kind::Crashed) == 0
    }

    /// `N passed, N refused, N wrong, N crashed`, after a line for disputed cases, if there are
    /// any.
    pub fn summary(&self) -> String {
        let count = |kind: Kind| format!("{} {}", self.count(kind), kind.name());
        let disputed = match self.count(Kind::Disputed) {
            0 => String::new(),
            n => format!("{n} disputed: they differ from data that contradicts ONNX, and are not among the following\n"),
        };
        disputed + &[Kind::Passed, Kind::Refused, Kind::Wrong, Kind::Crashed].map(count).join(", ")
    }

    /// One line per case.
    pub fn each(&self) -> String {
        let line =
            |(name, (_, outcome)): (&String, &(Vec<String>, Outcome))| format!("{name}: {} {}\n", outcome.kind.name(), outcome.detail);
        self.cases.iter().map(line).collect()
    }

    /// How many cases use each operator, and their outcomes.
    pub fn by_operator(&self) -> String {
        let mut counts: BTreeMap<&str, [usize; 5]> = BTreeMap::new();
        for (operators, outcome) in self.cases.values() {
            for operator in operators {
                counts.entry(operator).or_default()[outcome.kind as usize] += 1;
            }
        }
        let mut text = format!("{:36} passed refused wrong crashed disputed\n", "cases that use the operator");
        for (operator, [passed, refused, wrong, crashed, disputed]) in counts {
            let _ = writeln!(text, "{operator:36} {passed:6} {refused:7} {wrong:5} {crashed:7} {disputed:8}");
        }
        text
    }

    /// Each reason once, with the number of cases that it stops, the most frequent first.
    pub fn refusals(&self) -> String {
        let mut reasons: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (name, outcome) in self.of(Kind::Refused) {
            let lines: BTreeSet<String> = outcome.detail.split("; ").map(without_nodes).collect();
            for line in lines {
                reasons.entry(line).or_default().push(name);
            }
        }
        let mut reasons: Vec<_> = reasons.into_iter().collect();
        reasons.sort_by_key(|(reason, names)| (std::cmp::Reverse(names.len()), reason.clone()));
        let mut text = String::from("refused:\n");
        for (reason, names) in reasons {
            let _ = writeln!(text, "{:4} {reason} [{}]", names.len(), names.iter().take(3).copied().collect::<Vec<_>>().join(" "));
        }
        text
    }

    /// The wrong, crashed and disputed cases.
    pub fn failures(&self) -> String {
        let line = |(name, outcome): (&String, &Outcome)| format!("{} {name}: {}\n", outcome.kind.name(), outcome.detail);
        self.of(Kind::Wrong).chain(self.of(Kind::Crashed)).chain(self.of(Kind::Disputed)).map(line).collect()
    }

    /// The counts of the cases that `file` lists, one name at the start of each line.
    pub fn among(&self, file: &Path) -> anyhow::Result<String> {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let listed: BTreeSet<&str> = text.lines().filter_map(|line| line.split_whitespace().next()).collect();
        let known = self.cases.iter().filter(|(name, _)| name.rsplit('/').next().is_some_and(|name| listed.contains(name)));
        let among = Report { cases: known.map(|(name, case)| (name.clone(), case.clone())).collect() };
        Ok(format!(
            "among the {} of {}: {}\n",
            listed.len(),
            file.file_name().unwrap_or_default().display(),
            among.summary().replace('\n', "; ")
        ))
    }

    /// The refusals, by case.
    fn refused(&self) -> BTreeMap<String, String> {
        self.of(Kind::Refused).map(|(name, outcome)| (name.clone(), outcome.detail.clone())).collect()
    }

    /// Writes the refusals of the cases that were run to the list `file`, and keeps its other
    /// lines.
    pub fn bless(&self, file: &Path) -> anyhow::Result<()> {
        let mut lines = if file.exists() { expected(file)? } else { BTreeMap::new() };
        lines.retain(|name, _| !self.cases.contains_key(name));
        lines.extend(self.refused());
        let text: String = lines.into_iter().map(|(name, reason)| format!("{name}: {reason}\n")).collect();
        fs::write(file, text).with_context(|| file.display().to_string())
    }

    /// Whether the refusals are those of the list `file`, for the cases that were run. Prints the
    /// differences.
    pub fn compare(&self, file: &Path) -> anyhow::Result<bool> {
        let mut listed = expected(file)?;
        listed.retain(|name, _| self.cases.contains_key(name));
        let refused = self.refused();
        let mut same = true;
        for name in listed.keys().chain(refused.keys()).collect::<BTreeSet<_>>() {
            let (before, now) = (listed.get(name), refused.get(name));
            if before != now {
                same = false;
                let text = |reason: Option<&String>| reason.map_or("not refused".to_string(), |reason| format!("{reason:?}"));
                println!("{name}: found {}, expected {} (from {})", text(now), text(before), file.display());
            }
        }
        if !same {
            println!("the refusals differ from {}: if that is intended, run again with --bless", file.display());
        }
        Ok(same)
    }
}

/// Lines `CASE: REASON`.
fn expected(file: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let line = |line: &str| line.split_once(": ").map(|(name, reason)| (name.to_string(), reason.to_string()));
    Ok(text.lines().filter_map(line).collect())
}

/// `Softmax (node "y"): why` without the node.
fn without_nodes(line: &str) -> String {
    match (line.find(" ("), line.find("): ")) {
        (Some(from), Some(to)) if from < to => format!("{}{}", &line[..from], &line[to + 1..]),
        _ => line.to_string(),
    }
}
