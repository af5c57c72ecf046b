//! Limits on what a model may ask for while it is imported. A file of a few hundred bytes can name
//! sizes that no machine holds; it is refused with a reason before anything of that size exists.

/// The maximum number of nodes that calls, branches and loops may become. The largest published
/// models have some ten thousand.
pub const MOST_NODES: usize = 50_000;

/// The maximum number of bytes that the nodes of inlined calls and bodies may take, names included.
pub const MOST_NODE_BYTES: usize = 1 << 29;

/// The maximum number of inputs, of outputs and of attributes of a node.
pub const MOST_NAMES: usize = 10_000;

/// The maximum length of a name in the file, in bytes.
pub const LONGEST_NAME: usize = 10_000;

/// The maximum number of axes of a tensor.
pub const MOST_AXES: u64 = 64;

/// The maximum size of any tensor, in bytes: 2^48, all that an address of a usual CPU reaches. A
/// product of the sizes of its axes does not overflow. Scores of attention, which no kernel stores,
/// may come near it.
pub const LARGEST_TENSOR: u128 = 1 << 48;

/// The maximum size of the result of a node that depends on small constants alone, in bytes: a mask
/// of 8192 by 8192 integers of 64 bits. tract computes it while the model is imported. The
/// constants of a file may be larger, and so may results that depend on them or on inputs.
pub const LARGEST_CONSTANT: u128 = 1 << 29;

/// The maximum size of a table that hiosc computes itself while the model is imported, in bytes.
pub const LARGEST_TABLE: u128 = 1 << 28;

/// The same for the mask of an attention: that of 32768 tokens.
pub const LARGEST_MASK: u128 = 1 << 30;

/// The number of bytes of a tensor of this shape, whose elements have `element` bytes each.
pub fn bytes(shape: impl IntoIterator<Item = usize>, element: usize) -> u128 {
    shape.into_iter().fold(element as u128, |bytes, extent| bytes.saturating_mul(extent as u128))
}

/// Refuses to compute a constant of this shape, whose elements have `element` bytes each.
pub fn table(shape: &[usize], element: usize) -> Result<(), String> {
    computed(shape, element, LARGEST_TABLE)
}

/// The same with another limit, in bytes.
pub fn computed(shape: &[usize], element: usize, most: u128) -> Result<(), String> {
    let bytes = bytes(shape.iter().copied(), element);
    if bytes <= most {
        return Ok(());
    }
    let shape: Vec<String> = shape.iter().map(usize::to_string).collect();
    Err(format!(
        "it needs a table of {} elements, which takes {bytes} bytes: at most {most} can be computed while compiling",
        shape.join("x")
    ))
}
