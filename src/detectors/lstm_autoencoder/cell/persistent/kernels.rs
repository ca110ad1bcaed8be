//! The two kernels, forward and backward, see the module's documentation for what lies where.
//!
//! A quad is four `f32` that lie side by side and are loaded at once.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use super::variant::Variant;

type Quad = Vector<f32, Const<4>>;

/// Walks all steps of the windows of one workgroup.
///
/// - `projected`: `[steps or 1, batch, 4 hidden]`, the input times its weights;
/// - `bias`: `[4 hidden]`;
/// - `weight`: `[hidden / 4][4 hidden]` quads along the rows of the recurrent weight;
/// - `output`: `[steps, batch, hidden / 4]` quads;
/// - with `variant.keep`, `gates`: `[steps, batch, 4 hidden]`, and `cells` as `output`.
#[cube(launch_unchecked)]
pub(super) fn forward_kernel(
    projected: &[f32],
    bias: &[f32],
    weight: &[Quad],
    output: &mut [Quad],
    gates: &mut [f32],
    cells: &mut [Quad],
    steps: u32,
    batch: u32,
    #[comptime] variant: Variant,
) {
    let (steps, batch) = (steps as usize, batch as usize);
    let unit = UNIT_POS_X as usize;
    let hidden = comptime!(variant.hidden);
    let quads = comptime!(variant.hidden / 4);
    let columns = comptime!(4 * variant.hidden);
    let rows = comptime!(variant.rows);
    let first = CUBE_POS_X as usize * rows;
    let last = batch - 1;

    let mut states = Shared::<[Quad]>::new_slice(comptime!(rows * quads));
    let mut activated = Shared::<[f32]>::new_slice(comptime!(rows * columns));

    // As one of `4 hidden` units: the column of a gate. Units past them repeat the last column and
    // write nothing, so that all reach the barriers.
    let column = clamp_max(unit, comptime!(columns - 1));
    let is_column = unit < columns;
    let is_candidate = column / hidden == 2;
    let column_bias = bias[column];
    let held = hold(weight, column, columns, variant);

    // As one of `rows * hidden / 4` units: a quad of one window's state.
    let row = unit / quads;
    let quad = unit % quads;
    let is_task = row < rows;
    let is_kept = is_task && first + row < batch;
    let mut cell = Quad::new(0.0);
    if is_task {
        states[unit] = Quad::new(0.0);
    }

    let mut next = Array::<f32>::new(rows);
    #[unroll]
    for r in 0..rows {
        next[r] = projected[clamp_max(first + r, last) * columns + column];
    }
    sync_cube();

    for step in 0..steps {
        let mut start = Array::<f32>::new(rows);
        #[unroll]
        for r in 0..rows {
            start[r] = next[r] + column_bias;
        }
        if comptime!(!variant.constant_input) {
            // The next step's share is on its way while this step computes.
            let ahead = clamp_max(step + 1, steps - 1) * batch;
            #[unroll]
            for r in 0..rows {
                next[r] = projected[(ahead + clamp_max(first + r, last)) * columns + column];
            }
        }
        let sums = product(&states, 0, quads, weight, &held, column, columns, variant);
        #[unroll]
        for r in 0..rows {
            let sum = sums[r];
            let value = activate(start[r] + sum_of(sum), is_candidate);
            if is_column {
                activated[r * columns + column] = value;
                if comptime!(variant.keep) && first + r < batch {
                    gates[(step * batch + first + r) * columns + column] = value;
                }
            }
        }
        sync_cube();
        if is_task {
            let mut state = Quad::new(0.0);
            #[unroll]
            for lane in 0..4 {
                let at = row * columns + 4 * quad + lane;
                let c = activated[at + hidden] * cell.extract(lane)
                    + activated[at] * activated[at + 2 * hidden];
                cell.insert(lane, c);
                state.insert(lane, activated[at + 3 * hidden] * tanh_of(c));
            }
            states[unit] = state;
            if is_kept {
                let at = (step * batch + first + row) * quads + quad;
                output[at] = state;
                if comptime!(variant.keep) {
                    cells[at] = cell;
                }
            }
        }
        sync_cube();
    }
}

