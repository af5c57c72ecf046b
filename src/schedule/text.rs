//! Schedules in text form (`--emit schedule`): writer and parser.
//!
//! ```text
//! schedule hios-lp
//! latency 14000 ns
//! gpu0
//!   stage 0: 0..4000
//!     %0 "conv1"
//!   stage 1: 4000..8000
//!     %1 "left/conv"
//!     %2 "right/conv"
//! gpu1
//!   stage 0: 5000..9000
//!     %3 "pool"
//! transfers
//!   t4 "conv1_out" gpu0 -> gpu1: 4000..5000
//! ```
//!
//! Names are quoted as Rust strings, and left out where there is no graph. [`parse`] reads the
//! algorithm, GPUs, stages and operators. It ignores times and transfers, which are for people and
//! are recomputed. Where there is a graph, the names must match it, so that a schedule of another
//! model, or of an older version of this one, is not used by mistake. Empty lines and lines that
//! begin with `#` are allowed.

use std::fmt::Write;

use super::{Problem, Schedule, Stage, Timeline, evaluate};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::ids::{OpId, TensorId};

/// The text of `schedule` with its times, and with names if there is a graph.
pub fn to_text(graph: Option<&Graph>, schedule: &Schedule, timeline: &Timeline) -> String {
    let operator = |op: OpId| operator_text(graph, op);
    let tensor = |t: TensorId| match graph {
        Some(graph) => format!("{t} {:?}", graph.tensor(t).name),
        None => t.to_string(),
    };
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "schedule {}\nlatency {} ns", schedule.algorithm, timeline.latency);
    for (gpu, stages) in schedule.gpus.iter().enumerate() {
        let _ = writeln!(out, "gpu{gpu}");
        for (index, stage) in stages.iter().enumerate() {
            match timeline.stages.get(gpu).and_then(|times| times.get(index)) {
                Some(time) => drop(writeln!(out, "  stage {index}: {}..{}", time.start, time.finish)),
                None => drop(writeln!(out, "  stage {index}")),
            }
            for &op in &stage.operators {
                let _ = writeln!(out, "    {}", operator(op));
            }
        }
    }
    let _ = writeln!(out, "transfers");
    for t in &timeline.transfers {
        let _ = writeln!(out, "  {} {} -> {}: {}..{}", tensor(t.tensor), t.from, t.to, t.start, t.finish);
    }
    out
}

/// `%3 "conv1"`, or `%3`.
fn operator_text(graph: Option<&Graph>, op: OpId) -> String {
    match graph {
        Some(graph) => format!("{op} {:?}", graph.operator(op).name),
        None => op.to_string(),
    }
}

