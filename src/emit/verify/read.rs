//! What the texts of `plan.rs`, `buffers.rs` and `kernels.rs` say, with all names resolved.

use std::collections::{BTreeMap, BTreeSet};

use syn::{Expr, File, Item, ItemConst, ItemFn, ItemMod, Stmt};

use super::syntax::{self, number, pair, path, slice, text};
use super::{BUFFERS, KERNELS, PLAN};
use crate::emit::Crate;
use crate::error::{Error, Result};
use crate::runtime::{Area, Region};

/// Functions that call functions that call functions: `enqueue`, its parts, and stages.
const DEEPEST: usize = 3;

/// Everything that the three files say.
#[derive(Default)]
pub struct Emitted {
    /// The calls of the runtime, in the order in which `enqueue` makes them.
    pub calls: Vec<Call>,
    /// `KERNELS`.
    pub kernels: Vec<Kernel>,
    /// `SOURCES`: the name of each kernel and the path of its source.
    pub sources: Vec<(String, String)>,
    /// `HEADERS`: the name and the path of each header.
    pub headers: Vec<(String, String)>,
    /// `WEIGHTS`: names of tensors in the weights file.
    pub weights: Vec<String>,
    /// The path of the weights file, if executables contain it.
    pub embedded: Option<String>,
    /// `LAYOUT.inputs` and `LAYOUT.outputs`.
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    /// `LAYOUT.gpus`.
    pub gpus: Vec<Gpu>,
    /// `LAYOUT.streams`.
    pub streams: Vec<Stream>,
    /// `LAYOUT.origin_stream`.
    pub origin_stream: usize,
    /// `LAYOUT.events`: the GPU of each event.
    pub events: Vec<usize>,
    /// `LAYOUT.driver`.
    pub driver: u32,
}

/// A call of the runtime.
pub struct Call {
    /// The function that makes it.
    pub function: String,
    /// What it does.
    pub action: Action,
}

/// What a call does. Streams and events are numbers, kernels are indices into [`Emitted::kernels`].
pub enum Action {
    Upload {
        stream: usize,
        input: usize,
        to: Named,
    },
    Launch {
        stream: usize,
        kernel: usize,
        arguments: Vec<Named>,
    },
    Copy {
        stream: usize,
        from: Named,
        to: Named,
    },
    Download {
        stream: usize,
        output: usize,
        from: Named,
    },
    Record {
        event: usize,
        stream: usize,
    },
    Wait {
        stream: usize,
        event: usize,
    },
    /// A statement of another form, in words.
    Unknown(String),
}

/// A region, and the constant that has it.
pub struct Named {
    pub name: String,
    pub region: Region,
}

/// A `KernelEntry`.
pub struct Kernel {
    pub index: usize,
    pub name: String,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared_bytes: u32,
    pub gpus: Vec<usize>,
    pub images: Vec<Image>,
}

/// A `KernelImage`: its kind, compute capability and path.
#[derive(PartialEq, Debug)]
pub struct Image {
    pub kind: String,
    pub arch: (u32, u32),
    pub path: String,
}

/// A `Port`: its name, the path of its type, and its shape.
#[derive(PartialEq, Debug)]
pub struct Port {
    pub name: String,
    pub dtype: String,
    pub shape: Vec<usize>,
}

/// A `GpuLayout`.
pub struct Gpu {
    pub arena_bytes: u64,
    pub weights_bytes: u64,
    /// Index into [`Emitted::weights`], and destination.
    pub uploads: Vec<(usize, Named)>,
    /// What is zeroed at load.
    pub counters: Vec<Named>,
}

/// A `StreamLayout`.
#[derive(PartialEq, Debug)]
pub enum Stream {
    Compute { gpu: usize },
    Copy { gpu: usize, to: usize, largest: u64 },
}

/// Reads the three files of `output`.
pub fn read(output: &Crate) -> Result<Emitted> {
    let [plan, buffers, kernels] = [parse(output, PLAN)?, parse(output, BUFFERS)?, parse(output, KERNELS)?];
    let mut names = Names::default();
    names.add(PLAN, &plan)?;
    names.add(BUFFERS, &buffers)?;
    names.add(KERNELS, &kernels)?;
    names.emitted()
}