/// Walks all steps backwards.
///
/// - `gates`: `[steps, batch, 4, hidden / 4]` quads, activated;
/// - `cells`, `grad` (the gradient by the output): `[steps, batch, hidden / 4]` quads;
/// - `weight`: `[4][hidden / 4][hidden]` quads along the columns of the recurrent weight;
/// - `deltas`: as `gates`, the gradient by the gates before activation;
/// - `summed`: `[batch, 4, hidden / 4]` quads, `deltas` summed over the steps.
#[cube(launch_unchecked)]
pub(super) fn backward_kernel(
    gates: &[Quad],
    cells: &[Quad],
    grad: &[Quad],
    weight: &[Quad],
    deltas: &mut [Quad],
    summed: &mut [Quad],
    steps: u32,
    batch: u32,
    #[comptime] variant: Variant,
) {
    let (steps, batch) = (steps as usize, batch as usize);
    let unit = UNIT_POS_X as usize;
    let hidden = comptime!(variant.hidden);
    let quads = comptime!(variant.hidden / 4);
    let columns = comptime!(4 * variant.hidden);
    let rows = comptime!(variant.rows);
    let first = CUBE_POS_X as usize * rows;

    let mut shared_deltas = Shared::<[Quad]>::new_slice(comptime!(rows * columns / 4));
    let mut partial = Shared::<[f32]>::new_slice(comptime!(rows * columns));

    // As one of `4 hidden` units: what one gate passes on to one hidden value.
    let place = clamp_max(unit, comptime!(columns - 1));
    let gate = place / hidden;
    let start = gate * quads * hidden + place % hidden;
    let held = hold(weight, start, hidden, variant);
    #[unroll]
    for r in 0..rows {
        if unit < columns {
            partial[r * columns + unit] = 0.0;
        }
    }

    // As one of `rows * hidden / 4` units: a quad of one window's state.
    let row = unit / quads;
    let quad = unit % quads;
    let is_task = row < rows;
    let window = clamp_max(first + row, batch - 1);
    let is_kept = is_task && first + row < batch;
    let mut by_cell = Quad::new(0.0);
    let mut sums = Array::<Quad>::new(4usize);
    let mut open = Array::<Quad>::new(4usize);
    let mut cell = Quad::new(0.0);
    let mut before = Quad::new(0.0);
    let mut outside = Quad::new(0.0);
    if is_task {
        let at = (steps - 1) * batch + window;
        #[unroll]
        for g in 0..4 {
            open[g] = gates[(at * 4 + g) * quads + quad];
        }
        cell = cells[at * quads + quad];
        outside = grad[at * quads + quad];
        if steps > 1 {
            before = cells[(at - batch) * quads + quad];
        }
    }
    sync_cube();

    for back in 0..steps {
        let step = steps - 1 - back;
        if is_task {
            let mut delta = Array::<Quad>::new(4usize);
            let mut by_hidden = outside;
            let mut bent = Quad::new(0.0);
            #[unroll]
            for lane in 0..4 {
                let at = row * columns + 4 * quad + lane;
                let later = (partial[at] + partial[at + hidden])
                    + (partial[at + 2 * hidden] + partial[at + 3 * hidden]);
                by_hidden.insert(lane, by_hidden.extract(lane) + later);
                bent.insert(lane, tanh_of(cell.extract(lane)));
            }
            let one = Quad::new(1.0);
            by_cell += by_hidden * open[3] * (one - bent * bent);
            delta[0] = by_cell * open[2] * open[0] * (one - open[0]);
            delta[1] = by_cell * before * open[1] * (one - open[1]);
            delta[2] = by_cell * open[0] * (one - open[2] * open[2]);
            delta[3] = by_hidden * bent * open[3] * (one - open[3]);
            by_cell *= open[1];
            let at = step * batch + window;
            #[unroll]
            for g in 0..4 {
                shared_deltas[(row * 4 + g) * quads + quad] = delta[g];
                sums[g] += delta[g];
                if is_kept {
                    deltas[(at * 4 + g) * quads + quad] = delta[g];
                }
            }
            // The earlier step's share is on its way while this step computes.
            if step > 0 {
                let ahead = at - batch;
                #[unroll]
                for g in 0..4 {
                    open[g] = gates[(ahead * 4 + g) * quads + quad];
                }
                outside = grad[ahead * quads + quad];
                cell = before;
                before = Quad::new(0.0);
                if step > 1 {
                    before = cells[(ahead - batch) * quads + quad];
                }
            }
        }
        sync_cube();
        let found =
            product(&shared_deltas, gate * quads, 4 * quads, weight, &held, start, hidden, variant);
        #[unroll]
        for r in 0..rows {
            let sum = found[r];
            if unit < columns {
                partial[r * columns + unit] = sum_of(sum);
            }
        }
        sync_cube();
    }

    if is_kept {
        #[unroll]
        for g in 0..4 {
            summed[(window * 4 + g) * quads + quad] = sums[g];
        }
    }
}

