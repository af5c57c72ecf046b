//! Models with stored outputs, most of them computed by onnxruntime: `testdata/models/*.zip`.
//!
//! Each model is imported and fused, and the graph is interpreted. `examples/conformance` runs the
//! same models on virtual GPUs. Refusals must be those in `testdata/models/refused.txt`, which
//! `HIOSC_BLESS=1 cargo test --release --test passes stored` rewrites.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use hiosc::graph::{Constant, Graph};
use hiosc::import::{ImportOptions, import};
use hiosc::{Error, fuse};

use super::case::{self, Array, DataSet};
use crate::support::interpret::interpret;

/// What becomes of a model.
#[derive(Clone, Debug, PartialEq)]
enum Outcome {
    Right,
    Refused(String),
    Wrong(String),
}

/// The graph of the model for the shapes of `set`, and the inputs that it still has: if it is
/// refused with all inputs at run time, some become constants.
fn graph_of(model: &Path, set: &DataSet) -> hiosc::Result<(Graph, Vec<(String, Array)>)> {
    let attempt = |constants: &[(String, hiosc::Literal)]| {
        let mut options = ImportOptions::default();
        let mut kept = set.inputs.clone();
        kept.retain(|(name, _)| constants.iter().all(|(constant, _)| constant != name));
        for (name, array) in &kept {
            options = options.shape(name, &array.shape);
        }
        for (name, literal) in constants {
            options = options.constant(name, literal.clone());
        }
        Ok((import(model, &options)?.graph, kept))
    };
    let first = attempt(&[]);
    match first {
        Err(Error::Unsupported(_) | Error::Model { .. }) => {
            set.constants().iter().map(|constants| attempt(constants)).find(Result::is_ok).unwrap_or(first)
        }
        other => other,
    }
}

fn outcome(folder: &Path) -> Outcome {
    let model = case::model(folder);
    let set = match case::data_sets(folder) {
        Ok(mut sets) => sets.remove(0),
        Err(error) => return Outcome::Wrong(format!("{error:#}")),
    };
    let (graph, inputs) = match graph_of(&model, &set) {
        Ok(found) => found,
        Err(Error::Unsupported(lines)) => return Outcome::Refused(lines.join("; ")),
        Err(Error::Model { message, .. }) if message.contains(" (node \"") => return Outcome::Refused(message),
        Err(error) => return Outcome::Wrong(error.to_string()),
    };
    let graph = match fuse::fuse(graph, &[]) {
        Ok(graph) => graph,
        Err(error) => return Outcome::Wrong(error.to_string()),
    };
    let given = |id: &hiosc::ids::TensorId| {
        let name = &graph.tensor(*id).name;
        inputs.iter().find(|(input, _)| input == name).map(|(_, array)| array.values.clone())
    };
    let Some(given) = graph.inputs.iter().map(given).collect::<Option<Vec<Constant>>>() else {
        return Outcome::Wrong("it has an input without data".into());
    };
    let outputs = interpret(&graph, &given);
    for ((values, &id), expected) in outputs.into_iter().zip(&graph.outputs).zip(&set.outputs) {
        let found = Array { shape: graph.tensor(id).shape.clone(), values };
        if let Some(difference) = found.difference(expected, set.half) {
            return Outcome::Wrong(format!("{}: {difference}", graph.tensor(id).name));
        }
    }
    Outcome::Right
}

/// The cases of an archive, by name: `random/007`.
fn cases(archive: &Path, into: &Path) -> BTreeMap<String, PathBuf> {
    let stem = archive.file_stem().expect("a name").to_string_lossy().into_owned();
    let folder = into.join(&stem);
    let file = fs::File::open(archive).expect("an archive");
    zip::ZipArchive::new(file).and_then(|mut archive| archive.extract(&folder)).expect("a sound archive");
    let entries = fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry"));
    entries.map(|entry| (format!("{stem}/{}", entry.file_name().to_string_lossy()), entry.path())).collect()
}

#[test]
fn stored_models_give_their_stored_outputs() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/models");
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let mut all: BTreeMap<String, PathBuf> = BTreeMap::new();
    for archive in ["attributes", "bf16", "contrib", "field", "random"] {
        all.extend(cases(&models.join(format!("{archive}.zip")), scratch.path()));
    }
    assert!(all.len() > 1400, "{} models", all.len());
    let all: Vec<(String, PathBuf)> = all.into_iter().collect();
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let outcomes: BTreeMap<String, Outcome> = std::thread::scope(|scope| {
        let part = |first: usize| {
            let all = &all;
            scope.spawn(move || {
                let guarded =
                    |path: &Path| catch_unwind(AssertUnwindSafe(|| outcome(path))).unwrap_or_else(|_| Outcome::Wrong("it panics".into()));
                all.iter().skip(first).step_by(threads).map(|(name, path)| (name.clone(), guarded(path))).collect::<Vec<_>>()
            })
        };
        let workers: Vec<_> = (0..threads).map(part).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker")).collect()
    });
    let wrong: Vec<String> = outcomes
        .iter()
        .filter_map(|(name, outcome)| match outcome {
            Outcome::Wrong(why) => Some(format!("{name}: {why}")),
            _ => None,
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), outcomes.len(), wrong.join("\n"));
    let refused: String = outcomes
        .iter()
        .filter_map(|(name, outcome)| match outcome {
            Outcome::Refused(why) => Some(format!("{name}: {why}\n")),
            _ => None,
        })
        .collect();
    let list = models.join("refused.txt");
    if std::env::var_os("HIOSC_BLESS").is_some_and(|value| value == "1") {
        fs::write(&list, &refused).expect("a writable list");
    }
    let expected = fs::read_to_string(&list).unwrap_or_default();
    let difference = super::cases::difference(&expected, &refused);
    assert!(expected == refused, "the refusals differ from {}; see the head of this file\n{difference}", list.display());
}