fn parse(output: &Crate, file: &str) -> Result<File> {
    let bytes = output.files.get(file).ok_or_else(|| Error::internal("emit", format!("there is no {file}")))?;
    let text = std::str::from_utf8(bytes).map_err(|e| Error::internal("emit", format!("{file} is not text: {e}")))?;
    syn::parse_file(text).map_err(|e| Error::internal("emit", format!("{file} is not Rust: {e}")))
}

/// What each name stands for. The three files have no name in common, so one table serves all.
#[derive(Default)]
struct Names<'a> {
    /// Which file defines it. Names in a module are like `gpu0::X`.
    file: BTreeMap<String, &'static str>,
    /// Constants of the forms `Stream(0)` and `Event(0)`.
    streams: BTreeMap<String, usize>,
    events: BTreeMap<String, usize>,
    regions: BTreeMap<String, Region>,
    /// All other constants.
    constants: BTreeMap<String, &'a Expr>,
    functions: BTreeMap<String, &'a ItemFn>,
    /// The index of the constant of each kernel in `KERNELS`.
    kernels: BTreeMap<String, usize>,
}

impl<'a> Names<'a> {
    fn add(&mut self, file: &'static str, parsed: &'a File) -> Result<()> {
        if !syntax::plain(&parsed.attrs) {
            return strange(file, "the file's attributes");
        }
        for item in &parsed.items {
            match item {
                Item::Use(item) if syntax::imports_from_above(item) => {}
                Item::Fn(item) if syntax::plain(&item.attrs) => {
                    self.define(file, item.sig.ident.to_string())?;
                    self.functions.insert(item.sig.ident.to_string(), item);
                }
                Item::Const(item) if syntax::plain(&item.attrs) => self.add_constant(file, item)?,
                Item::Mod(item) if syntax::plain(&item.attrs) => self.add_regions(file, item)?,
                item => return strange(file, &format!("`{}`", syntax::item_name(item))),
            }
        }
        Ok(())
    }

    fn define(&mut self, file: &'static str, name: String) -> Result<()> {
        match self.file.insert(name.clone(), file) {
            None => Ok(()),
            Some(before) => Err(Error::internal("emit", format!("{before} and {file} define `{name}`"))),
        }
    }

    fn add_constant(&mut self, file: &'static str, item: &'a ItemConst) -> Result<()> {
        let (name, value) = (item.ident.to_string(), &*item.expr);
        self.define(file, name.clone())?;
        let numbered = |kind: &str| syntax::applied(value, kind).and_then(number);
        match (numbered("Stream"), numbered("Event")) {
            (Some(stream), _) => drop(self.streams.insert(name, stream)),
            (_, Some(event)) => drop(self.events.insert(name, event)),
            _ => drop(self.constants.insert(name, value)),
        }
        Ok(())
    }

    /// A module of regions: a function that says in which memory they are, then constants.
    fn add_regions(&mut self, file: &'static str, module: &'a ItemMod) -> Result<()> {
        let outer = module.ident.to_string();
        let items = module.content.as_ref().map_or(&[][..], |(_, items)| items);
        let functions = items.iter().filter_map(|item| if let Item::Fn(function) = item { Some(function) } else { None });
        let memories: Vec<(String, Region)> = functions
            .map(|function| memory(function).map_or_else(|| strange(file, &format!("`{outer}::{}`", function.sig.ident)), Ok))
            .collect::<Result<_>>()?;
        for item in items {
            match item {
                Item::Use(item) if syntax::imports_from_above(item) => {}
                Item::Fn(item) => self.define(file, format!("{outer}::{}", item.sig.ident))?,
                Item::Const(item) if syntax::plain(&item.attrs) => {
                    let name = format!("{outer}::{}", item.ident);
                    self.define(file, name.clone())?;
                    match region(&item.expr, &memories) {
                        Some(region) => drop(self.regions.insert(name, region)),
                        None => return strange(file, &format!("`{name}`")),
                    }
                }
                item => return strange(file, &format!("`{outer}::{}`", syntax::item_name(item))),
            }
        }
        Ok(())
    }

