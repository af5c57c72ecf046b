//! Fuzzes the files for `--costs`: a table of one graph's costs, or a profile of measured costs.
//!
//! An accepted file is written and read again, which must give the same. Then the graph is
//! scheduled with these costs.

use std::sync::LazyLock;

use arbitrary::Unstructured;

use hiosc::cost::{CostTable, Profile};
use hiosc::device::Target;
use hiosc::fuse::fuse;
use hiosc::graph::Graph;
use hiosc::kernel;
use hiosc::schedule::{LinkMode, Problem};

use crate::accepted;
use crate::generate::{self, ByteTape};
use crate::pipeline;

/// The graph that tables refer to: always the same one, of a few operators.
pub static COSTED: LazyLock<Graph> = LazyLock::new(|| {
    let choices: Vec<u8> = (0..400u32).map(|i| (i * 37 + i * i * 11) as u8).collect();
    let mut bytes = Unstructured::new(&choices);
    let graph = generate::graph(&mut ByteTape(&mut bytes), 8);
    fuse(graph, &[]).expect("a sound graph")
});

/// The target that a table is checked against.
static TARGET: LazyLock<Target> = LazyLock::new(|| Target::uniform("a40", 2, "nvlink").expect("a known target"));

/// Reads the bytes as costs.
pub fn costs(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let graph = &*COSTED;
    let table = |text: &str| CostTable::parse(text, graph, |op, device| kernel::candidates(graph, op, device));
    let read = if Profile::is_one(&text) {
        let Some(profile) = accepted(Profile::parse(&text)) else { return };
        let again = Profile::parse(&profile.to_text()).expect("a profile that is written can be read");
        assert_eq!(again.to_text(), profile.to_text(), "a profile changes when written and read again");
        let _ = accepted(profile.check_fresh());
        let mut merged = profile.clone();
        let _ = accepted(merged.merge(profile.clone()));
        accepted(profile.table(graph, |op, device| kernel::candidates(graph, op, device)))
    } else {
        accepted(table(&text))
    };
    let Some(costs) = read else { return };
    let written = costs.to_text(graph);
    let again = table(&written).unwrap_or_else(|e| panic!("a table that is written cannot be read: {e}\n{written}"));
    assert_eq!(again.to_text(graph), written, "a table changes when written and read again");
    let _ = accepted(costs.check_target(&TARGET));
    if let Some(problem) = accepted(Problem::new(graph, &costs, LinkMode::Serial)) {
        pipeline::scheduled(&problem);
    }
}
