//! Fuzzes all passes and verifiers with small sound graphs: what one pass makes, the next must
//! accept.

use arbitrary::Unstructured;

use hiosc::fuse::RULES;
use hiosc::schedule::{Algorithm, Effort, LinkMode, ScheduleOptions};

use crate::generate::{self, ByteTape};
use crate::pipeline::{self, CompileOptions};

const DEVICES: [&str; 6] = ["a40,a40", "a40", "a40,l4", "h100,h100,h100,h100", "rtx4090,l4,l4", "v100,a100,a100"];

/// Generates a graph and options, and compiles it.
pub fn plan(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    let mut tape = ByteTape(&mut bytes);
    let options = options(&mut tape);
    let graph = generate::graph(&mut tape, 16);
    graph.verify().expect("a generated graph is sound");
    pipeline::run(graph, &options);
}

fn options(tape: &mut ByteTape) -> CompileOptions {
    let mut rules = RULES.iter().map(|rule| rule.name).filter(|&name| name != "free-views").collect::<Vec<_>>();
    rules.retain(|_| tape.once_in(12));
    let scheduling = ScheduleOptions::default()
        .window(1 + tape.below(5))
        .max_streams(1 + tape.below(4))
        .max_chain(1 + tape.below(3))
        .relaxed_paths(tape.once_in(2))
        .effort(Effort::Evaluations(tape.below(300) as u64))
        .seed(tape.below(8) as u64);
    CompileOptions {
        without: rules.into_iter().map(String::from).collect(),
        devices: tape.of(&DEVICES).into(),
        links: if tape.once_in(3) { LinkMode::Free } else { LinkMode::Serial },
        algorithm: tape.of(&Algorithm::ALL),
        scheduling,
        stage_barriers: tape.once_in(4),
        emitted: tape.once_in(64),
    }
}
