//! Compiles kernels for the CPU, runs them, and compares their results with expected ones.

use std::alloc::Layout;
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_void};
use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

use hiosc::device::{DeviceModel, device};
use hiosc::graph::{Constant, DType, Expr, Graph, OpKind, Operator, Origin, Reduce, ReduceKind, Scalar, Tensor, TopK};
use hiosc::ids::{OpId, TensorId};
use hiosc::kernel::{self, Kernel};
use hiosc::vgpu;
use libloading::Library;

use super::{a40, sanitized, skipped};

/// A small pseudo-random number generator (Knuth's MMIX constants).
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 33
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.next() as usize % end
    }

    /// A tensor of values in (-2, 2).
    pub fn tensor(&mut self, shape: &[usize]) -> TensorValues {
        let values = (0..shape.iter().product()).map(|_| (self.below(4001) as f32 - 2000.0) / 1000.0).collect();
        TensorValues { shape: shape.to_vec(), values: Constant::F32(values) }
    }

    /// A tensor of any type: small numbers, and now and then an extreme one of the type, an
    /// infinity or a NaN.
    pub fn typed(&mut self, dtype: DType, shape: &[usize]) -> TensorValues {
        let one = |r: &mut Random| {
            let special = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, 1.0, 1e300, -1e300];
            let value = if r.below(12) == 0 { special[r.below(special.len())] } else { (r.below(401) as f64 - 200.0) / 16.0 };
            Scalar::from_f64(dtype, value).bits().to_le_bytes()[..dtype.bytes() as usize].to_vec()
        };
        let bytes: Vec<u8> = (0..shape.iter().product()).flat_map(|_| one(self)).collect();
        TensorValues { shape: shape.to_vec(), values: Constant::from_bytes(dtype, &bytes) }
    }
}

/// Shape and values.
#[derive(Clone, Debug)]
pub struct TensorValues {
    pub shape: Vec<usize>,
    pub values: Constant,
}

impl TensorValues {
    /// The values, which must be f32.
    pub fn floats(&self) -> &[f32] {
        self.values.f32().expect("f32")
    }

    /// The same, mutable.
    pub fn floats_mut(&mut self) -> FloatsMut<'_> {
        FloatsMut { floats: self.floats().to_vec(), of: self }
    }
}

/// Values to be changed: the tensor gets them when this is dropped.
pub struct FloatsMut<'a> {
    floats: Vec<f32>,
    of: &'a mut TensorValues,
}

impl Deref for FloatsMut<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.floats
    }
}

impl DerefMut for FloatsMut<'_> {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.floats
    }
}

impl Drop for FloatsMut<'_> {
    fn drop(&mut self) {
        self.of.values = std::mem::take(&mut self.floats).into();
    }
}

/// The expected values, and how far off a kernel may be.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    pub values: Vec<f64>,
    pub tolerances: Vec<f64>,
}

impl Expected {
    pub fn push(&mut self, value: f64, tolerance: f64) {
        self.values.push(value);
        self.tolerances.push(tolerance);
    }
}

/// One operator with its data.
pub struct KernelCase {
    pub kind: OpKind,
    pub inputs: Vec<TensorValues>,
    pub out: Vec<usize>,
    pub expected: Expected,
}

/// A graph of the case's operator only. Its first input is a view, to check that kernels read a
/// view in its own shape.
pub fn graph_of(case: &KernelCase) -> (Graph, OpId) {
    graph_with(case, &[])
}

/// The same, with some inputs as constants.
pub fn graph_with(case: &KernelCase, constants: &[usize]) -> (Graph, OpId) {
    let mut graph = Graph { name: "case".into(), ..Graph::default() };
    let mut tensor = |name: String, dtype, shape: &[usize], origin| graph.add_tensor(Tensor { name, dtype, shape: shape.to_vec(), origin });
    let types: Vec<DType> = case.inputs.iter().map(|x| x.values.dtype()).collect();
    let flat = case.inputs.first().map_or(1, |x| x.values.len());
    let origin = |i: usize| match constants.contains(&i) {
        true => Origin::Constant(case.inputs[i].values.clone()),
        false => Origin::Input,
    };
    let owner = tensor("flat".into(), types.first().copied().unwrap_or(DType::F32), &[flat], origin(0));
    let inputs: Vec<TensorId> = (case.inputs.iter().enumerate())
        .map(|(i, x)| tensor(format!("x{i}"), types[i], &x.shape, if i == 0 { Origin::View(owner) } else { origin(i) }))
        .collect();
    let output = tensor("y".into(), result_type(&case.kind, &types), &case.out, Origin::Input);
    let given = [owner].into_iter().chain(inputs.iter().skip(1).copied()).enumerate();
    graph.inputs = given.filter(|(i, _)| !constants.contains(i)).map(|(_, tensor)| tensor).collect();
    graph.outputs = vec![output];
    let op = graph.add_operator(Operator { name: "op".into(), kind: case.kind.clone(), inputs, outputs: vec![output] });
    (graph, op)
}