    fn emitted(mut self) -> Result<Emitted> {
        let mut emitted = Emitted::default();
        let listed = self.list("KERNELS", path)?;
        for (index, constant) in listed.into_iter().enumerate() {
            let value = self.value(&constant)?;
            let kernel = kernel(value).map_or_else(|| self.not_read(&constant), Ok)?;
            emitted.kernels.push(kernel);
            self.kernels.insert(constant, index);
        }
        let included = |item| pair(item).and_then(|(name, path)| Some((text(name)?, syntax::included(path, "include_str")?)));
        emitted.sources = self.list("SOURCES", included)?;
        emitted.headers = self.list("HEADERS", included)?;
        emitted.weights = self.list("WEIGHTS", text)?;
        emitted.embedded = weights_file(self.value("WEIGHTS_FILE")?).map_or_else(|| self.not_read("WEIGHTS_FILE"), Ok)?;
        let compiles = self.functions.get("compile").is_some_and(|function| compiles(function));
        if !compiles {
            return strange(KERNELS, "`compile`");
        }
        self.layout(&mut emitted)?;
        self.follow("enqueue", 1, &mut BTreeSet::new(), &mut emitted.calls)?;
        Ok(emitted)
    }

    /// The value of a constant.
    fn value(&self, name: &str) -> Result<&'a Expr> {
        self.constants.get(name).copied().ok_or_else(|| Error::internal("emit", format!("no file defines the constant `{name}`")))
    }

    /// The elements of a constant `&[..]`.
    fn list<T>(&self, name: &str, read: impl Fn(&'a Expr) -> Option<T>) -> Result<Vec<T>> {
        slice(self.value(name)?, read).map_or_else(|| self.not_read(name), Ok)
    }

    /// The error for a constant whose value has another form.
    fn not_read<T>(&self, name: &str) -> Result<T> {
        strange(self.file.get(name).copied().unwrap_or(PLAN), &format!("`{name}`"))
    }

    fn region(&self, expression: &Expr) -> Option<Named> {
        let name = path(expression)?;
        let region = *self.regions.get(&name)?;
        Some(Named { name, region })
    }

    fn stream(&self, expression: &Expr) -> Option<usize> {
        self.streams.get(&path(expression)?).copied()
    }

    fn event(&self, expression: &Expr) -> Option<usize> {
        self.events.get(&path(expression)?).copied()
    }

    fn layout(&self, emitted: &mut Emitted) -> Result<()> {
        let names = ["inputs", "outputs", "gpus", "streams", "origin_stream", "events", "kernels", "driver", "compile"];
        let Some([inputs, outputs, gpus, streams, origin, events, kernels, driver, compile]) =
            syntax::fields(self.value("LAYOUT")?, "Layout", names)
        else {
            return strange(PLAN, "`LAYOUT`");
        };
        let part = |name: &str| Error::internal("emit", format!("`LAYOUT.{name}` in {PLAN} has a form that hiosc does not generate"));
        emitted.inputs = slice(inputs, port).ok_or_else(|| part("inputs"))?;
        emitted.outputs = slice(outputs, port).ok_or_else(|| part("outputs"))?;
        emitted.gpus = slice(gpus, |gpu| self.gpu(gpu)).ok_or_else(|| part("gpus"))?;
        emitted.streams = slice(streams, stream).ok_or_else(|| part("streams"))?;
        emitted.origin_stream = self.stream(origin).ok_or_else(|| part("origin_stream"))?;
        emitted.events = slice(events, number).ok_or_else(|| part("events"))?;
        emitted.driver = number(driver).ok_or_else(|| part("driver"))?;
        if path(kernels).as_deref() != Some("KERNELS") {
            return Err(part("kernels"));
        }
        let compile = syntax::applied(compile, "Some").and_then(syntax::borrowed).and_then(path);
        if compile.as_deref() == Some("compile") { Ok(()) } else { Err(part("compile")) }
    }

    fn gpu(&self, expression: &'a Expr) -> Option<Gpu> {
        let names = ["arena_bytes", "weights_bytes", "weights", "counters"];
        let [arena_bytes, weights_bytes, weights, counters] = syntax::fields(expression, "GpuLayout", names)?;
        let upload = |item| pair(item).and_then(|(index, to)| Some((number(index)?, self.region(to)?)));
        // by name, or none
        let listed = |expression: &'a Expr| match path(expression) {
            Some(name) => self.constants.get(&name).copied(),
            None => Some(expression),
        };
        Some(Gpu {
            arena_bytes: number(arena_bytes)?,
            weights_bytes: number(weights_bytes)?,
            uploads: slice(listed(weights)?, upload)?,
            counters: slice(listed(counters)?, |item| self.region(item))?,
        })
    }

    /// Adds the calls of `function`, in order. No function is called twice: that would repeat its
    /// steps.
    fn follow(&self, function: &str, depth: usize, called: &mut BTreeSet<String>, calls: &mut Vec<Call>) -> Result<()> {
        let wrong = |what: &str| Err(Error::internal("emit", format!("step {}: `{function}` in {PLAN} {what}", calls.len())));
        let Some(item) = self.functions.get(function) else { return wrong("is called, but does not exist") };
        let Some(parameter) = syntax::enqueues(item) else { return wrong("has a form that hiosc does not generate") };
        if depth > DEEPEST || !called.insert(function.to_string()) {
            return wrong("is called twice, or too deep");
        }
        let Some((_, statements)) = item.block.stmts.split_last().filter(|(last, _)| syntax::is_ok(last)) else {
            return wrong("does not end with `Ok(())`");
        };
        for (number, statement) in statements.iter().enumerate() {
            if let Some(inner) = called_function(statement, &parameter) {
                self.follow(&inner, depth + 1, called, calls)?;
                continue;
            }
            let action = syntax::tried(statement).and_then(syntax::method).filter(|(receiver, ..)| *receiver == parameter);
            let action = match action {
                None => Action::Unknown(format!("statement {}, which is no call of the runtime", number + 1)),
                Some((_, method, arguments)) => self.action(&method, &arguments).unwrap_or_else(|| {
                    Action::Unknown(format!("statement {}, a call of `{method}` whose arguments are of the wrong kind", number + 1))
                }),
            };
            calls.push(Call { function: function.to_string(), action });
        }
        Ok(())
    }

    fn action(&self, method: &str, arguments: &[&Expr]) -> Option<Action> {
        Some(match (method, arguments) {
            ("upload", [stream, input, to]) => Action::Upload { stream: self.stream(stream)?, input: number(input)?, to: self.region(to)? },
            ("launch", [stream, kernel, arguments]) => Action::Launch {
                stream: self.stream(stream)?,
                kernel: *self.kernels.get(&path(syntax::borrowed(kernel)?)?)?,
                arguments: slice(arguments, |argument| self.region(argument))?,
            },
            ("copy", [stream, from, to]) => Action::Copy { stream: self.stream(stream)?, from: self.region(from)?, to: self.region(to)? },
            ("download", [stream, output, from]) => {
                Action::Download { stream: self.stream(stream)?, output: number(output)?, from: self.region(from)? }
            }
            ("record", [event, stream]) => Action::Record { event: self.event(event)?, stream: self.stream(stream)? },
            ("wait", [stream, event]) => Action::Wait { stream: self.stream(stream)?, event: self.event(event)? },
            _ => return None,
        })
    }
}

