//! [`KernelSpec`]: what a family decides about a kernel. `finish` makes its name and source text.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::{Effort, Kernel, Member, OpContext, Packing};
use crate::graph::DType;

/// The longest kernel name.
const MAX_NAME: usize = 120;

/// A parameter of a kernel: a pointer to a tensor.
#[derive(Clone)]
pub(super) struct Param {
    pub name: String,
    pub dtype: DType,
    /// Whether it is written.
    pub output: bool,
}

impl Param {
    /// `const float *__restrict__ x0`.
    fn cpp(&self) -> String {
        let constant = if self.output { "" } else { "const " };
        format!("{constant}{} *__restrict__ {}", cpp_type(self.dtype), self.name)
    }
}

/// The C++ name of an element type, in kernels and headers.
pub(super) fn cpp_type(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool => "bool",
        DType::I8 => "signed char",
        DType::I16 => "short",
        DType::I32 => "int",
        DType::I64 => "long long",
        DType::U8 => "unsigned char",
        DType::U16 => "unsigned short",
        DType::U32 => "unsigned",
        DType::U64 => "unsigned long long",
        DType::F16 => "hiosc::half",
        DType::BF16 => "hiosc::bfloat16",
        DType::F32 => "float",
        DType::F64 => "double",
    }
}

/// Elements in 16 bytes, which a thread moves at once.
pub(super) fn vector(dtype: DType) -> usize {
    16 / dtype.bytes() as usize
}

/// Cycles in which the lanes of a warp combine their values: five shuffles, each followed by an
/// operation.
pub(super) const SHUFFLES: u64 = 150;

/// Cycles in which the threads of a block do, in shared memory, with two barriers.
pub(super) const BLOCK_SHUFFLES: u64 = SHUFFLES + 150;

/// Neighbours that a lane reads at once if a warp shares a row of `length` elements: as many as do
/// not make the busiest lane's part of the row longer by more than one.
pub(super) fn vector_of_row(length: usize, dtype: DType) -> usize {
    let part = |width: usize| length.div_ceil(32 * width) * width;
    let suits = |&width: &usize| width <= vector(dtype) && length.is_multiple_of(width) && part(width) <= part(1) + 1;
    [4, 2].into_iter().find(suits).unwrap_or(1)
}

/// Threads per block if each of `rows` rows has a warp: fewer where larger blocks would leave
/// multiprocessors of the device idle.
pub(super) fn warps_of_rows(ctx: &OpContext, rows: u64) -> u32 {
    [128, 64].into_iter().find(|&threads| 32 * rows >= u64::from(threads) * 2 * ctx.device.sms).unwrap_or(32)
}

/// [`Effort::words`](super::Effort::words) of `width` neighbours.
pub(super) fn words_of(dtype: DType, width: u64) -> u64 {
    (width * dtype.bytes()).div_ceil(4)
}

/// What the family files decide; [`KernelSpec::finish`] does the rest.
pub(super) struct KernelSpec {
    /// Name of the signature: `conv_n1c3h224w224_k64r3s3_...`. Element types are added unless all
    /// are f32.
    pub signature: String,
    /// Name of the candidate: `bm64bn64bk16`; may be empty.
    pub candidate: String,
    /// What the kernel computes, in words, one entry per comment line.
    pub comment: Vec<String>,
    /// The header to include.
    pub header: &'static str,
    /// The parameters in order: the inputs, then the output.
    /// [`OpContext::params`](super::OpContext::params) makes them. Those of `needs` are added to
    /// the source: `float *workspace`, `unsigned *counters`.
    pub params: Vec<Param>,
    /// Whether its threads use barriers or warp collectives.
    pub sync: bool,
    /// Threads per block.
    pub threads: u32,
    /// Blocks.
    pub grid: [u64; 3],
    /// Static shared memory per block, in bytes.
    pub static_shared_bytes: u32,
    /// Registers per thread.
    pub registers: u32,
    /// [`Kernel::trips`]: `loops.rs` counts them.
    pub trips: Vec<u64>,
    /// What else the launch needs.
    pub needs: Needs,
    /// The statements of the body, one per line.
    pub body: Vec<String>,
}

