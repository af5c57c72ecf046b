//! Fuzzes the other texts and files that hiosc reads. The first byte says which kind the rest is.

use std::sync::LazyLock;

use hiosc::cost;
use hiosc::device::{Target, device, link};
use hiosc::runtime::npy;
use hiosc::schedule::{self, Effort, LinkMode, Problem};

use crate::accepted;
use crate::costs::COSTED;
use crate::pipeline;

/// The problem that schedules in text form refer to.
static PROBLEM: LazyLock<Problem> = LazyLock::new(|| {
    let target = Target::uniform("a40", 2, "nvlink").expect("a known target");
    let costs = cost::estimate(&COSTED, &target).expect("costs");
    Problem::new(&COSTED, &costs, LinkMode::Serial).expect("a problem")
});

/// Reads the bytes after the first one: `t` a topology, `d` devices and a link, `s` a schedule, `g`
/// a scheduling graph, `n` a `.npy` file, `o` an option's value.
pub fn texts(data: &[u8]) {
    let Some((&kind, rest)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(rest);
    match kind {
        b't' => {
            let _ = accepted(Target::from_topology(&text, "topology.txt")).map(|target| (target.source(), target.table_gpus()));
        }
        b'd' => {
            let mut words = text.split_whitespace();
            let (devices, count, joint) = (words.next().unwrap_or_default(), words.next(), words.next());
            let count = count.and_then(|n| n.parse().ok());
            let _ = (accepted(device(devices)), joint.map(link).and_then(accepted));
            let _ = accepted(Target::new(devices, count, joint));
        }
        b's' => {
            for graph in [None, Some(&*COSTED)] {
                let Some(schedule) = accepted(schedule::parse(&text, &PROBLEM, graph)) else { continue };
                // A text may describe a schedule that cannot run: that is refused here.
                let Some(timeline) = accepted(schedule::evaluate(&PROBLEM, &schedule)) else { continue };
                let _ = accepted(schedule::verify(&PROBLEM, &schedule, &timeline));
                let written = schedule::to_text(graph, &schedule, &timeline);
                let again = schedule::parse(&written, &PROBLEM, graph).expect("a schedule that is written can be read");
                assert_eq!(again, schedule, "a schedule changes when written and read again");
            }
        }
        b'g' => {
            if let Some(problem) = accepted(Problem::from_dag_text(&text, 3, LinkMode::Serial)) {
                pipeline::scheduled(&problem);
            }
        }
        b'n' => {
            if let Ok((dtype, shape, values)) = npy::open(rest) {
                let written = npy::write(&values, dtype, &shape);
                assert_eq!(npy::open(&written), Ok((dtype, shape.clone(), values.clone())), "a file changes when written and read again");
                assert_eq!(npy::read(&written, dtype, &shape), Ok(values));
            }
        }
        _ => {
            let _ = (accepted(text.parse::<Effort>()), accepted(text.parse::<schedule::Algorithm>()));
        }
    }
}
