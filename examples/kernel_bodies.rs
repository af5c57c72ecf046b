//! Writes the kernels that the gate on machine code checks: sources, headers, and a table of what
//! the kernels declare (docs/kernels.md).
//!
//! ```text
//! cargo run --release --example kernel_bodies -- DIR --device a100|a40|h100
//! ```
//!
//! `DIR/kernels/` gets the headers and a source per kernel, `DIR/bodies.jsonl` a line per kernel:
//!
//! | key | meaning |
//! |---|---|
//! | entry, file | the kernel's name, and its source below `DIR` |
//! | operator | what it computes, in words |
//! | block | threads per block |
//! | static_shared, dynamic_shared | bytes of shared memory per block |
//! | registers | per thread |
//! | tile | rows and columns of a block, and terms of a step |
//! | stages | tiles in shared memory, which asynchronous copies fill |
//! | type | the tile's type in C++ |
//! | split | blocks that share the sum of one tile |
//! | trips | iterations of the main loop |

use std::path::Path;
use std::{env, fs};

use hiosc::device::{self, DeviceModel};
use hiosc::graph::{Binary, Constant, Conv, DType, Expr, Graph, MatMul, OpKind, Operator, Origin, Tensor, Unary};
use hiosc::ids::TensorId;
use hiosc::kernel::{self, Kernel};

/// What begins the type of a tile in a source of the family.
const TILE: &str = "GatherTile<";

/// Tiles of the family.
const TILES: usize = 9;

/// Terms of a step, for every tile.
const STEP: u32 = 16;