/// The error for a part of a file that has another form than what hiosc generates.
fn strange<T>(file: &str, what: &str) -> Result<T> {
    Err(Error::internal("emit", format!("{what} in {file} has a form that hiosc does not generate")))
}

/// The name of the function that `name(x)?;` calls.
fn called_function(statement: &Stmt, parameter: &str) -> Option<String> {
    match syntax::call(syntax::tried(statement)?)? {
        (name, arguments) if arguments.len() == 1 && path(arguments.first()?)? == parameter => Some(name),
        _ => None,
    }
}

/// The name of a function `arena(offset: u64, bytes: u64)` that returns
/// `Region::arena(0, offset, bytes)`, and an empty region of the memory that it stands for.
fn memory(function: &ItemFn) -> Option<(String, Region)> {
    let parameters = syntax::parameters(function)?;
    let (made, arguments) = syntax::call(syntax::only_expression(function)?)?;
    let area = match &made[..] {
        "Region::arena" => Area::Arena,
        "Region::weights" => Area::Weights,
        _ => return None,
    };
    let (gpu, passed) = arguments.split_first()?;
    let passed: Vec<String> = passed.iter().map(|argument| path(argument)).collect::<Option<_>>()?;
    let in_order = passed.len() == 2 && passed == parameters;
    in_order.then_some((function.sig.ident.to_string(), Region { gpu: number(gpu)?, area, offset: 0, bytes: 0 }))
}