/// The first `variant.held` quads of a unit's weights, which lie `stride` apart, for its registers.
#[cube]
fn hold(weight: &[Quad], start: usize, stride: usize, #[comptime] variant: Variant) -> Array<Quad> {
    let mut held = Array::<Quad>::new(comptime!(variant.held));
    #[unroll]
    for q in 0..variant.held {
        held[q] = weight[start + q * stride];
    }
    held
}

/// For every row, four partial sums of `hidden` products of a row in shared memory with the unit's
/// weights: those that it holds, then those that it reads.
#[cube]
fn product(
    state: &Shared<[Quad]>,
    state_start: usize,
    state_stride: usize,
    weight: &[Quad],
    held: &Array<Quad>,
    start: usize,
    stride: usize,
    #[comptime] variant: Variant,
) -> Array<Quad> {
    let rows = comptime!(variant.rows);
    let quads = comptime!(variant.hidden / 4);
    let mut sums = Array::<Quad>::new(rows);
    #[unroll]
    for q in 0..variant.held {
        #[unroll]
        for r in 0..rows {
            sums[r] = fma(state[state_start + r * state_stride + q], held[q], sums[r]);
        }
    }
    if comptime!(quads > variant.held) {
        for q in variant.held..quads {
            let read = weight[start + q * stride];
            #[unroll]
            for r in 0..rows {
                sums[r] = fma(state[state_start + r * state_stride + q], read, sums[r]);
            }
        }
    }
    sums
}

#[cube]
fn sum_of(quad: Quad) -> f32 {
    (quad.extract(0usize) + quad.extract(1usize)) + (quad.extract(2usize) + quad.extract(3usize))
}

/// tanh for the candidate, the logistic function for the gates; one exponential that cannot
/// overflow, and no branch.
#[cube]
fn activate(x: f32, is_candidate: bool) -> f32 {
    let scale = select(is_candidate, -2.0f32, -1.0f32);
    let e = f32::exp(scale * f32::abs(x));
    let inverse = 1.0f32 / (1.0f32 + e);
    let logistic = select(x < 0.0f32, e * inverse, inverse);
    select(is_candidate, tanh_from(x, (1.0f32 - e) * inverse), logistic)
}

#[cube]
fn tanh_of(x: f32) -> f32 {
    let e = f32::exp(-2.0f32 * f32::abs(x));
    tanh_from(x, (1.0f32 - e) / (1.0f32 + e))
}

/// tanh of `x`, given (1 - e) / (1 + e) for e = exp(-2 |x|). That has lost digits near 0, where the
/// Taylor series stands in for it; at 0.3 the series' next term is below 6e-8 of the value.
#[cube]
fn tanh_from(x: f32, of_absolute: f32) -> f32 {
    let square = x * x;
    let mut series = fma(square, 62.0f32 / 2835.0f32, -17.0f32 / 315.0f32);
    series = fma(series, square, 2.0f32 / 15.0f32);
    series = fma(series, square, -1.0f32 / 3.0f32);
    let near = fma(series * square, x, x);
    let far = select(x < 0.0f32, -of_absolute, of_absolute);
    select(f32::abs(x) < 0.3f32, near, far)
}