/// The type of an operator's result; f32 where the expression makes no sense.
fn result_type(kind: &OpKind, inputs: &[DType]) -> DType {
    let product = |bias: bool, epilogue: &Expr| epilogue.dtype(&[&inputs[..1], &inputs[2 + usize::from(bias)..]].concat());
    let result = match kind {
        OpKind::Elementwise(e) => e.expr.dtype(inputs),
        OpKind::TopK(TopK { positions: true, .. }) => Ok(DType::I64),
        OpKind::Conv(conv) => product(conv.bias, &conv.epilogue),
        OpKind::ConvNd(conv) => product(conv.bias, &conv.epilogue),
        OpKind::MatMul(matmul) => product(matmul.bias, &matmul.epilogue),
        OpKind::Norm(norm) => norm.epilogue.dtype(inputs),
        OpKind::Resample(r) => r.epilogue.dtype(&[&inputs[..1], &inputs[r.fixed_inputs()..]].concat()),
        OpKind::Reduce(Reduce { kind: ReduceKind::ArgMax { .. } | ReduceKind::ArgMin { .. }, .. }) => Ok(DType::I64),
        OpKind::PoolIndices(_) => Ok(DType::I64),
        _ => Ok(inputs[0]),
    };
    result.unwrap_or(DType::F32)
}

/// Runs every candidate of every case: on an A40, and for products also on a V100, and with either
/// operand as a constant. Fails with all differences at once. Returns the names of the kernels:
/// none without a C++ compiler.
pub fn check(test: &str, cases: Vec<KernelCase>) -> Vec<String> {
    let candidates = |case: &KernelCase| {
        let on = |constants: &[usize], device: &DeviceModel| {
            let (graph, op) = graph_with(case, constants);
            let kernels = kernel::candidates(&graph, op, device).unwrap_or_else(|e| panic!("{:?}: {e}", case.kind));
            assert_eq!(kernel::select(&graph, op, device).expect("the first candidate"), kernels[0]);
            kernels
        };
        let mut kernels = on(&[], &a40());
        let mut tiles = 0;
        kernels.retain(|kernel| {
            tiles += usize::from(kernel.name.contains("_bm"));
            !kernel.name.contains("_bm") || tiles <= 4
        });
        let operands: &[&[usize]] = match case.kind {
            OpKind::Conv(_) => &[&[1]],
            OpKind::MatMul(_) => &[&[0], &[1]],
            _ => &[],
        };
        if !operands.is_empty() {
            kernels.extend(on(&[], &device("v100").expect("a device model")).into_iter().take(2));
        }
        for constants in operands {
            kernels.extend(on(constants, &a40()).into_iter().take(3));
        }
        // the only field that differs between devices
        kernels.iter_mut().for_each(|kernel| kernel.cycles = None);
        kernels.sort();
        kernels.dedup();
        kernels
    };
    check_kernels(test, cases.into_iter().map(|case| (candidates(&case), case)).map(|(kernels, case)| (case, kernels)).collect())
}