/// The schedule in `text`, which must be a schedule of `problem`.
///
/// # Errors
///
/// [`Error::Usage`], with the line number where there is one. The text is user input.
pub fn parse(text: &str, problem: &Problem, graph: Option<&Graph>) -> Result<Schedule> {
    let mut lines =
        text.lines().enumerate().map(|(i, line)| (i + 1, line.trim())).filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let fail = |number: usize, message: String| Err(Error::Usage(format!("schedule, line {number}: {message}")));

    let Some((number, line)) = lines.next() else { return fail(1, "the text is empty".into()) };
    let Some(algorithm) = line.strip_prefix("schedule ").map(str::trim) else {
        return fail(number, format!("`schedule ALGORITHM` expected, found `{line}`"));
    };
    let mut schedule = Schedule { algorithm: algorithm.into(), gpus: Vec::new() };
    let mut seen = vec![false; problem.operators()];
    let mut complete = false;
    for (number, line) in lines {
        if line.starts_with('%') {
            let id = line.split_whitespace().next().unwrap_or(line);
            let Some(op) = id[1..].parse().ok().map(OpId).filter(|op| op.index() < seen.len()) else {
                return fail(number, format!("`{id}` is not one of the model's {} operators", seen.len()));
            };
            let expected = operator_text(graph, op);
            if graph.is_some() && line != expected {
                return fail(number, format!("the model has `{expected}`, not `{line}`: is this the schedule of another model?"));
            }
            let Some(stage) = schedule.gpus.last_mut().and_then(|stages: &mut Vec<Stage>| stages.last_mut()) else {
                return fail(number, format!("{id} belongs to no stage"));
            };
            if std::mem::replace(&mut seen[op.index()], true) {
                return fail(number, format!("{id} appears twice"));
            }
            stage.operators.push(op);
        } else if line.starts_with("stage ") {
            let Some(stages) = schedule.gpus.last_mut() else { return fail(number, "this stage belongs to no GPU".into()) };
            stages.push(Stage { operators: Vec::new() });
        } else if let Some(gpu) = line.strip_prefix("gpu") {
            let expected = schedule.gpus.len();
            if gpu.parse() != Ok(expected) || expected >= problem.gpus {
                return fail(number, format!("`{line}` found; the GPUs are gpu0 to gpu{}, in order, each once", problem.gpus - 1));
            }
            schedule.gpus.push(Vec::new());
        } else if line == "transfers" {
            complete = true;
            break;
        } else if !line.starts_with("latency ") {
            return fail(number, format!("`{line}` is not understood"));
        }
    }
    if !complete {
        return fail(text.lines().count() + 1, "the text ends before `transfers`".into());
    }
    if let Some(missing) = seen.iter().position(|&s| !s) {
        return Err(Error::Usage(format!("schedule: operator {} is missing", operator_text(graph, OpId::new(missing)))));
    }
    schedule.gpus.resize(problem.gpus, Vec::new());
    let position = problem.positions();
    for stage in schedule.gpus.iter_mut().flatten() {
        stage.operators.sort_by_key(|op| position[op.index()]);
    }
    match evaluate(problem, &schedule) {
        Ok(_) => Ok(schedule),
        Err(Error::Internal { message, .. }) => Err(Error::Usage(format!("schedule: {message}"))),
        Err(other) => Err(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{DType, Elementwise, Expr, OpKind, Operator, Origin, Tensor};
    use crate::schedule::{Algorithm, LinkMode, schedule};

    fn chain(gpus: usize) -> Problem {
        Problem::from_dag_text("3\n0 1 1\n1 2 1\n2 3 1\n2\n0 1 1\n1 2 1\n", gpus, LinkMode::Serial).unwrap()
    }

    fn named_chain() -> Graph {
        let mut graph = Graph::default();
        let tensor = |name: &str| Tensor { name: name.into(), dtype: DType::F32, shape: vec![], origin: Origin::Input };
        let mut last = graph.add_tensor(tensor("x"));
        graph.inputs = vec![last];
        for name in ["a", "b \"quoted\"\n", "c"] {
            let output = graph.add_tensor(tensor(&format!("{name}_out")));
            let kind = OpKind::Elementwise(Elementwise { expr: Expr::identity() });
            graph.add_operator(Operator { name: name.into(), kind, inputs: vec![last], outputs: vec![output] });
            last = output;
        }
        graph.outputs = vec![last];
        graph
    }

    #[test]
    fn text_form() {
        let p = chain(2);
        let s = schedule(&p, Algorithm::Scatter).unwrap();
        let t = evaluate(&p, &s).unwrap();
        let expected = "schedule scatter
latency 8000000 ns
gpu0
  stage 0: 0..1000000
    %0
  stage 1: 5000000..8000000
    %2
gpu1
  stage 0: 2000000..4000000
    %1
transfers
  t0 gpu0 -> gpu1: 1000000..2000000
  t1 gpu1 -> gpu0: 4000000..5000000
";
        assert_eq!(to_text(None, &s, &t), expected);
        assert_eq!(parse(expected, &p, None).unwrap(), s);
    }

    #[test]
    fn names_are_quoted_and_compared() {
        let (p, graph) = (chain(2), named_chain());
        let s = schedule(&p, Algorithm::Scatter).unwrap();
        let text = to_text(Some(&graph), &s, &evaluate(&p, &s).unwrap());
        assert!(text.contains("    %1 \"b \\\"quoted\\\"\\n\"\n"), "{text}");
        assert_eq!(parse(&text, &p, Some(&graph)).unwrap(), s);
        let error = parse(&text.replace("\"a\"", "\"z\""), &p, Some(&graph)).unwrap_err().to_string();
        assert_eq!(error, "schedule, line 5: the model has `%0 \"a\"`, not `%0 \"z\"`: is this the schedule of another model?");
    }

    #[test]
    fn broken_texts_are_errors_that_name_the_line() {
        let p = chain(2);
        let broken = [
            ("", "line 1: the text is empty"),
            ("hello", "line 1: `schedule ALGORITHM` expected, found `hello`"),
            ("schedule x\n%0", "line 2: %0 belongs to no stage"),
            ("schedule x\nstage 0", "line 2: this stage belongs to no GPU"),
            ("schedule x\ngpu1", "line 2: `gpu1` found"),
            ("schedule x\ngpu0\ngpu1\ngpu2", "line 4: `gpu2` found; the GPUs are gpu0 to gpu1"),
            ("schedule x\ngpu0\n\n# note\nstage 0\n%0\n%0", "line 7: %0 appears twice"),
            ("schedule x\ngpu0\nstage 0\n%9", "line 4: `%9` is not one of the model's 3 operators"),
            ("schedule x\ngpu0\nwhat", "line 3: `what` is not understood"),
            ("schedule x\ngpu0\nstage 0\n%0\n", "line 5: the text ends before `transfers`"),
            ("schedule x\ngpu0\nstage 0\n%0\ntransfers", "schedule: operator %1 is missing"),
            ("schedule x\ngpu0\nstage 0\n%1\nstage 1\n%0\nstage 2\n%2\ntransfers", "never starts"),
            ("schedule x\ngpu0\nstage 0\n%0\nstage 1\nstage 2\n%1\nstage 3\n%2\ntransfers", "stage 1 of gpu0 is empty"),
        ];
        for (text, expected) in broken {
            let error = parse(text, &p, None).unwrap_err();
            assert!(matches!(error, Error::Usage(_)));
            assert!(error.to_string().contains(expected), "{text:?}: {error}");
        }
    }
}
