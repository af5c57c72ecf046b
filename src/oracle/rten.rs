//! A model in rten.

use std::collections::BTreeSet;
use std::fmt::{self, Debug, Formatter};
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;
use rten::{Model, ModelOptions, NodeId, RunError, RunOptions, ThreadPool, Value, ValueOrView};
use rten_tensor::{Layout, Tensor};

use super::Input;
use super::external::ExternalData;
use super::rewrite::{rewritten, with_names};
use super::values::Values;
use crate::graph::{Constant, DType};
use crate::import::ImportOptions;
use crate::panics::{caught, one_line};
use crate::runtime::Element;

/// A model as rten reads it: unoptimised, so that every tensor of the file can be computed.
pub struct Oracle {
    // before the maps that it reads
    model: Model,
    _maps: Vec<Mmap>,
    /// Inputs that the caller has fixed.
    constants: Vec<(NodeId, Value)>,
    pool: Option<Arc<ThreadPool>>,
}

impl Debug for Oracle {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Oracle").field(&self.model).finish()
    }
}

impl Oracle {
    /// Reads the model at `path`, with the caller's shapes and constants.
    ///
    /// # Errors
    ///
    /// Why rten cannot: an operator, an attribute or a type that it does not know.
    pub fn load(path: &Path, options: &ImportOptions) -> Result<Oracle, String> {
        caught(|| Oracle::read(path, options)).unwrap_or_else(|panic| Err(format!("rten fails on it: {panic}")))
    }

    fn read(path: &Path, options: &ImportOptions) -> Result<Oracle, String> {
        let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
        let mut external = ExternalData::beside(path);
        let reshaped: BTreeSet<&str> = options.shapes.keys().map(String::as_str).collect();
        let bytes = rewritten(&bytes, &reshaped, &mut external)?;
        let mut loader = ModelOptions::with_all_ops();
        let maps = external.lend(loader.enable_optimization(false));
        let model = loader.load(bytes).map_err(|error| with_names(&one_line(&error.to_string())))?;
        let constants = options.constants.iter().map(|(name, literal)| {
            let id = model.find_node(name).ok_or_else(|| format!("it has no input {name:?}"))?;
            Ok((id, value(literal.shape(), literal.values())?))
        });
        let constants = constants.collect::<Result<Vec<_>, String>>()?;
        Ok(Oracle { model, _maps: maps, constants, pool: None })
    }

    /// Runs it on this many threads from now on. The default is one for each core.
    pub fn threads(mut self, count: usize) -> Oracle {
        self.pool = Some(Arc::new(ThreadPool::with_num_threads(count)));
        self
    }

    /// The values of the tensors `wanted`, by ONNX name, for these inputs; `None` for what the
    /// model has no tensor of that name for.
    ///
    /// # Errors
    ///
    /// Why rten cannot compute them.
    pub fn run(&self, inputs: &[Input<'_>], wanted: &[&str]) -> Result<Vec<Option<Values>>, String> {
        caught(|| self.compute(inputs, wanted)).unwrap_or_else(|panic| Err(format!("rten fails on it: {panic}")))
    }

    fn compute(&self, inputs: &[Input<'_>], wanted: &[&str]) -> Result<Vec<Option<Values>>, String> {
        let mut feeds: Vec<(NodeId, ValueOrView)> = Vec::new();
        for &(name, shape, values) in inputs {
            let id = self.model.find_node(name).ok_or_else(|| format!("it has no input {name:?}"))?;
            feeds.push((id, value(shape, values)?.into()));
        }
        feeds.extend(self.constants.iter().map(|(id, value)| (*id, value.as_view().into())));
        let ids: Vec<Option<NodeId>> = wanted.iter().map(|name| self.model.find_node(name)).collect();
        let mut distinct: Vec<NodeId> = ids.iter().flatten().copied().collect();
        distinct.sort();
        distinct.dedup();
        let options = RunOptions::default().with_thread_pool(self.pool.clone());
        let results = self.model.run(feeds, &distinct, Some(options)).map_err(|error| failure(&error))?;
        let values = results.into_iter().map(values).collect::<Result<Vec<_>, String>>()?;
        let found = |id: &NodeId| distinct.binary_search(id).ok().and_then(|at| values.get(at)).cloned();
        Ok(ids.iter().map(|id| id.as_ref().and_then(found)).collect())
    }
}

/// What rten says of a model that it cannot run.
fn failure(error: &RunError) -> String {
    with_names(&one_line(&error.to_string()))
}

/// A tensor in one of rten's types. It has f32, i32, i8 and u8, and reads the others as these.
fn value(shape: &[usize], values: &Constant) -> Result<Value, String> {
    fn of<T>(shape: &[usize], values: Vec<T>) -> Result<Value, String>
    where
        Value: From<Tensor<T>>,
    {
        Value::from_shape(shape, values).map_err(|error| error.to_string())
    }
    let (dtype, bytes) = (values.dtype(), values.bytes());
    match dtype {
        DType::F32 => of(shape, f32::values(bytes)),
        DType::I32 => of(shape, i32::values(bytes)),
        DType::I8 => of(shape, i8::values(bytes)),
        DType::U8 => of(shape, u8::values(bytes)),
        _ if dtype.is_float() => of(shape, dtype.numbers(bytes).into_iter().map(|v| v as f32).collect::<Vec<_>>()),
        _ => {
            let narrow = |v: f64| if v == f64::from(v as i32) { Ok(v as i32) } else { Err(format!("{v} is not an i32")) };
            of(shape, dtype.numbers(bytes).into_iter().map(narrow).collect::<Result<Vec<_>, _>>()?)
        }
    }
}

/// Values that rten has computed.
fn values(value: Value) -> Result<Values, String> {
    let shape = value.shape().to_vec();
    let (dtype, bytes) = match value {
        Value::FloatTensor(tensor) => (DType::F32, f32::bytes(&tensor.into_data()).to_vec()),
        Value::Int32Tensor(tensor) => (DType::I32, i32::bytes(&tensor.into_data()).to_vec()),
        Value::Int8Tensor(tensor) => (DType::I8, i8::bytes(&tensor.into_data()).to_vec()),
        Value::UInt8Tensor(tensor) => (DType::U8, u8::bytes(&tensor.into_data()).to_vec()),
        _ => return Err("a sequence of tensors".into()),
    };
    Ok(Values { dtype, shape, bytes })
}
