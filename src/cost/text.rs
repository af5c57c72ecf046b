//! Cost tables in text form, and back: `--emit costs`, `--costs`.
//!
//! ```text
//! costs: estimated from device model a40, link nvlink
//! gpu0: a40, compute capability 8.6, 48000000000 bytes
//! gpu1: a40, compute capability 8.6, 48000000000 bytes
//! link gpu0 -> gpu1: 3000 ns, 47250000000 bytes/s
//! link gpu1 -> gpu0: 3000 ns, 47250000000 bytes/s
//! %0 "conv1": 12345 ns, busy 0.75, conv_n1c64h56w56_... | 12345 ns, busy 0.75, conv_n1c64h56w56_...
//! stage conv_n1c64h56w56_... + pool_max_n1c64h56w56_...: 15000 ns | -
//! ```
//!
//! One line per operator, with one group per GPU, separated by `|`: time when run alone, share of
//! the GPU kept busy, kernel. Then one line per measured stage, named by its kernels; `-` on a GPU
//! where it was not measured. Reading a table back needs the graph and its kernels: names must
//! agree, and a kernel is found among the operator's candidates by its name. Empty lines and lines
//! that begin with `#` are allowed.

use std::fmt::Write;

use super::{CostTable, MeasuredStages, OperatorCost};
use crate::device::{DeviceModel, Link, Nanos, TargetGpu};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::ids::OpId;
use crate::kernel::Kernel;

impl CostTable {
    /// The table in text form.
    pub fn to_text(&self, graph: &Graph) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(out, "costs: {}", self.source);
        for (index, gpu) in self.gpus.iter().enumerate() {
            let _ = writeln!(out, "{}", gpu_text(index, gpu));
        }
        out += &link_text(&self.links);
        for (index, row) in self.operators.iter().enumerate() {
            let cost = |c: &OperatorCost| format!("{} ns, busy {}, {}", c.time, c.utilisation, c.kernel.name);
            let _ = writeln!(out, "{} {}", operator_text(graph, OpId::new(index)), row.iter().map(cost).collect::<Vec<_>>().join(" | "));
        }
        out + &stages_text(&self.stages)
    }

    /// Reads the table in `text`, which must be one of `graph`. `candidates` gives the kernels that
    /// compute an operator on a kind of GPU.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] with the line: the text is user input.
    pub fn parse(text: &str, graph: &Graph, mut candidates: impl FnMut(OpId, &DeviceModel) -> Result<Vec<Kernel>>) -> Result<CostTable> {
        let mut table = CostTable {
            source: String::new(),
            gpus: Vec::new(),
            operators: Vec::new(),
            links: Vec::new(),
            stages: MeasuredStages::new(),
            grouped_launches: Vec::new(),
        };
        for (number, line) in text.lines().enumerate().map(|(i, line)| (i + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let error = |message: String| Error::Usage(format!("costs, line {number}: {message}"));
            if let Some(source) = line.strip_prefix("costs:") {
                table.source = source.trim().into();
            } else if line.starts_with("gpu") {
                table.gpus.push(
                    parse_gpu(line, table.gpus.len())
                        .ok_or_else(|| error(format!("`{line}` does not describe GPU {}", table.gpus.len())))?,
                );
                table.links = vec![vec![None; table.gpus.len()]; table.gpus.len()];
            } else if line.starts_with("link ") {
                let (from, to, link) =
                    parse_link(line, table.gpus.len()).ok_or_else(|| error(format!("`{line}` does not describe a link")))?;
                table.links[from][to] = Some(link);
            } else if line.starts_with("stage ") {
                let stage = parse_stage(line, table.gpus.len()).ok_or_else(|| error(format!("`{line}` does not describe a stage")))?;
                table.stages.extend([stage]);
            } else if line.starts_with('%') {
                let op = OpId::new(table.operators.len());
                if op.index() >= graph.operators.len() {
                    return Err(error(format!("the model has only {} operators", graph.operators.len())));
                }
                let expected = operator_text(graph, op);
                let rest = line.strip_prefix(&expected).ok_or_else(|| {
                    error(format!("`{expected}` expected: are these the costs of another model, or made with other --no-fuse rules?"))
                })?;
                let costs: Vec<&str> = rest.split('|').map(str::trim).collect();
                if costs.len() != table.gpus.len() {
                    return Err(error(format!("{} costs for {} GPUs", costs.len(), table.gpus.len())));
                }
                let models = table.gpus.iter().map(TargetGpu::model).collect::<Result<Vec<_>>>()?;
                let kernels = super::by_kind(&models, |device| candidates(op, device))?;
                let cost = |(cost, kernels): (&&str, &Vec<Kernel>)| {
                    parse_cost(cost, kernels).ok_or_else(|| {
                        error(format!(
                            "`{cost}` is not a cost of one of this operator's kernels: were they made with other --no-fuse rules?"
                        ))
                    })
                };
                let row: Vec<OperatorCost> = costs.iter().zip(&kernels).map(cost).collect::<Result<_>>()?;
                table.operators.push(row);
            } else {
                return Err(error(format!("`{line}` is not understood")));
            }
        }
        if table.gpus.is_empty() {
            return Err(Error::Usage("costs: there is no GPU".into()));
        }
        if table.operators.len() != graph.operators.len() {
            return Err(Error::Usage(format!("costs: {} operators, the model has {}", table.operators.len(), graph.operators.len())));
        }
        Ok(table)
    }
}