/// Which candidates of an operator are written.
#[derive(Clone, Copy)]
enum Which {
    /// Every tile, with undivided sums.
    Tiles,
    /// These: rows and columns of the tile, and how many blocks share a sum.
    These(&'static [[u32; 3]]),
}

/// One operator, and its inputs and output.
struct Case {
    words: &'static str,
    which: Which,
    graph: Graph,
}

/// A graph of one operator. A shape given with `true` is a constant's.
fn graph(kind: OpKind, inputs: &[(&[usize], bool)], output: &[usize]) -> Graph {
    let mut graph = Graph::default();
    let mut tensor = |shape: &[usize], constant: bool| {
        let zeros = || Origin::Constant(Constant::F32(vec![0.0; shape.iter().product()].into()));
        let origin = if constant { zeros() } else { Origin::Input };
        graph.add_tensor(Tensor { name: "t".into(), dtype: DType::F32, shape: shape.into(), origin })
    };
    let inputs: Vec<TensorId> = inputs.iter().map(|&(shape, constant)| tensor(shape, constant)).collect();
    let outputs = vec![tensor(output, false)];
    graph.add_operator(Operator { name: "o".into(), kind, inputs, outputs });
    graph
}

/// What follows the sum.
#[derive(Clone, Copy, PartialEq)]
enum After {
    Nothing,
    BiasRelu,
    BiasResidualRelu,
}

impl After {
    fn epilogue(self) -> Expr {
        let sum = Expr::Input(0);
        let relu = |value: Expr| Expr::Unary(Unary::Relu, Box::new(value));
        match self {
            After::Nothing => sum,
            After::BiasRelu => relu(sum),
            After::BiasResidualRelu => relu(Expr::Binary(Binary::Add, Box::new(sum), Box::new(Expr::Input(1)))),
        }
    }
}

/// A convolution of one image of `side` by `side`, padded so that it keeps its size at stride 1.
fn conv(words: &'static str, which: Which, [c, side, k]: [usize; 3], kernel: [usize; 2], stride: usize, after: After) -> Case {
    let pads = kernel.map(|taps| taps / 2);
    let [p, q] = [0, 1].map(|axis| (side + 2 * pads[axis] - kernel[axis]) / stride + 1);
    let bias = after != After::Nothing;
    let kind = OpKind::Conv(Conv {
        kernel,
        strides: [stride; 2],
        dilations: [1, 1],
        pads_begin: pads,
        pads_end: pads,
        groups: 1,
        bias,
        epilogue: after.epilogue(),
    });
    let (x, w, y) = ([1, c, side, side], [k, c, kernel[0], kernel[1]], [1, k, p, q]);
    let mut inputs: Vec<(&[usize], bool)> = vec![(&x, false), (&w, true)];
    let extents = [k];
    if bias {
        inputs.push((&extents, true));
    }
    if after == After::BiasResidualRelu {
        inputs.push((&y, false));
    }
    Case { words, which, graph: graph(kind, &inputs, &y) }
}

/// How the operands of a matrix product are stored.
#[derive(Clone, Copy)]
enum Stored {
    /// The second is a constant.
    Weights,
    /// Both are activations, row by row.
    Rows,
    /// The second is stored column by column, as keys are.
    Keys,
    /// Both are heads of one tensor: rows are far apart.
    Heads,
    /// The first is stored column by column.
    Columns,
}

/// A matrix product, `batch` of them.
fn product(words: &'static str, which: Which, [batch, m, n, k]: [usize; 4], stored: Stored, after: After) -> Case {
    let (mut a_shape, mut b_shape) = (vec![batch, m, k], vec![batch, k, n]);
    let (mut a_strides, mut b_strides, mut c_strides) = ([m * k, k, 1], [k * n, n, 1], [m * n, n, 1]);
    let mut c_shape = vec![batch, m, n];
    match stored {
        Stored::Weights => (b_shape, b_strides) = (vec![k, n], [0, n, 1]),
        Stored::Rows => {}
        Stored::Keys => (b_shape, b_strides) = (vec![batch, n, k], [n * k, 1, k]),
        Stored::Heads => {
            (a_shape, b_shape, c_shape) = (vec![m, batch, k], vec![k, batch, n], vec![m, batch, n]);
            (a_strides, b_strides, c_strides) = ([k, batch * k, 1], [n, batch * n, 1], [n, batch * n, 1]);
        }
        Stored::Columns => (a_shape, a_strides) = (vec![batch, k, m], [k * m, 1, m]),
    }
    let bias = after != After::Nothing;
    let kind = OpKind::MatMul(MatMul { batch, m, n, k, a_strides, b_strides, c_strides, bias, epilogue: after.epilogue() });
    let mut inputs: Vec<(&[usize], bool)> = vec![(&a_shape, false), (&b_shape, matches!(stored, Stored::Weights))];
    let extents = [n];
    if bias {
        inputs.push((&extents, true));
    }
    if after == After::BiasResidualRelu {
        inputs.push((&c_shape, false));
    }
    Case { words, which, graph: graph(kind, &inputs, &c_shape) }
}

/// The operators: every way to load with every tile, and some with other epilogues and splits.
fn cases() -> Vec<Case> {
    use After::*;
    use Stored::*;
    use Which::*;
    vec![
        conv("pointwise, 16-byte copies", Tiles, [256, 28, 256], [1, 1], 1, Nothing),
        conv("pointwise, 4-byte copies", Tiles, [768, 17, 192], [1, 1], 1, Nothing),
        conv("1x7, whole steps of a tap", Tiles, [192, 17, 192], [1, 7], 1, Nothing),
        conv("3x3, steps across taps", Tiles, [80, 35, 192], [3, 3], 1, Nothing),
        product("product with weights", Tiles, [1, 128, 768, 768], Weights, Nothing),
        product("product of activations", Tiles, [12, 128, 128, 64], Rows, Nothing),
        conv("7x7 of 3 channels, stride 2", These(&[[64, 64, 1], [32, 128, 1]]), [3, 224, 64], [7, 7], 2, BiasRelu),
        conv("3x3, stride 2", These(&[[64, 64, 1]]), [128, 56, 128], [3, 3], 2, BiasRelu),
        conv("pointwise with residual", These(&[[64, 64, 1]]), [256, 14, 1024], [1, 1], 1, BiasResidualRelu),
        product("product with keys", These(&[[64, 64, 1], [32, 32, 1]]), [12, 128, 128, 64], Keys, Nothing),
        product("product of heads", These(&[[64, 64, 1], [128, 64, 1]]), [12, 128, 64, 128], Heads, Nothing),
        product("product of columns", These(&[[64, 64, 1]]), [12, 128, 64, 128], Columns, Nothing),
        product("product with weights and residual", These(&[[64, 32, 1]]), [1, 128, 768, 3072], Weights, BiasResidualRelu),
        conv("1x7 in parts", These(&[[64, 64, 4], [128, 128, 4]]), [192, 17, 192], [1, 7], 1, BiasRelu),
        conv("pointwise in parts", These(&[[64, 64, 8]]), [2048, 7, 512], [1, 1], 1, BiasRelu),
        product("product with weights in parts", These(&[[32, 64, 4]]), [1, 128, 768, 3072], Weights, BiasRelu),
    ]
}

/// A tile: `GatherTile<rows, columns, rows per thread, columns per thread, stages>`.
struct Tile {
    cpp: String,
    rows: u32,
    columns: u32,
    stages: u32,
}

/// The tile that a source of the family names.
fn tile(kernel: &Kernel) -> Option<Tile> {
    let (_, from) = kernel.source.split_once(TILE)?;
    let (arguments, _) = from.split_once('>')?;
    let numbers: Vec<u32> = arguments.split(", ").map(str::parse).collect::<Result<_, _>>().ok()?;
    let [rows, columns, _, _, stages] = numbers[..] else { return None };
    Some(Tile { cpp: format!("{TILE}{arguments}>"), rows, columns, stages })
}

/// The candidates of a case that are written.
fn chosen(case: &Case, device: &DeviceModel) -> Result<Vec<(Kernel, Tile)>, Box<dyn std::error::Error>> {
    let op = case.graph.op_ids().next().expect("one operator");
    let all = kernel::every_candidate(&case.graph, op, device)?;
    let mut kernels: Vec<_> = all.into_iter().filter_map(|kernel| tile(&kernel).map(|tile| (kernel, tile))).collect();
    let expected = match case.which {
        Which::Tiles => TILES,
        Which::These(these) => these.len(),
    };
    kernels.retain(|(kernel, tile)| match case.which {
        Which::Tiles => kernel.split == 1,
        Which::These(these) => these.contains(&[tile.rows, tile.columns, kernel.split]),
    });
    if kernels.len() != expected {
        return Err(format!("{}: {} of {expected} kernels", case.words, kernels.len()).into());
    }
    Ok(kernels)
}

fn line(case: &Case, kernel: &Kernel, tile: &Tile) -> String {
    let Kernel { name, block, shared_bytes, static_shared_bytes, registers, split, trips, .. } = kernel;
    let Tile { cpp, rows, columns, stages } = tile;
    let threads: u32 = block.iter().product();
    format!(
        "{{\"entry\": \"{name}\", \"file\": \"kernels/{name}.cu\", \"operator\": \"{}\", \"block\": {threads}, \
         \"static_shared\": {static_shared_bytes}, \"dynamic_shared\": {shared_bytes}, \"registers\": {registers}, \
         \"tile\": [{rows}, {columns}, {STEP}], \"stages\": {stages}, \"type\": \"{cpp}\", \"split\": {split}, \"trips\": {trips:?}}}\n",
        case.words
    )
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [folder, option, name] = &arguments[..] else { return Err("usage: kernel_bodies DIR --device a100|a40|h100".into()) };
    if option != "--device" {
        return Err(format!("unknown option {option}").into());
    }
    let (folder, device) = (Path::new(folder), device::device(name)?);
    let sources = folder.join("kernels");
    fs::create_dir_all(&sources)?;
    for (file, text) in kernel::headers() {
        fs::write(sources.join(file), text)?;
    }
    let mut table = String::new();
    for case in cases() {
        let kernels = chosen(&case, &device)?;
        for (file, text) in kernel::sources(kernels.iter().map(|(kernel, _)| kernel)) {
            fs::write(sources.join(file), text)?;
        }
        table.extend(kernels.iter().map(|(kernel, tile)| line(&case, kernel, tile)));
    }
    fs::write(folder.join("bodies.jsonl"), table)?;
    Ok(())
}
