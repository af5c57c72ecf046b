//! The costs of a compilation: measured, read from files, or estimated.

use std::path::{Path, PathBuf};

use super::Compiler;
use crate::cost::{self, CostTable, Profile};
use crate::device::{DeviceModel, Target};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::ids::OpId;
use crate::kernel;

impl Compiler {
    /// Costs of `graph`: from the given profile, otherwise from files, otherwise estimated for
    /// `target`.
    pub(super) fn cost_table(&self, graph: &Graph, target: Option<&Target>) -> Result<CostTable> {
        match (&self.profiled, target) {
            (Some(profile), _) => profile.table(graph, |op, device| kernel::candidates(graph, op, device)),
            (None, target) if !self.costs.is_empty() => self.read_costs(graph, target),
            (None, Some(target)) => cost::estimate(graph, target),
            (None, None) => Err(Error::internal("compiler", "no target and no costs")),
        }
    }

    /// Costs from files. They must be for this graph, and for this target if one is given.
    fn read_costs(&self, graph: &Graph, target: Option<&Target>) -> Result<CostTable> {
        let file = &self.costs[0];
        let text = read_text(file)?;
        let candidates = |op: OpId, device: &DeviceModel| kernel::candidates(graph, op, device);
        let costs = if self.costs.len() > 1 || Profile::is_one(&text) {
            let profile = read_profiles(&self.costs)?.ok_or_else(|| Error::internal("compiler", "no costs"))?;
            if !self.allow_foreign_costs {
                profile.check_fresh().map_err(|error| in_file(file, error))?;
            }
            profile.table(graph, candidates)
        } else {
            CostTable::parse(&text, graph, candidates)
        };
        let costs = costs.map_err(|error| in_file(file, error))?;
        if !self.allow_foreign_costs {
            target.map_or(Ok(()), |target| costs.check_target(target)).map_err(|error| in_file(file, error))?;
        }
        Ok(costs)
    }
}

/// The profiles in `files`, merged.
pub fn read_profiles(files: &[PathBuf]) -> Result<Option<Profile>> {
    let mut merged: Option<Profile> = None;
    for file in files {
        let profile = Profile::parse(&read_text(file)?).map_err(|error| in_file(file, error))?;
        match &mut merged {
            None => merged = Some(profile),
            Some(merged) => merged.merge(profile).map_err(|error| in_file(file, error))?,
        }
    }
    Ok(merged)
}

fn in_file(file: &Path, error: Error) -> Error {
    match error {
        Error::Usage(message) => Error::Usage(format!("{}: {message}", file.display())),
        other => other,
    }
}

/// The text of a file.
pub(super) fn read_text(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).map_err(Error::io(file))
}
