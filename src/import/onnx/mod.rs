//! The ONNX file, before tract sees it.
//!
//! **In**: a `.onnx` file (and the external data beside it), and the caller's [`ImportOptions`].
//! **Out**: the decoded and checked protobuf, with the caller's constants inserted and calls
//! inlined.
//!
//! * `decode.rs` decodes with prost and checks what can be checked in the file itself: external
//!   data, names, input shapes.
//! * `locate.rs` leaves the data of large initialisers in the file.
//! * `constants.rs` turns inputs that the caller fixes into initialisers.
//! * `inline.rs` inlines calls of the model's own functions, and the branch that an `If` takes if
//!   its condition is known.
//! * `tidy.rs` brings names, optional inputs and operators of other domains into one form.
//! * `operators.rs` is the table of ONNX's operators, and what each becomes.
//! * `attributes.rs` is the table of their attributes, and which are read.
//! * `bfloat16.rs` turns bfloat16, which the reader does not have, into f32 that is rounded.
//! * `limits.rs` says how large what a model asks for may be.
//! * `dtype.rs` converts between ONNX's codes of element types and our types.
//!
//! Of tract, only its protobuf types are used here.

pub mod attributes;
pub mod bfloat16;
mod constants;
pub mod decode;
pub mod dtype;
pub mod inline;
pub mod limits;
pub mod locate;
pub mod operators;
pub mod tidy;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use memmap2::Mmap;
use tract_onnx::pb;

pub use constants::{Literal, literal};

use crate::error::{Error, Result, nearest};
use crate::runtime::weights::sha256;

/// What the caller may say about a model.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ImportOptions {
    /// Shapes of inputs, by name. They replace the model's.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// Values of symbolic dimensions of inputs, by name: `batch`.
    pub dimensions: BTreeMap<String, usize>,
    /// Inputs whose values are known now, by name. They are not inputs of the compiled model.
    pub constants: BTreeMap<String, Literal>,
    /// Whether the model will not be run as a reference. Then less of it is kept in memory.
    pub(crate) no_reference: bool,
    /// Attributes to forget, each after its operator: tests damage the reader with it.
    #[cfg(feature = "internals")]
    #[doc(hidden)]
    pub forgotten: Vec<(&'static str, &'static str)>,
}

impl ImportOptions {
    /// Adds the shape of an input to [`shapes`](Self::shapes).
    pub fn shape(mut self, input: &str, shape: &[usize]) -> Self {
        self.shapes.insert(input.into(), shape.to_vec());
        self
    }

    /// Adds the value of a symbolic dimension to [`dimensions`](Self::dimensions).
    pub fn dimension(mut self, name: &str, value: usize) -> Self {
        self.dimensions.insert(name.into(), value);
        self
    }

    /// Adds the value of an input to [`constants`](Self::constants).
    pub fn constant(mut self, input: &str, value: Literal) -> Self {
        self.constants.insert(input.into(), value);
        self
    }
}

/// The file, checked, with the caller's constants inserted and functions inlined; and its SHA-256,
/// hex.
pub fn read(path: &Path, options: &ImportOptions) -> Result<(pb::ModelProto, String)> {
    let mut file = File::open(path).map_err(|error| Error::io(path)(or_near(path, error)))?;
    let seekable = file.metadata().is_ok_and(|data| data.is_file() && data.len() > 0);
    let (mut proto, hash, defaults) = if seekable {
        let hash = sha256(&mut file).map_err(Error::io(path))?;
        // SAFETY: the bytes are decoded while the map exists. A program that changes the file
        // meanwhile breaks its own model.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io(path))?;
        let defaults = inline::Defaults::of(&map);
        (decode::decode(path, &map, true)?, hash, defaults)
    } else {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(Error::io(path))?;
        let defaults = inline::Defaults::of(&bytes);
        (decode::decode(path, &bytes, false)?, sha256(&mut &bytes[..]).map_err(Error::io(path))?, defaults)
    };
    if let Some(graph) = &mut proto.graph {
        constants::fix(graph, &options.constants)?;
    }
    inline::functions(path, &mut proto, &defaults)?;
    tidy::tidy(path, &mut proto)?;
    #[cfg(feature = "internals")]
    for node in proto.graph.iter_mut().flat_map(|graph| &mut graph.node) {
        let forgotten = |attribute: &str| options.forgotten.contains(&(node.op_type.as_str(), attribute));
        node.attribute.retain(|attribute| !forgotten(&attribute.name));
    }
    Ok((proto, hash))
}

/// `error`, with the name of a model in the same folder if a file is missing that is called nearly
/// so.
fn or_near(path: &Path, error: std::io::Error) -> std::io::Error {
    if error.kind() != std::io::ErrorKind::NotFound {
        return error;
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let present = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut models: Vec<String> = present.filter(|name| name.ends_with(".onnx")).collect();
    models.sort();
    let wanted = path.file_name().unwrap_or_default().to_string_lossy();
    let models: Vec<&str> = models.iter().map(String::as_str).collect();
    match nearest(&wanted, &models) {
        Some(near) => std::io::Error::new(error.kind(), format!("{error}; did you mean `{near}`?")),
        None => error,
    }
}
