//! Shape rules of the operators in `graph::dense`.

use super::super::{Attention, ConvNd, GridSample, Norm, WindowAxis};
use super::check_tail;

fn sound_window(axes: &[WindowAxis], rank: usize) -> Result<(), String> {
    if axes.len() + 2 != rank || axes.iter().any(|a| a.kernel == 0 || a.stride == 0 || a.dilation == 0) {
        return Err("needs a window with taps, stride and dilation for each axis behind the second".into());
    }
    Ok(())
}

pub fn check_conv_nd(conv: &ConvNd, inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
    let [x, weights, rest @ ..] = inputs else { return Err("needs an input and weights".into()) };
    sound_window(&conv.axes, x.len())?;
    let taps: Vec<usize> = conv.axes.iter().map(|a| a.kernel).collect();
    let fits = weights.len() == x.len()
        && output.len() == x.len()
        && conv.groups > 0
        && weights[0] % conv.groups == 0
        && weights[1] * conv.groups == x[1]
        && weights[2..] == taps;
    if !fits {
        return Err(format!("weights {weights:?} do not fit input {x:?} in {} groups", conv.groups));
    }
    let extent = |(axis, &size): (&WindowAxis, &usize)| {
        (size + axis.pad_begin + axis.pad_end).checked_sub(axis.reach()).map(|room| room / axis.stride + 1)
    };
    let follows = conv.transposed || conv.axes.iter().zip(&x[2..]).map(extent).eq(output[2..].iter().map(|&d| Some(d)));
    if !follows || [x[0], weights[0]] != output[..2] {
        return Err(format!("output {output:?} does not follow from input {x:?}"));
    }
    check_tail(rest, conv.bias, weights[0], &conv.epilogue, output)
}

pub fn check_pool_nd(axes: &[WindowAxis], inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
    let &[x] = inputs else { return Err("needs one input".into()) };
    sound_window(axes, x.len())?;
    if x.len() != output.len() || x[..2] != output[..2] {
        return Err(format!("output {output:?} does not follow from input {x:?}"));
    }
    // the last window may reach over the end, but must begin before it
    let begins = |(axis, (&size, &windows)): (&WindowAxis, (&usize, &usize))| {
        windows == 0 || (windows - 1) * axis.stride < size + axis.pad_begin + axis.pad_end
    };
    if axes.iter().zip(x[2..].iter().zip(&output[2..])).all(begins) {
        Ok(())
    } else {
        Err(format!("a window of {output:?} begins behind {x:?}"))
    }
}

pub fn check_norm(norm: &Norm, inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
    let [x, rest @ ..] = inputs else { return Err("needs an input".into()) };
    if *x != output || norm.axes.is_empty() || norm.axes.windows(2).any(|w| w[0] >= w[1]) || norm.axes.iter().any(|&a| a >= x.len()) {
        return Err(format!("axes {:?} of {x:?} do not give {output:?}", norm.axes));
    }
    let broadcasts = |s: &[usize]| s.len() == output.len() && s.iter().zip(output).all(|(&a, &b)| a == b || a == 1);
    if rest.len() + 1 < norm.epilogue.inputs() || !rest.iter().all(|s| broadcasts(s)) {
        return Err(format!("the epilogue's further inputs {rest:?} must be there, and broadcast to {output:?}"));
    }
    Ok(())
}

pub fn check_same(inputs: &[&[usize]], output: &[usize], rank: usize) -> Result<(), String> {
    match inputs {
        [x] if *x == output && x.len() >= rank => Ok(()),
        _ => Err(format!("keeps the shape of its one input, of {rank} axes or more")),
    }
}

pub fn check_grid_sample(_: &GridSample, inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
    let &[x, grid] = inputs else { return Err("needs an input and a grid".into()) };
    let axes = x.len().wrapping_sub(2);
    let fits = x.len() > 2
        && grid.len() == x.len()
        && output.len() == x.len()
        && grid[0] == x[0]
        && grid[grid.len() - 1] == axes
        && output[..2] == x[..2]
        && output[2..] == grid[1..=axes];
    if fits { Ok(()) } else { Err(format!("input {x:?} at the places {grid:?} does not give {output:?}")) }
}

pub fn check_attention(a: &Attention, inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
    let ([q, k, v], mask) = match inputs {
        [q, k, v] if a.mask_strides.is_none() => ([*q, *k, *v], None),
        [q, k, v, mask] if a.mask_strides.is_some() => ([*q, *k, *v], Some(*mask)),
        _ => return Err("needs q, k, v, and a mask if it has strides for one".into()),
    };
    if a.kv_heads == 0 || !a.heads.is_multiple_of(a.kv_heads) {
        return Err(format!("{} heads cannot share {}", a.heads, a.kv_heads));
    }
    if a.depth > Attention::MAX_DEPTH || a.value_depth > Attention::MAX_DEPTH {
        return Err(format!("rows of {} and {} are too long", a.depth, a.value_depth));
    }
    let inside = |shape: &[usize], sizes: [usize; 4], strides: [usize; 4]| {
        let reach =
            if sizes.contains(&0) { 0 } else { sizes.iter().zip(strides).map(|(size, stride)| (size - 1) * stride).sum::<usize>() + 1 };
        reach <= shape.iter().product()
    };
    let result = [a.batch, a.heads, a.rows, a.value_depth];
    let sound = inside(q, [a.batch, a.heads, a.rows, a.depth], a.q_strides)
        && inside(k, [a.batch, a.kv_heads, a.columns, a.depth], a.k_strides)
        && inside(v, [a.batch, a.kv_heads, a.columns, a.value_depth], a.v_strides)
        && mask.zip(a.mask_strides).is_none_or(|(mask, strides)| inside(mask, [a.batch, a.heads, a.rows, a.columns], strides))
        && inside(output, result, a.y_strides)
        && result.iter().product::<usize>() == output.iter().product::<usize>();
    if sound { Ok(()) } else { Err("extents and strides lead outside an operand".into()) }
}