/// The region `arena(offset, bytes)`.
fn region(expression: &Expr, memories: &[(String, Region)]) -> Option<Region> {
    let (made, arguments) = syntax::call(expression)?;
    let [offset, bytes] = arguments.try_into().ok()?;
    let (_, memory) = memories.iter().find(|(name, _)| *name == made)?;
    Some(Region { offset: number(offset)?, bytes: number(bytes)?, ..*memory })
}

fn kernel(value: &Expr) -> Option<Kernel> {
    let names = ["index", "name", "grid", "block", "shared_bytes", "gpus", "images"];
    let [index, name, grid, block, shared_bytes, gpus, images] = syntax::fields(value, "KernelEntry", names)?;
    let image = |expression| {
        let [kind, arch, bytes] = syntax::fields(expression, "KernelImage", ["kind", "arch", "bytes"])?;
        let (major, minor) = pair(arch)?;
        Some(Image { kind: path(kind)?, arch: (number(major)?, number(minor)?), path: syntax::included(bytes, "include_bytes")? })
    };
    Some(Kernel {
        index: number(index)?,
        name: text(name)?,
        grid: syntax::three(grid)?,
        block: syntax::three(block)?,
        shared_bytes: number(shared_bytes)?,
        gpus: slice(gpus, number)?,
        images: slice(images, image)?,
    })
}

fn port(expression: &Expr) -> Option<Port> {
    let [name, dtype, shape] = syntax::fields(expression, "Port", ["name", "dtype", "shape"])?;
    Some(Port { name: text(name)?, dtype: path(dtype)?, shape: slice(shape, number)? })
}

fn stream(expression: &Expr) -> Option<Stream> {
    if let Some([gpu]) = syntax::fields(expression, "StreamLayout::Compute", ["gpu"]) {
        return Some(Stream::Compute { gpu: number(gpu)? });
    }
    let [gpu, to, largest] = syntax::fields(expression, "StreamLayout::Copy", ["gpu", "to", "largest"])?;
    Some(Stream::Copy { gpu: number(gpu)?, to: number(to)?, largest: number(largest)? })
}

/// The path of the embedded file, if there is one.
fn weights_file(value: &Expr) -> Option<Option<String>> {
    let [_, _, _, embedded] = syntax::fields(value, "WeightsFile", ["name", "sha256", "path", "embedded"])?;
    match path(embedded).as_deref() {
        Some("None") => Some(None),
        _ => Some(Some(syntax::included(syntax::applied(embedded, "Some")?, "include_bytes")?)),
    }
}

/// Whether `compile(name, device)` compiles a kernel of `SOURCES` with `HEADERS`.
fn compiles(function: &ItemFn) -> bool {
    let call = syntax::only_expression(function).and_then(syntax::call);
    let parameters = syntax::parameters(function).unwrap_or_default();
    call.is_some_and(|(made, arguments)| {
        let passed: Vec<String> = arguments.into_iter().filter_map(path).collect();
        let expected: Vec<String> = ["SOURCES", "HEADERS"].map(String::from).into_iter().chain(parameters).collect();
        made == "super::runtime::compile" && passed == expected && passed.len() == 4
    })
}
