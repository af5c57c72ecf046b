//! The table of attributes and optional inputs, against ONNX's own schemas.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hiosc::import::operators::{ROWS, Support};
use hiosc::import::{ImportOptions, attributes, import};

use crate::support::onnx::{Attr, Model};

/// The attributes and optional inputs of an operator at one version.
#[derive(Clone, Default)]
struct Schema {
    attributes: BTreeSet<String>,
    optional: BTreeSet<String>,
}

/// The schemas in `testdata/onnx_schemas.txt`, by operator and version.
fn schemas() -> BTreeMap<String, BTreeMap<i64, Schema>> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/onnx_schemas.txt")).expect("the schemas");
    let mut all: BTreeMap<String, BTreeMap<i64, Schema>> = BTreeMap::new();
    let mut at = (String::new(), 0);
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if !line.starts_with(' ') {
            at = (words[0].to_string(), words[1].parse().expect("a version"));
            all.entry(at.0.clone()).or_default().insert(at.1, Schema::default());
            continue;
        }
        let schema = all.get_mut(&at.0).and_then(|versions| versions.get_mut(&at.1)).expect("a schema before its parts");
        match words[..] {
            ["attribute", name, ..] => _ = schema.attributes.insert(name.into()),
            ["input", name, "optional"] => _ = schema.optional.insert(name.into()),
            _ => {}
        }
    }
    all
}

/// Every attribute and optional input that an operator has at an opset that hiosc reads is in the
/// table, and the table has no others.
#[test]
fn the_table_knows_all_attributes_of_onnx() {
    let schemas = schemas();
    assert!(schemas.len() > 150, "the schemas are not where they were");
    let newest = schemas.values().flat_map(BTreeMap::keys).max().copied();
    assert_eq!(newest, Some(28), "the schemas are of another opset than the newest that is read: see src/import/onnx/tidy.rs");
    let mut wrong = Vec::new();
    for row in ROWS.iter().filter(|row| !matches!(row.support, Support::Refused { .. })) {
        let name = row.full_name();
        let Some(table) = attributes::find(&name) else {
            wrong.push(format!("{name} has no row"));
            continue;
        };
        // operators of ONNX Runtime have no schemas here
        let Some(versions) = schemas.get(&name) else { continue };
        // the version that opset 6 has, and all later ones
        let first = versions.keys().filter(|&&version| version <= 6).max().copied().unwrap_or(0);
        let read = || versions.range(first..).map(|(_, schema)| schema);
        let words =
            |text: &str| -> BTreeSet<String> { text.split_whitespace().map(|word| attributes::name_in(word).to_string()).collect() };
        for (what, known, defined) in [
            ("attributes", words(table.attributes), read().flat_map(|schema| schema.attributes.clone()).collect::<BTreeSet<_>>()),
            ("optional inputs", words(table.inputs), read().flat_map(|schema| schema.optional.clone()).collect()),
        ] {
            if known != defined {
                wrong.push(format!("{name}: the table has the {what} {known:?}, ONNX {defined:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "src/import/onnx/attributes.rs:\n{}", wrong.join("\n"));
}

#[test]
fn what_the_table_does_not_know_is_refused_by_name() {
    let refused = |operator: &str, attributes: &[Attr]| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let model = Model::new().input("x", &[2, 3]).output("y", &[2, 3]).node(operator, &["x"], "y", attributes);
        let path = model.save(folder.path(), "model");
        import(&path, &ImportOptions::default()).err().expect("a refusal").to_string()
    };
    let odd = refused("Relu", &[Attr::Int("colour", 7)]);
    assert!(odd.contains("Relu (node \"/y/Relu\"): its attribute \"colour\" is not known"), "{odd}");
    let training = refused("BatchNormalization", &[Attr::Int("training_mode", 1)]);
    assert!(training.contains("its attribute training_mode is 1, of which only 0 is supported"), "{training}");
}
