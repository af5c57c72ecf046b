//! The file `weights.safetensors`, which is never in memory as a whole: its constants are packed
//! and written piece by piece, once for its hash and once to disk.

use std::io::{self, BufWriter, Read, Write};

use safetensors::tensor::{Metadata, TensorInfo};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::graph::{Constant, Graph};
use crate::kernel::Packing;
use crate::plan::Weight;
use crate::program::Program;

/// The path of the file in a crate.
pub const PATH: &str = "weights.safetensors";

/// Bytes that are written at once.
const PIECE: usize = 1 << 20;

/// The contents of `weights.safetensors`.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// Everything before the data.
    header: Vec<u8>,
    /// The constants in the order of the file, each with its layout.
    constants: Vec<(Constant, Option<Packing>)>,
    /// Size of the file.
    bytes: u64,
}

impl Weights {
    /// All constants that any GPU reads, once per layout.
    pub fn new(program: &Program) -> Result<Weights> {
        let graph = program.graph;
        // the order of the library safetensors
        let mut weights: Vec<(String, Weight)> = program.weights.iter().map(|&weight| (key(weight, graph), weight)).collect();
        let dtype = |weight: &Weight| graph.tensor(weight.tensor).dtype;
        weights.sort_by(|(a_name, a), (b_name, b)| dtype(b).stored().cmp(&dtype(a).stored()).then(a_name.cmp(b_name)));

        let (mut constants, mut entries, mut end) = (Vec::new(), Vec::new(), 0);
        for (name, weight) in weights {
            let begin = end;
            end += weight.bytes(graph) as usize;
            let (shape, constant) = (weight.shape(graph), program.constant(weight)?.clone());
            entries.push((name, TensorInfo { dtype: dtype(&weight).stored(), shape, data_offsets: (begin, end) }));
            constants.push((constant, weight.packing));
        }
        let fail = |e: &dyn std::fmt::Display| Error::internal("emit", format!("safetensors: {e}"));
        let metadata = Metadata::new(None, entries).map_err(|e| fail(&e))?;
        let mut text = serde_json::to_string(&metadata).map_err(|e| fail(&e))?;
        text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));
        let header = [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
        let bytes = (header.len() + end) as u64;
        Ok(Weights { header, constants, bytes })
    }

    /// Size of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Everything before the data.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// The constants in the order of their data, each with its layout.
    pub fn constants(&self) -> &[(Constant, Option<Packing>)] {
        &self.constants
    }

    /// Writes the file's contents.
    pub fn write(&self, to: impl Write) -> io::Result<()> {
        let mut to = BufWriter::with_capacity(PIECE, to);
        to.write_all(&self.header)?;
        for (constant, packing) in &self.constants {
            match packing {
                None => constant.bytes().chunks(PIECE).try_for_each(|piece| to.write_all(piece))?,
                Some(packing) => packing.write(constant.bytes(), constant.dtype().bytes() as usize, &mut to)?,
            }
        }
        to.flush()
    }

    /// The file's SHA-256, hex.
    pub fn sha256(&self) -> Result<String> {
        let mut hash = Sha256::new();
        self.write(&mut hash).map_err(|e| Error::internal("emit", format!("weights: {e}")))?;
        Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
    }

    /// Whether `file` has the same contents.
    pub fn equals(&self, file: impl Read) -> bool {
        let mut compare = Compare { file, piece: Vec::new() };
        self.write(&mut compare).is_ok() && matches!(compare.file.read(&mut [0]), Ok(0))
    }
}

/// Fails to write what is not next in a file.
struct Compare<R> {
    file: R,
    piece: Vec<u8>,
}

impl<R: Read> Write for Compare<R> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.resize(bytes.len(), 0);
        self.file.read_exact(&mut self.piece)?;
        if self.piece == bytes { Ok(bytes.len()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The name of a constant in the file.
pub fn key(weight: Weight, graph: &Graph) -> String {
    let packing = weight.packing.map_or(String::new(), |packing| format!(", {packing}"));
    format!("{}:{}{packing}", weight.tensor.0, graph.tensor(weight.tensor).name)
}
