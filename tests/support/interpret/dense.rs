//! The operators of `graph::dense`, from their definitions.

use hiosc::graph::{Attention, ConvNd, GridSample, Interpolation, Lrn, Norm, Outside, PoolIndices, PoolKind, PoolNd, Trilu, WindowAxis};

use hiosc::graph::{DType, ReduceKind};

use super::{mean, one, ravel, reduce, sum, unravel};
use crate::support::number::{Number, Rounding, Value, eval};

/// The values of f32 tensors.
pub fn floats(args: &[Vec<Number>]) -> Vec<Vec<f32>> {
    args.iter().map(|values| values.iter().map(|v| v.f64() as f32).collect()).collect()
}

/// Results of f32.
pub fn from_floats(values: Vec<f32>) -> Vec<Number> {
    values.into_iter().map(|v| Number::float(v.into())).collect()
}

/// Where a tap of a window reads, in the plane of `extents`; `None` for padding.
fn read(axes: &[WindowAxis], transposed: bool, at: &[usize], tap: &[usize], extents: &[usize]) -> Option<Vec<usize>> {
    let one = |i: usize| {
        let (axis, at, tap) = (&axes[i], at[i] as isize, tap[i] as isize);
        let (stride, dilation, pad) = (axis.stride as isize, axis.dilation as isize, axis.pad_begin as isize);
        let place = if transposed {
            // the input whose window has this tap at this output
            (0..extents[i] as isize).find(|place| place * stride + tap * dilation - pad == at)?
        } else {
            at * stride + tap * dilation - pad
        };
        usize::try_from(place).ok().filter(|&place| place < extents[i])
    };
    (0..axes.len()).map(one).collect()
}

fn taps(axes: &[WindowAxis]) -> Vec<Vec<usize>> {
    let sizes: Vec<usize> = axes.iter().map(|a| a.kernel).collect();
    (0..sizes.iter().product()).map(|i| unravel(i, &sizes)).collect()
}

pub fn conv(c: &ConvNd, of: DType, args: &[Vec<Number>], shapes: &[&[usize]], out: &[usize]) -> Vec<Number> {
    let (x, w) = (shapes[0], shapes[1]);
    let per_group = w[1];
    let first = 2 + usize::from(c.bias);
    let taps = taps(&c.axes);
    let value = |i: usize| {
        let index = unravel(i, out);
        let (n, k) = (index[0], index[1]);
        let mut terms = Vec::new();
        if c.bias {
            terms.push((args[2][k], one(of)));
        }
        for tap in &taps {
            let Some(place) = read(&c.axes, c.transposed, &index[2..], tap, &x[2..]) else { continue };
            for ic in 0..per_group {
                let channel = k / (w[0] / c.groups) * per_group + ic;
                let a = args[0][ravel(&[&[n, channel], &place[..]].concat(), x)];
                terms.push((a, args[1][ravel(&[&[k, ic], &tap[..]].concat(), w)]));
            }
        }
        let sum = sum(of, terms.into_iter());
        eval(&c.epilogue, &|j| if j == 0 { sum } else { args[first + j - 1][i] }, Rounding::Rounded)
    };
    (0..out.iter().product()).map(value).collect()
}

pub fn pool(p: &PoolNd, of: DType, x: &[Number], shape: &[usize], out: &[usize]) -> Vec<Number> {
    let taps = taps(&p.axes);
    let value = |i: usize| {
        let index = unravel(i, out);
        let (mut window, mut counted) = (Vec::new(), 0);
        for tap in &taps {
            let end = |a: usize| {
                index[2 + a] * p.axes[a].stride + tap[a] * p.axes[a].dilation < p.axes[a].pad_begin + shape[2 + a] + p.axes[a].pad_end
            };
            counted += usize::from((0..p.axes.len()).all(end));
            let Some(place) = read(&p.axes, false, &index[2..], tap, &shape[2..]) else { continue };
            window.push(x[ravel(&[&index[..2], &place[..]].concat(), shape)]);
        }
        match p.kind {
            PoolKind::Max => reduce(ReduceKind::Max, of, &window),
            PoolKind::Sum => reduce(ReduceKind::Sum, of, &window),
            PoolKind::Average { count_include_pad } => {
                let count = if count_include_pad { counted } else { window.len() };
                if count == 0 { Number::float(0.0) } else { mean(of, &window, count) }
            }
        }
    };
    (0..out.iter().product()).map(value).collect()
}