pub(super) fn gpu_text(index: usize, gpu: &TargetGpu) -> String {
    let (major, minor) = gpu.compute_capability;
    format!("gpu{index}: {}, compute capability {major}.{minor}, {} bytes", gpu.device, gpu.memory)
}

pub(super) fn link_text(links: &[Vec<Option<Link>>]) -> String {
    let mut out = String::new();
    for (from, row) in links.iter().enumerate() {
        for (to, link) in row.iter().enumerate() {
            if let Some(Link { latency, bandwidth }) = link {
                // Writing to a String cannot fail.
                let _ = writeln!(out, "link gpu{from} -> gpu{to}: {latency} ns, {bandwidth} bytes/s");
            }
        }
    }
    out
}

/// `%3 "conv1":`
fn operator_text(graph: &Graph, op: OpId) -> String {
    format!("{op} {:?}:", graph.operator(op).name)
}

pub(super) fn parse_gpu(line: &str, index: usize) -> Option<TargetGpu> {
    let mut fields = line.strip_prefix(&format!("gpu{index}: "))?.split(", ");
    let device = fields.next()?.to_string();
    let (major, minor) = fields.next()?.strip_prefix("compute capability ")?.split_once('.')?;
    let memory = fields.next()?.strip_suffix(" bytes")?.parse().ok()?;
    fields.next().is_none().then_some(TargetGpu { device, compute_capability: (major.parse().ok()?, minor.parse().ok()?), memory })
}

pub(super) fn parse_link(line: &str, gpus: usize) -> Option<(usize, usize, Link)> {
    let (ends, figures) = line.strip_prefix("link ")?.split_once(": ")?;
    let (from, to) = ends.split_once(" -> ")?;
    let gpu = |text: &str| text.strip_prefix("gpu")?.parse::<usize>().ok().filter(|&g| g < gpus);
    let (from, to) = (gpu(from)?, gpu(to)?);
    let (latency, bandwidth) = figures.split_once(", ")?;
    let latency = latency.strip_suffix(" ns")?.parse().ok().filter(|&l| l <= 1_000_000_000_000)?;
    let bandwidth: f64 = bandwidth.strip_suffix(" bytes/s")?.parse().ok()?;
    (from != to && bandwidth.is_finite() && bandwidth >= 1.0).then_some((from, to, Link { latency, bandwidth }))
}

/// One line per stage.
pub(super) fn stages_text(stages: &MeasuredStages) -> String {
    let time = |time: &Option<Nanos>| time.map_or("-".into(), |time| format!("{time} ns"));
    let line = |(kernels, times): (&Vec<String>, &Vec<Option<Nanos>>)| {
        format!("stage {}: {}\n", kernels.join(" + "), times.iter().map(time).collect::<Vec<_>>().join(" | "))
    };
    stages.iter().map(line).collect()
}