/// What only some kernels need; the default is for all others. See the fields of [`Kernel`].
pub(super) struct Needs {
    pub shared_bytes: u32,
    /// Blocks that must fit on a multiprocessor, which limits the registers. Without a number, the
    /// compiler saves registers, at the cost of loads in flight.
    pub resident_blocks: Option<u32>,
    pub cycles: Option<u64>,
    pub split: u32,
    pub workspace_bytes: u64,
    pub counters: u32,
    pub packings: Vec<(usize, Packing)>,
    pub min_capability: (u32, u32),
    pub members: Vec<Member>,
    pub effort: Option<Effort>,
}

impl Default for Needs {
    fn default() -> Needs {
        let Kernel { shared_bytes, cycles, effort, split, workspace_bytes, counters, packings, min_capability, members, .. } =
            Kernel::default();
        Needs { shared_bytes, resident_blocks: None, cycles, effort, split, workspace_bytes, counters, packings, min_capability, members }
    }
}

impl KernelSpec {
    /// The kernel, or `None` if no GPU can launch so many blocks.
    pub fn finish(self) -> Option<Kernel> {
        let limits = [i32::MAX as u64, 65535, 65535];
        if self.grid.iter().zip(limits).any(|(&blocks, limit)| blocks > limit) {
            return None;
        }
        let mut name = self.signature.clone() + &self.types();
        if !self.candidate.is_empty() {
            name.push('_');
            name.push_str(&self.candidate);
        }
        if name.len() > MAX_NAME {
            let digest = Sha256::digest(self.source(&name));
            name.truncate(MAX_NAME - 18);
            name.push_str("_h");
            digest[..8].iter().for_each(|byte| write!(name, "{byte:02x}").expect("writing to a String"));
        }
        Some(Kernel {
            source: self.source(&name),
            name,
            grid: self.grid.map(|blocks| blocks as u32),
            block: [self.threads, 1, 1],
            shared_bytes: self.needs.shared_bytes,
            static_shared_bytes: self.static_shared_bytes,
            registers: self.registers,
            trips: self.trips,
            cycles: self.needs.cycles,
            split: self.needs.split,
            workspace_bytes: self.needs.workspace_bytes,
            counters: self.needs.counters,
            packings: self.needs.packings,
            min_capability: self.needs.min_capability,
            members: self.needs.members,
            effort: self.needs.effort,
        })
    }

    /// What the element types add to the signature: nothing if all are f32, `_i64` if all are the
    /// same, else all in order: `_bool_f32_f32_f32`.
    fn types(&self) -> String {
        let alike = self.params.windows(2).all(|pair| pair[0].dtype == pair[1].dtype);
        match self.params.first() {
            Some(Param { dtype: DType::F32, .. }) if alike => String::new(),
            Some(Param { dtype, .. }) if alike => format!("_{}", dtype.name()),
            _ => self.params.iter().map(|param| format!("_{}", param.dtype.name())).collect(),
        }
    }

    fn source(&self, name: &str) -> String {
        let mut text = String::new();
        for line in &self.comment {
            text += &format!("// {line}\n");
        }
        let no_sync = if self.sync { "" } else { "_NO_SYNC" };
        let (resident, blocks) = match self.needs.resident_blocks {
            Some(blocks) => ("_RESIDENT", format!(", {blocks}")),
            None => ("", String::new()),
        };
        let workspace = (self.needs.workspace_bytes > 0).then(|| "float *workspace".into());
        let counters = (self.needs.counters > 0).then(|| "unsigned *counters".into());
        let params: Vec<String> = self.params.iter().map(Param::cpp).chain(workspace).chain(counters).collect();
        text += &format!("#include \"{}\"\n\nHIOSC_KERNEL{no_sync}{resident}({name}, {}{blocks},\n", self.header, self.threads);
        text += &format!("    ({})) {{\n  using namespace hiosc;\n", params.join(",\n     "));
        for line in &self.body {
            text += &format!("  {line}\n");
        }
        text + "}\n"
    }
}

/// `struct Shape` with integer constants, one line per row, as lines of a body.
pub(super) fn shape_struct(rows: &[&[(&str, usize)]]) -> Vec<String> {
    let mut lines = vec!["struct Shape {".into(), "  enum : int {".into()];
    for row in rows {
        let constants: Vec<_> = row.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        lines.push(format!("    {},", constants.join(", ")));
    }
    lines.extend(["  };".into(), "};".into()]);
    lines
}

/// `64x3x7x7`; `1` for no dimensions.
pub(super) fn by_x(values: &[usize]) -> String {
    if values.is_empty() {
        return "1".into();
    }
    values.iter().map(|v| v.to_string()).collect::<Vec<_>>().join("x")
}