pub fn pool_indices(p: &PoolIndices, x: &[Number], shape: &[usize], out: &[usize]) -> Vec<Number> {
    let taps = taps(&p.axes);
    let value = |i: usize| {
        let index = unravel(i, out);
        let mut best: Option<(f64, Vec<usize>)> = None;
        for tap in &taps {
            let Some(place) = read(&p.axes, false, &index[2..], tap, &shape[2..]) else { continue };
            let v = x[ravel(&[&index[..2], &place[..]].concat(), shape)].f64();
            if best.as_ref().is_none_or(|(largest, _)| v > *largest || (v.is_nan() && !largest.is_nan())) {
                best = Some((v, place));
            }
        }
        let place = best.map_or(vec![0; shape.len() - 2], |(_, place)| place);
        let plane: usize = shape[2..].iter().product();
        let within = if p.column_major {
            let reversed = |v: &[usize]| v.iter().rev().copied().collect::<Vec<_>>();
            ravel(&reversed(&place), &reversed(&shape[2..]))
        } else {
            ravel(&place, &shape[2..])
        };
        Number::new(DType::I64, Value::Int((ravel(&index[..2], &shape[..2]) * plane + within) as i128))
    };
    (0..out.iter().product()).map(value).collect()
}

pub fn trilu(t: &Trilu, of: DType, x: &[Number], shape: &[usize]) -> Vec<Number> {
    let zero = Number::new(of, if of.is_float() { Value::Float(0.0) } else { Value::Int(0) });
    let value = |i: usize| {
        let index = unravel(i, shape);
        let (row, column) = (index[shape.len() - 2] as i64, index[shape.len() - 1] as i64);
        let stays = if t.upper { column >= row + t.diagonal } else { column <= row + t.diagonal };
        if stays { x[i] } else { zero }
    };
    (0..x.len()).map(value).collect()
}

pub fn log_softmax(axis: usize, x: &[f32], shape: &[usize]) -> Vec<f32> {
    let stride: usize = shape[axis + 1..].iter().product();
    let value = |i: usize| {
        let base = i - unravel(i, shape)[axis] * stride;
        let row: Vec<f64> = (0..shape[axis]).map(|j| x[base + j * stride] as f64).collect();
        let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (x[i] as f64 - max - row.iter().map(|v| (v - max).exp()).sum::<f64>().ln()) as f32
    };
    (0..x.len()).map(value).collect()
}

pub fn norm(n: &Norm, args: &[Vec<Number>], shapes: &[&[usize]]) -> Vec<Number> {
    let (x, shape) = (&floats(&args[..1])[0], shapes[0]);
    let row_of = |i: usize| {
        let mut index = unravel(i, shape);
        n.axes.iter().for_each(|&axis| index[axis] = 0);
        ravel(&index, shape)
    };
    let mean_of = |of: &dyn Fn(usize) -> f64| {
        let (mut sums, mut counts) = (vec![0.0f64; x.len()], vec![0usize; x.len()]);
        for i in 0..x.len() {
            sums[row_of(i)] += of(i);
            counts[row_of(i)] += 1;
        }
        sums.into_iter().zip(counts).map(|(sum, count)| sum / count.max(1) as f64).collect::<Vec<f64>>()
    };
    let means = if n.centred { mean_of(&|i| x[i] as f64) } else { vec![0.0; x.len()] };
    let variances = mean_of(&|i| (x[i] as f64 - means[row_of(i)]).powi(2));
    let value = |i: usize| {
        let normalised = (x[i] as f64 - means[row_of(i)]) / (variances[row_of(i)] + n.epsilon as f64).sqrt();
        let read = |j: usize| {
            if j == 0 {
                return Number::float((normalised as f32).into());
            }
            let index: Vec<usize> = unravel(i, shape).iter().zip(shapes[j]).map(|(&i, &d)| if d == 1 { 0 } else { i }).collect();
            args[j][ravel(&index, shapes[j])]
        };
        eval(&n.epilogue, &read, Rounding::Rounded)
    };
    (0..x.len()).map(value).collect()
}

pub fn lrn(l: &Lrn, x: &[f32], shape: &[usize]) -> Vec<f32> {
    let value = |i: usize| {
        let mut index = unravel(i, shape);
        let channel = index[1];
        let (first, last) = (channel.saturating_sub((l.size - 1) / 2), (channel + l.size / 2).min(shape[1] - 1));
        let mut sum = 0.0;
        for c in first..=last {
            index[1] = c;
            sum += (x[ravel(&index, shape)] as f64).powi(2);
        }
        (x[i] as f64 / (l.bias as f64 + l.alpha as f64 / l.size as f64 * sum).powf(l.beta as f64)) as f32
    };
    (0..x.len()).map(value).collect()
}

/// Where a coordinate beyond the edges lies in the mirrors that stand there.
fn mirrored(mut a: f32, low: f32, high: f32) -> f32 {
    if high == low {
        return low;
    }
    // as often as needed; coordinates in tests are small
    while a < low || a > high {
        a = if a < low { 2.0 * low - a } else { 2.0 * high - a };
    }
    a
}