/// `text`, if it can be the name of a kernel: an identifier of C.
pub(super) fn kernel_name(text: &str) -> Option<String> {
    (!text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')).then(|| text.into())
}

/// `stage a + b: 12345 ns | -`
pub(super) fn parse_stage(line: &str, gpus: usize) -> Option<(Vec<String>, Vec<Option<Nanos>>)> {
    let (kernels, times) = line.strip_prefix("stage ")?.split_once(": ")?;
    let mut kernels: Vec<String> = kernels.split(" + ").map(kernel_name).collect::<Option<_>>()?;
    kernels.sort_unstable();
    let time = |text: &str| match text.trim() {
        "-" => Some(None),
        text => text.strip_suffix(" ns")?.parse().ok().filter(|&t| t > 0).map(Some),
    };
    let times: Vec<Option<Nanos>> = times.split('|').map(time).collect::<Option<_>>()?;
    (kernels.len() > 1 && times.len() == gpus).then_some((kernels, times))
}

fn parse_cost(text: &str, kernels: &[Kernel]) -> Option<OperatorCost> {
    let mut fields = text.split(", ");
    let time = fields.next()?.strip_suffix(" ns")?.parse().ok().filter(|&t| t > 0)?;
    let utilisation = fields.next()?.strip_prefix("busy ")?.parse::<f64>().ok().filter(|u| *u > 0.0 && *u <= 1.0)?;
    let name = fields.next()?;
    let kernel = kernels.iter().find(|k| k.name == name)?.clone();
    fields.next().is_none().then_some(OperatorCost { time, utilisation, kernel })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::estimate_with;
    use crate::device::Target;
    use crate::graph::{DType, Elementwise, Expr, OpKind, Operator, Origin, Tensor};

    fn graph() -> Graph {
        let mut graph = Graph::default();
        let tensor = |name: &str| Tensor { name: name.into(), dtype: DType::F32, shape: vec![1000], origin: Origin::Input };
        let (x, y) = (graph.add_tensor(tensor("x")), graph.add_tensor(tensor("y")));
        let kind = OpKind::Elementwise(Elementwise { expr: Expr::identity() });
        graph.add_operator(Operator { name: "a | b: \"c\"".into(), kind, inputs: vec![x], outputs: vec![y] });
        (graph.inputs, graph.outputs) = (vec![x], vec![y]);
        graph
    }

    fn kernels(_: OpId, _: &DeviceModel) -> Result<Vec<Kernel>> {
        let kernel = |name: &str, blocks: u32| Kernel {
            name: name.into(),
            source: String::new(),
            grid: [blocks, 1, 1],
            block: [128, 1, 1],
            shared_bytes: 0,
            static_shared_bytes: 0,
            registers: 32,
            ..Kernel::default()
        };
        Ok(vec![kernel("k1", 1), kernel("k8", 8)])
    }

    #[test]
    fn there_and_back() {
        let graph = graph();
        let mut table = estimate_with(&graph, &Target::uniform("a40", 2, "nvlink").unwrap(), kernels).unwrap();
        table.stages.insert(vec!["k1".into(), "k1".into()], vec![Some(7), None]);
        let text = table.to_text(&graph);
        assert!(
            text.starts_with("costs: estimated from device model a40, link nvlink\ngpu0: a40, compute capability 8.6, 48000000000 bytes\n"),
            "{text}"
        );
        assert!(text.contains("\nlink gpu1 -> gpu0: 3000 ns, 47250000000 bytes/s\n%0 \"a | b: \\\"c\\\"\": "), "{text}");
        assert!(text.ends_with("\nstage k1 + k1: 7 ns | -\n"), "{text}");
        assert_eq!(CostTable::parse(&text, &graph, kernels).unwrap(), table);
    }

    #[test]
    fn broken_texts_are_errors_that_name_the_line() {
        let graph = graph();
        let name = "%0 \"a | b: \\\"c\\\"\":";
        let gpu = "gpu0: a40, compute capability 8.6, 1 bytes\n";
        let broken = [
            ("".to_string(), "costs: there is no GPU"),
            (gpu.to_string(), "costs: 0 operators, the model has 1"),
            ("hello".into(), "costs, line 1: `hello` is not understood"),
            (
                "gpu1: a40, compute capability 8.6, 1 bytes".into(),
                "line 1: `gpu1: a40, compute capability 8.6, 1 bytes` does not describe GPU 0",
            ),
            (format!("{gpu}link gpu0 -> gpu1: 1 ns, 1 bytes/s"), "line 2: `link gpu0 -> gpu1: 1 ns, 1 bytes/s` does not describe a link"),
            (
                format!("{gpu}%0 \"z\": 1 ns, busy 1, k1"),
                "expected: are these the costs of another model, or made with other --no-fuse rules?",
            ),
            (format!("{gpu}stage k1: 1 ns"), "line 2: `stage k1: 1 ns` does not describe a stage"),
            (format!("{gpu}stage k1 + k1: 1 ns | 1 ns"), "line 2: `stage k1 + k1: 1 ns | 1 ns` does not describe a stage"),
            (format!("{gpu}stage k1 + k1: 0 ns"), "does not describe a stage"),
            (format!("{gpu}{name} 0 ns, busy 1, k1"), "line 2: `0 ns, busy 1, k1` is not a cost"),
            (format!("{gpu}{name} 1 ns, busy 2, k1"), "is not a cost"),
            (format!("{gpu}{name} 1 ns, busy 1, k2"), "is not a cost"),
            (format!("{gpu}{name} 1 ns, busy 1, k1 | 1 ns, busy 1, k1"), "line 2: 2 costs for 1 GPUs"),
            (format!("{gpu}{name} 1 ns, busy 1, k1\n%1 \"d\": 1 ns, busy 1, k1"), "line 3: the model has only 1 operators"),
        ];
        for (text, expected) in broken {
            let error = CostTable::parse(&text, &graph, kernels).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