/// Runs the kernels of every case, as [`check`].
pub fn check_kernels(test: &str, work: Vec<(KernelCase, Vec<Kernel>)>) -> Vec<String> {
    if !vgpu::compiler_present() {
        skipped!("SKIPPED {test}: no C++ compiler");
        return Vec::new();
    }
    let mut kernels: BTreeMap<&str, &Kernel> = BTreeMap::new();
    for kernel in work.iter().flat_map(|(_, list)| list) {
        if let Some(other) = kernels.insert(&kernel.name, kernel) {
            assert_eq!(kernel, other, "two kernels of one name");
        }
    }
    for (name, kernel) in &kernels {
        assert!(name.len() <= 120 && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{name}");
        assert!(kernel.source.lines().all(|line| line.len() <= 4096), "{name}");
    }
    let sources: Vec<(&str, &str)> = kernels.values().map(|k| (&k.name[..], &k.source[..])).collect();
    let objects = Objects::load(&sources);

    let mut failures = Vec::new();
    for (case, kernels) in &work {
        for kernel in kernels {
            if let Err(message) = run(&objects, kernel, case) {
                failures.push(format!("{}: {message}", kernel.name));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {} kernels are wrong:\n{}", failures.len(), kernels.len(), failures.join("\n"));
    kernels.keys().map(|name| name.to_string()).collect()
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Dim3 {
    x: u32,
    y: u32,
    z: u32,
}

type RunBlocks = unsafe extern "C" fn(Dim3, Dim3, u32, *const *const c_void, u64, u64);

/// `hiosc_kernel_entry` of `vgpu/kernel_abi.h`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Entry {
    name: *const c_char,
    param_count: u32,
    param_sizes: *const u32,
    run: RunBlocks,
}

/// Loaded shared objects and the kernels in them.
pub struct Objects {
    entries: BTreeMap<String, Entry>,
    _libraries: Vec<Library>,
}

// SAFETY: the entries point into loaded libraries and are only read.
unsafe impl Sync for Objects {}

impl Objects {
    /// Compiles and loads `sources`.
    pub fn load(sources: &[(&str, &str)]) -> Objects {
        let folder = vgpu::compile_kernels(sources, None).unwrap_or_else(|e| panic!("{e}"));
        let mut objects = Objects { entries: BTreeMap::new(), _libraries: Vec::new() };
        for file in std::fs::read_dir(folder).expect("a folder of objects") {
            // SAFETY: an object we just compiled; `hiosc_vgpu_kernels` has the type that
            // kernel_abi.h gives it.
            unsafe {
                let library = Library::new(file.expect("a file").path()).expect("an object loads");
                let table: libloading::Symbol<unsafe extern "C" fn(*mut usize) -> *const Entry> =
                    library.get(b"hiosc_vgpu_kernels\0").expect("its table");
                let mut count = 0;
                let first = table(&mut count);
                for i in 0..count {
                    let entry = *first.add(i);
                    objects.entries.insert(CStr::from_ptr(entry.name).to_string_lossy().into_owned(), entry);
                }
                objects._libraries.push(library);
            }
        }
        objects
    }

    /// Runs `blocks` of a launch.
    ///
    /// # Safety
    /// `arguments` are what the kernel expects.
    pub unsafe fn run(&self, name: &str, grid: [u32; 3], block: [u32; 3], shared: u32, arguments: &[*const c_void], blocks: (u64, u64)) {
        let entry = self.entries.get(name).unwrap_or_else(|| panic!("no kernel {name} in the objects"));
        assert_eq!(entry.param_count as usize, arguments.len(), "{name}");
        let dim = |d: [u32; 3]| Dim3 { x: d[0], y: d[1], z: d[2] };
        // SAFETY: as promised by the caller; the objects are loaded.
        unsafe { (entry.run)(dim(grid), dim(block), shared, arguments.as_ptr(), blocks.0, blocks.1) }
    }

    /// Sizes of a kernel's parameters.
    pub fn param_sizes(&self, name: &str) -> Vec<u32> {
        let entry = &self.entries[name];
        // SAFETY: the table has `param_count` sizes.
        unsafe { std::slice::from_raw_parts(entry.param_sizes, entry.param_count as usize) }.to_vec()
    }
}

/// The number of guard bytes before and after each tensor. None under a sanitizer, which checks the
/// bounds.
fn guard_bytes() -> usize {
    if sanitized::is_on() { 0 } else { 256 }
}

/// The value of guard bytes around inputs (NaN, if read as floating-point numbers) and around
/// outputs.
const INPUT_GUARD: u8 = 0xff;
const OUTPUT_GUARD: u8 = 0x5a;

/// Aligned memory with guards around the values.
struct Guarded {
    start: *mut u8,
    layout: Layout,
    first: usize,
    len: usize,
}

impl Guarded {
    fn new(values: &[u8], guard: u8) -> Guarded {
        let first = guard_bytes();
        let layout = Layout::from_size_align((values.len() + 2 * first).max(1), 256).expect("a small power of two");
        // SAFETY: the layout has a size; all of its bytes are written before anything reads them.
        let start = unsafe {
            let start = std::alloc::alloc(layout);
            assert!(!start.is_null(), "out of memory");
            start.write_bytes(guard, layout.size());
            start.add(first).copy_from_nonoverlapping(values.as_ptr(), values.len());
            start
        };
        Guarded { start, layout, first, len: values.len() }
    }

    fn memory(&self) -> &[u8] {
        // SAFETY: `new` allocated and wrote it; kernels write through a pointer only while no
        // reference is held.
        unsafe { std::slice::from_raw_parts(self.start, self.layout.size()) }
    }

    /// Where the values begin.
    fn address(&self) -> usize {
        self.start as usize + self.first
    }

    fn values(&self) -> &[u8] {
        &self.memory()[self.first..self.first + self.len]
    }

    fn guards_hold(&self, guard: u8) -> bool {
        let memory = self.memory();
        self.len == 0 || memory[..self.first].iter().chain(&memory[self.first + self.len..]).all(|&v| v == guard)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { std::alloc::dealloc(self.start, self.layout) }
    }
}

/// The bytes of an input as the kernel reads them.
fn packed(kernel: &Kernel, input: usize, values: &Constant) -> Vec<u8> {
    match kernel.packing(input) {
        Some(packing) => packing.pack(values.bytes(), values.dtype().bytes() as usize).expect("a constant that can be packed"),
        None => values.bytes().to_vec(),
    }
}

/// What a kernel gets after its output: a workspace of NaNs, and counters that are zero.
struct Scratch(Vec<Guarded>);

impl Scratch {
    fn new(kernel: &Kernel) -> Scratch {
        let filled = |bytes: u64, value: u8| (bytes > 0).then(|| Guarded::new(&vec![value; bytes as usize], OUTPUT_GUARD));
        let (workspace, counters) = (filled(kernel.workspace_bytes, 0xff), filled(kernel.counter_bytes(), 0));
        Scratch(workspace.into_iter().chain(counters).collect())
    }

    fn addresses(&self) -> impl Iterator<Item = usize> {
        self.0.iter().map(Guarded::address)
    }

    /// Fails if the launch wrote outside of it, or left a counter that is not zero.
    fn check(&self, kernel: &Kernel) -> Result<(), String> {
        if !self.0.iter().all(|memory| memory.guards_hold(OUTPUT_GUARD)) {
            return Err("it writes outside its workspace and counters".into());
        }
        let left = |memory: &Guarded| memory.values().iter().any(|&byte| byte != 0);
        if kernel.counters > 0 && self.0.last().is_some_and(left) { Err("it leaves counters that are not zero".into()) } else { Ok(()) }
    }
}

/// Runs one kernel in order, then three times with its blocks in random order on two threads, and
/// compares with the reference.
fn run(objects: &Objects, kernel: &Kernel, case: &KernelCase) -> Result<(), String> {
    let inputs: Vec<Guarded> =
        case.inputs.iter().enumerate().map(|(i, x)| Guarded::new(&packed(kernel, i, &x.values), INPUT_GUARD)).collect();
    let types: Vec<DType> = case.inputs.iter().map(|x| x.values.dtype()).collect();
    let dtype = result_type(&case.kind, &types);
    let blocks = kernel.grid.iter().map(|&n| u64::from(n)).product::<u64>();
    let scratch = Scratch::new(kernel);
    let launch = |y: &Guarded, ranges: &[(u64, u64)], threads: usize| {
        let pointers: Vec<usize> = inputs.iter().chain([y]).map(Guarded::address).chain(scratch.addresses()).collect();
        let next = Mutex::new(ranges.iter());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let arguments: Vec<*const c_void> = pointers.iter().map(|p| std::ptr::from_ref(p).cast()).collect();
                    loop {
                        let Some(&range) = next.lock().expect("no thread panics").next() else { break };
                        // SAFETY: the pointers lead to tensors of the shapes that the kernel was
                        // made for, and to the memory that it says it needs.
                        unsafe { objects.run(&kernel.name, kernel.grid, kernel.block, kernel.shared_bytes, &arguments, range) };
                    }
                });
            }
        });
    };
    if objects.param_sizes(&kernel.name).iter().any(|&size| size != 8) {
        return Err("a parameter is not a pointer".into());
    }
    let empty = vec![OUTPUT_GUARD; case.out.iter().product::<usize>() * dtype.bytes() as usize];
    let first = Guarded::new(&empty, OUTPUT_GUARD);
    launch(&first, &[(0, blocks)], 1);
    scratch.check(kernel)?;
    let mut sound = first.guards_hold(OUTPUT_GUARD);
    let mut random = Random(blocks);
    for _ in 0..3 {
        let parts = blocks.min(40);
        let mut ranges: Vec<(u64, u64)> = (0..parts).map(|i| (i * blocks / parts, (i + 1) * blocks / parts)).collect();
        (1..ranges.len()).rev().for_each(|i| ranges.swap(i, random.below(i + 1)));
        let again = Guarded::new(&empty, OUTPUT_GUARD);
        launch(&again, &ranges, 2);
        scratch.check(kernel)?;
        sound &= again.guards_hold(OUTPUT_GUARD);
        if first.values() != again.values() {
            return Err("its bits depend on the order of its blocks".into());
        }
    }
    if !sound {
        return Err("it writes outside its output".into());
    }
    let values = dtype.numbers(first.values());
    if values.len() != case.expected.values.len() {
        return Err("the reference has another size".into());
    }
    for (i, ((&got, &want), &tolerance)) in values.iter().zip(&case.expected.values).zip(&case.expected.tolerances).enumerate() {
        let same = if want.is_nan() { got.is_nan() } else { got == want || (got - want).abs() <= tolerance };
        if !same {
            return Err(format!("y[{i}] of {:?} is {got}, not {want} (+- {tolerance:.1e})", case.out));
        }
    }
    Ok(())
}