pub fn grid_sample(g: &GridSample, args: &[Vec<f32>], shape: &[usize], out: &[usize]) -> Vec<f32> {
    let axes = shape.len() - 2;
    let bounds = |d: usize| if g.align_corners { (0.0, shape[2 + d] as f32 - 1.0) } else { (-0.5, shape[2 + d] as f32 - 0.5) };
    let value = |i: usize| {
        let index = unravel(i, out);
        let point = [&index[..1], &index[2..]].concat();
        let point = ravel(&point, &[&out[..1], &out[2..]].concat());
        // in single precision, as the definition of nearest depends on it
        let mut place: Vec<f32> = (0..axes)
            .map(|d| {
                let (a, size) = (args[1][point * axes + axes - 1 - d], shape[2 + d] as f32);
                if g.align_corners { (a + 1.0) / 2.0 * (size - 1.0) } else { ((a + 1.0) * size - 1.0) / 2.0 }
            })
            .collect();
        if g.interpolation == Interpolation::Nearest {
            place.iter_mut().for_each(|a| *a = a.round_ties_even());
        }
        if (0..axes).any(|d| place[d] < bounds(d).0 || place[d] > bounds(d).1) {
            for (d, a) in place.iter_mut().enumerate() {
                *a = match g.outside {
                    Outside::Zeros => *a,
                    Outside::Border => a.clamp(0.0, shape[2 + d] as f32 - 1.0),
                    Outside::Reflection => mirrored(*a, bounds(d).0, bounds(d).1),
                };
            }
        }
        let element = |at: &[isize]| {
            let mut full = index[..2].to_vec();
            for (d, &at) in at.iter().enumerate() {
                let last = shape[2 + d] as isize - 1;
                full.push(match g.outside {
                    Outside::Zeros if at < 0 || at > last => return 0.0,
                    Outside::Zeros => at,
                    Outside::Border => at.clamp(0, last),
                    Outside::Reflection => (mirrored(at as f32, bounds(d).0, bounds(d).1) as isize).clamp(0, last),
                } as usize);
            }
            args[0][ravel(&full, shape)] as f64
        };
        let weight = |distance: f64| match g.interpolation {
            Interpolation::Nearest => 1.0,
            Interpolation::Linear => 1.0 - distance,
            Interpolation::Cubic if distance <= 1.0 => 1.25 * distance.powi(3) - 2.25 * distance.powi(2) + 1.0,
            Interpolation::Cubic => -0.75 * (distance.powi(3) - 5.0 * distance.powi(2) + 8.0 * distance - 4.0),
        };
        let (before, window) = match g.interpolation {
            Interpolation::Nearest => (0, 1),
            Interpolation::Linear => (0, 2),
            Interpolation::Cubic => (1, 4),
        };
        let mut sum = 0.0;
        for tap in 0..usize::pow(window, axes as u32) {
            let at: Vec<isize> =
                unravel(tap, &vec![window; axes]).iter().zip(&place).map(|(&k, a)| a.floor() as isize + k as isize - before).collect();
            let weights: f64 = at.iter().zip(&place).map(|(&at, &a)| weight((at as f64 - a as f64).abs())).product();
            sum += weights * element(&at);
        }
        sum as f32
    };
    (0..out.iter().product()).map(value).collect()
}

pub fn attention(a: &Attention, args: &[Vec<f32>], out: &[usize]) -> Vec<f32> {
    let at = |index: [usize; 4], strides: [usize; 4]| index.iter().zip(strides).map(|(i, s)| i * s).sum::<usize>();
    let mut y = vec![f32::NAN; out.iter().product()];
    for i in 0..a.batch * a.heads * a.rows {
        let [b, h, row] = unravel(i, &[a.batch, a.heads, a.rows])[..] else { panic!("three axes") };
        let shared = h / (a.heads / a.kv_heads);
        let score = |column: usize| {
            let product =
                |d: usize| args[0][at([b, h, row, d], a.q_strides)] as f64 * args[1][at([b, shared, column, d], a.k_strides)] as f64;
            let mut score = a.scale as f64 * (0..a.depth).map(product).sum::<f64>();
            if let Some(strides) = a.mask_strides {
                score += args[3][at([b, h, row, column], strides)] as f64;
            }
            if a.causal && column + a.rows > row + a.columns { score + f32::MIN as f64 } else { score }
        };
        let scores: Vec<f64> = (0..a.columns).map(score).collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
        let total: f64 = weights.iter().sum();
        for d in 0..a.value_depth {
            let value = |column: usize| weights[column] * args[2][at([b, shared, column, d], a.v_strides)] as f64;
            y[at([b, h, row, d], a.y_strides)] = ((0..a.columns).map(value).sum::<f64>() / total) as f32;
        }
    }
    y
}
