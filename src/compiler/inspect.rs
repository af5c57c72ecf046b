//! What hiosc would make of a model, before it is compiled.
//!
//! **In**: a model file. **Out**: an [`Inspection`]: its operators and what becomes of each, inputs
//! and outputs, parameters, multiply-adds and the parallelism they allow, and every reason for
//! which a compilation would refuse it. `import` surveys the model. Its graph is then fused, and
//! kernels are looked up for the default device, as in a compilation: so what is reported as
//! supported does compile.

use std::fmt;
use std::path::Path;

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::ids::OpId;
use crate::import::{self, ImportOptions, Survey};
use crate::{device, fuse, kernel};

/// What a model consists of, and whether hiosc can compile it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Inspection {
    /// The model's file name.
    pub model: String,
    /// What it consists of.
    pub survey: Survey,
    /// Operators of the fused graph; `None` if the model is refused.
    pub compiled: Option<usize>,
    /// All reasons why it is refused.
    pub refusals: Vec<String>,
}

/// Inspects the model at `path`.
///
/// # Errors
///
/// If the file is not a sound ONNX model, or an option names an input that it does not have.
pub fn inspect(path: &Path, options: &ImportOptions) -> Result<Inspection> {
    let (survey, graph) = import::survey(path, options)?;
    let (compiled, refusals) = match graph.and_then(operators_of) {
        Ok(count) => (Some(count), Vec::new()),
        Err(Error::Unsupported(lines)) => (None, lines),
        Err(Error::Model { message, .. }) => (None, vec![message]),
        Err(other) => return Err(other),
    };
    let model = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    Ok(Inspection { model, survey, compiled, refusals })
}

/// Number of operators of the fused graph, if each has a kernel.
fn operators_of(graph: Graph) -> Result<usize> {
    let graph = fuse::fuse(graph, &[])?;
    let device = device::device(super::builder::DEFAULT_DEVICE)?;
    let mut refused = Vec::new();
    for op in (0..graph.operators.len()).map(OpId::new) {
        match kernel::candidates(&graph, op, &device) {
            Ok(_) => {}
            Err(Error::Unsupported(lines)) => refused.extend(lines),
            Err(other) => return Err(other),
        }
    }
    if refused.is_empty() { Ok(graph.operators.len()) } else { Err(Error::Unsupported(refused)) }
}

impl Inspection {
    /// All multiply-adds divided by those of the critical path; 1 if there are none.
    pub fn parallelism(&self) -> f64 {
        match self.survey.critical_path_macs {
            0 => 1.0,
            path => self.survey.macs as f64 / path as f64,
        }
    }

    /// The inspection as JSON, for programs. Keys are stable.
    pub fn json(&self) -> Value {
        let survey = &self.survey;
        let ports =
            |ports: &[(String, String)]| -> Value { ports.iter().map(|(name, text)| json!({ "name": name, "type": text })).collect() };
        let operators: Value = survey
            .operators
            .iter()
            .map(|o| json!({ "name": o.name, "nodes": o.nodes, "refusal": o.refusal, "becomes": o.becomes() }))
            .collect();
        json!({
            "model": self.model,
            "supported": self.compiled.is_some(),
            "refusals": self.refusals,
            "opsets": survey.opsets.iter().map(|(domain, version)| json!({ "domain": domain, "version": version })).collect::<Value>(),
            "inputs": ports(&survey.inputs),
            "outputs": ports(&survey.outputs),
            "operators": operators,
            "typed_operators": survey.typed,
            "compiled_operators": self.compiled,
            "parameters": survey.parameters,
            "macs": survey.macs,
            "critical_path_macs": survey.critical_path_macs,
            "parallelism": self.parallelism(),
        })
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let survey = &self.survey;
        let opsets = survey
            .opsets
            .iter()
            .map(|(domain, version)| format!("{}{version}", if domain.is_empty() { String::new() } else { format!("{domain} ") }));
        writeln!(f, "model      {}, opset {}", self.model, opsets.collect::<Vec<_>>().join(", "))?;
        for (name, text) in &survey.inputs {
            writeln!(f, "input      {text}  {name:?}")?;
        }
        for (name, text) in &survey.outputs {
            writeln!(f, "output     {text}  {name:?}")?;
        }
        writeln!(f, "parameters {}", survey.parameters)?;
        if survey.typed.is_empty() && self.compiled.is_none() {
            writeln!(f, "work       unknown: the model cannot be typed")?;
        } else {
            let (macs, path) = (survey.macs, survey.critical_path_macs);
            writeln!(f, "work       {macs} multiply-adds, {path} on the critical path: parallelism {:.2}", self.parallelism())?;
        }
        let nodes: usize = survey.operators.iter().map(|o| o.nodes).sum();
        writeln!(f, "operators  {nodes} of {} kinds", survey.operators.len())?;
        for operator in &survey.operators {
            writeln!(f, "  {:5} {:24} {}", operator.nodes, operator.name, operator.becomes())?;
        }
        if !survey.typed.is_empty() {
            let typed: usize = survey.typed.values().sum();
            let kinds: Vec<String> = survey.typed.iter().map(|(name, count)| format!("{count} {name}")).collect();
            writeln!(f, "typed      {typed} left after folding: {}", kinds.join(", "))?;
        }
        match self.compiled {
            Some(count) => writeln!(f, "supported  yes: {count} operators after fusing"),
            None => {
                writeln!(f, "supported  no")?;
                self.refusals.iter().try_for_each(|line| writeln!(f, "  {line}"))
            }
        }
    }
}