/// Runs a whole graph, one operator after the other with `kernels[op]`. Returns its outputs.
pub fn run_graph(objects: &Objects, graph: &Graph, kernels: &[Kernel], inputs: &[Constant]) -> Vec<Constant> {
    let mut memory: Vec<Option<Guarded>> = graph.tensors.iter().map(|_| None).collect();
    for id in graph.tensor_ids() {
        if let Origin::Constant(values) = &graph.tensor(id).origin {
            memory[id.index()] = Some(Guarded::new(values.bytes(), INPUT_GUARD));
        }
    }
    for (&id, values) in graph.inputs.iter().zip(inputs) {
        memory[id.index()] = Some(Guarded::new(values.bytes(), INPUT_GUARD));
    }
    let started = std::time::Instant::now();
    for op in graph.topological_order().expect("no cycles") {
        let (operator, kernel) = (graph.operator(op), &kernels[op.index()]);
        let output = operator.outputs[0];
        let y = Guarded::new(&vec![OUTPUT_GUARD; graph.tensor(output).bytes() as usize], OUTPUT_GUARD);
        for root in operator.inputs.iter().map(|&t| graph.root(t)) {
            if let Origin::Joined(parts) = &graph.tensor(root).origin {
                let bytes = |part: &TensorId| memory[part.index()].as_ref().expect("computed before").values().to_vec();
                memory[root.index()] = Some(Guarded::new(&parts.iter().flat_map(bytes).collect::<Vec<u8>>(), INPUT_GUARD));
            }
        }
        let repacked: BTreeMap<usize, Guarded> = (kernel.packings.iter())
            .map(|&(input, _)| {
                let Origin::Constant(values) = &graph.tensor(graph.root(operator.inputs[input])).origin else { panic!("no constant") };
                (input, Guarded::new(&packed(kernel, input, values), INPUT_GUARD))
            })
            .collect();
        let address = |(input, &t): (usize, &TensorId)| {
            if let Some(packed) = repacked.get(&input) {
                return packed.address();
            }
            let whole = memory[graph.root(t).index()].as_ref().expect("computed before");
            whole.address() + (graph.begin(t) * graph.tensor(t).dtype.bytes()) as usize
        };
        let scratch = Scratch::new(kernel);
        let pointers: Vec<usize> =
            operator.inputs.iter().enumerate().map(address).chain([y.address()]).chain(scratch.addresses()).collect();
        let arguments: Vec<*const c_void> = pointers.iter().map(|p| std::ptr::from_ref(p).cast()).collect();
        let blocks = kernel.grid.iter().map(|&n| u64::from(n)).product();
        // SAFETY: the pointers lead to tensors of the shapes that the kernel was made for, and to
        // the memory that it says it needs.
        unsafe { objects.run(&kernel.name, kernel.grid, kernel.block, kernel.shared_bytes, &arguments, (0, blocks)) };
        scratch.check(kernel).unwrap_or_else(|wrong| panic!("{}: {wrong}", kernel.name));
        memory[output.index()] = Some(y);
    }
    println!("{}: {} kernels in {:.2?} on one core", graph.name, kernels.len(), started.elapsed());
    let output = |&t| Constant::from_bytes(graph.tensor(t).dtype, memory[graph.root(t).index()].as_ref().expect("computed").values());
    graph.outputs.iter().map(output).collect()
}