/// `Ints<64, 3025>`.
pub(super) fn ints(values: &[usize]) -> String {
    format!("Ints<{}>", values.iter().map(|v| v.to_string()).collect::<Vec<_>>().join(", "))
}

/// `x0, x1, x2` for 3.
pub(super) fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("x{i}")).collect()
}

/// Blocks that cover `work` items.
pub(super) fn blocks(work: u64, threads: u32) -> u64 {
    work.div_ceil(u64::from(threads))
}

/// Elements before, at and after `axis`.
pub(super) fn around_axis(shape: &[usize], axis: usize) -> (usize, usize, usize) {
    (shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product())
}

/// Element strides of a contiguous tensor.
pub(super) fn strides_of(shape: &[usize]) -> Vec<usize> {
    (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect()
}

/// A kernel with one thread per `width` of `work` items. Its body is still empty.
pub(super) fn simple(
    ctx: &OpContext,
    header: &'static str,
    names: &[&str],
    signature: String,
    width: usize,
    work: u64,
    comment: String,
) -> KernelSpec {
    let threads = ctx.block_size(work / width as u64);
    KernelSpec {
        signature,
        candidate: if width == 1 { format!("t{threads}") } else { format!("v{width}t{threads}") },
        comment: vec![comment],
        header,
        params: ctx.params(names),
        sync: false,
        threads,
        grid: [blocks(work / width as u64, threads), 1, 1],
        static_shared_bytes: 0,
        registers: 32,
        trips: vec![],
        needs: Needs::default(),
        body: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn param(name: &str, dtype: DType, output: bool) -> Param {
        Param { name: name.into(), dtype, output }
    }

    fn spec(signature: String) -> KernelSpec {
        KernelSpec {
            signature,
            candidate: "t64".into(),
            comment: vec!["Nothing.".into()],
            header: "expr.cuh",
            params: vec![param("x0", DType::F32, false), param("y", DType::F32, true)],
            sync: false,
            threads: 64,
            grid: [1, 1, 1],
            static_shared_bytes: 0,
            registers: 32,
            trips: Vec::new(),
            needs: Needs::default(),
            body: vec!["y[0] = x0[0];".into()],
        }
    }

    #[test]
    fn long_names_are_cut_and_stay_unique() {
        let a = spec("a".repeat(200)).finish().expect("launchable");
        let b = spec("a".repeat(201)).finish().expect("launchable");
        assert_eq!(a.name.len(), MAX_NAME);
        assert_ne!(a.name, b.name);
        assert!(a.source.contains(&a.name));
        assert_eq!(spec("a".repeat(116)).finish().expect("launchable").name.len(), MAX_NAME);
    }

    #[test]
    fn types_are_named_unless_all_are_f32() {
        let name = |types: &[DType]| {
            let mut d = spec("a".into());
            d.params = types.iter().map(|&dtype| param("x", dtype, false)).collect();
            d.finish().expect("launchable").name
        };
        assert_eq!(name(&[DType::F32, DType::F32]), "a_t64");
        assert_eq!(name(&[DType::I64, DType::I64]), "a_i64_t64");
        assert_eq!(name(&[DType::Bool, DType::F32, DType::F32]), "a_bool_f32_f32_t64");
    }

    /// They are the last parameters, and the name says nothing of their types.
    #[test]
    fn workspace_and_counters_are_parameters() {
        let end = |workspace_bytes: u64, counters: u32| {
            let mut d = spec("a".into());
            d.needs = Needs { workspace_bytes, counters, ..Needs::default() };
            let Kernel { name, source, workspace_bytes: bytes, counters: count, .. } = d.finish().expect("launchable");
            assert_eq!((&*name, bytes, count), ("a_t64", workspace_bytes, counters));
            let params = source.split_once("__restrict__ y").expect("the output").1.split_once(')').expect("the last one").0;
            params.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(end(0, 0), "");
        assert_eq!(end(64, 0), ", float *workspace");
        assert_eq!(end(0, 2), ", unsigned *counters");
        assert_eq!(end(64, 2), ", float *workspace, unsigned *counters");
    }

    #[test]
    fn grids_beyond_the_limits_are_refused() {
        let mut d = spec("a".into());
        d.grid = [1, 65536, 1];
        assert!(d.finish().is_none());
    }
}
