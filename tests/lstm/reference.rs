//! The LSTM layer in double precision, written straight from its equations: what `f32` is measured
//! against. Slow, and without a thought for it.

/// Numbers between -0.5 and 0.5 that look random, exact in `f32`; as in
/// `tests/golden/lstm_reference.py`.
pub fn numbers(n: usize, seed: u32) -> Vec<f64> {
    let number = |i: u32| {
        // The finaliser of MurmurHash3. A mere multiplication spreads so evenly that sums cancel.
        let mut hash = i.wrapping_add(seed.wrapping_mul(0x9e37_79b9));
        hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
        hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
        f64::from((hash ^ (hash >> 16)) >> 8) / f64::from(1 << 24) - 0.5
    };
    (0..n as u32).map(number).collect()
}

/// The sizes of a layer's run.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub steps: usize,
    pub batch: usize,
    pub inputs: usize,
    pub hidden: usize,
    /// One input for every step, in place of one per step.
    pub constant_input: bool,
}

impl Size {
    pub fn input_steps(&self) -> usize {
        if self.constant_input { 1 } else { self.steps }
    }
}

/// The arguments of a run. The loss is the sum of `loss` times the outputs.
#[derive(Clone, Debug)]
pub struct Example {
    pub size: Size,
    /// `[steps or 1, batch, inputs]`.
    pub input: Vec<f64>,
    /// `[inputs + hidden, 4 hidden]`.
    pub weight: Vec<f64>,
    /// `[4 hidden]`.
    pub bias: Vec<f64>,
    /// `[steps, batch, hidden]`.
    pub loss: Vec<f64>,
}

impl Example {
    /// Weights are of the size that networks start with, so that errors do not grow from step to
    /// step by the dynamics' own doing.
    pub fn new(size: Size) -> Self {
        let Size { steps, batch, inputs, hidden, .. } = size;
        let scale = (1.0 - (hidden as f64).log2() / 2.0).round_ties_even().exp2();
        let times = |factor: f64, values: Vec<f64>| values.iter().map(|v| factor * v).collect();
        Self {
            size,
            input: times(4.0, numbers(size.input_steps() * batch * inputs, 1)),
            weight: times(scale, numbers((inputs + hidden) * 4 * hidden, 2)),
            bias: numbers(4 * hidden, 3),
            loss: numbers(steps * batch * hidden, 4),
        }
    }

    /// The output, and the loss's gradients by input, weight and bias.
    pub fn exact(&self) -> [Vec<f64>; 4] {
        let Size { steps, batch, hidden, .. } = self.size;
        let mut found = [
            vec![0.0; steps * batch * hidden],
            vec![0.0; self.input.len()],
            vec![0.0; self.weight.len()],
            vec![0.0; self.bias.len()],
        ];
        for window in 0..batch {
            let run = self.forward(window);
            for (step, state) in run.iter().enumerate() {
                let at = (step * batch + window) * hidden;
                found[0][at..at + hidden].copy_from_slice(&state.hidden);
            }
            self.backward(window, &run, &mut found);
        }
        found
    }

    /// The loss alone, for difference quotients.
    pub fn exact_loss(&self) -> f64 {
        let Size { batch, hidden, .. } = self.size;
        let mut loss = 0.0;
        for window in 0..batch {
            for (step, state) in self.forward(window).iter().enumerate() {
                let at = (step * batch + window) * hidden;
                let weights = &self.loss[at..at + hidden];
                loss += state.hidden.iter().zip(weights).map(|(h, w)| h * w).sum::<f64>();
            }
        }
        loss
    }

    fn input_at(&self, step: usize, window: usize) -> usize {
        let step = if self.size.constant_input { 0 } else { step };
        (step * self.size.batch + window) * self.size.inputs
    }

    fn forward(&self, window: usize) -> Vec<State> {
        let Size { steps, inputs, hidden, .. } = self.size;
        let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
        let mut run: Vec<State> = Vec::with_capacity(steps);
        let start =
            State { hidden: vec![0.0; hidden], cell: vec![0.0; hidden], ..State::default() };
        for step in 0..steps {
            let before = run.last().unwrap_or(&start);
            let at = self.input_at(step, window);
            let seen: Vec<f64> =
                self.input[at..at + inputs].iter().chain(&before.hidden).copied().collect();
            let sum = |column: usize| {
                let products = seen.iter().enumerate();
                let products = products.map(|(row, x)| x * self.weight[row * 4 * hidden + column]);
                self.bias[column] + products.sum::<f64>()
            };
            let gates: Vec<f64> = (0..4 * hidden)
                .map(|c| if c / hidden == 2 { sum(c).tanh() } else { logistic(sum(c)) })
                .collect();
            let cell: Vec<f64> = (0..hidden)
                .map(|j| gates[hidden + j] * before.cell[j] + gates[j] * gates[2 * hidden + j])
                .collect();
            let output = (0..hidden).map(|j| gates[3 * hidden + j] * cell[j].tanh()).collect();
            run.push(State { seen, gates, cell, hidden: output });
        }
        run
    }

    fn backward(&self, window: usize, run: &[State], found: &mut [Vec<f64>; 4]) {
        let Size { steps, batch, inputs, hidden, .. } = self.size;
        let (mut by_hidden, mut by_cell) = (vec![0.0; hidden], vec![0.0; hidden]);
        for step in (0..steps).rev() {
            let State { seen, gates, cell, .. } = &run[step];
            let mut deltas = vec![0.0; 4 * hidden];
            for j in 0..hidden {
                let [i, f, g, o] = [0, 1, 2, 3].map(|gate| gates[gate * hidden + j]);
                let before = step.checked_sub(1).map_or(0.0, |earlier| run[earlier].cell[j]);
                let bent = cell[j].tanh();
                let by_h = by_hidden[j] + self.loss[(step * batch + window) * hidden + j];
                by_cell[j] += by_h * o * (1.0 - bent * bent);
                deltas[j] = by_cell[j] * g * i * (1.0 - i);
                deltas[hidden + j] = by_cell[j] * before * f * (1.0 - f);
                deltas[2 * hidden + j] = by_cell[j] * i * (1.0 - g * g);
                deltas[3 * hidden + j] = by_h * bent * o * (1.0 - o);
                by_cell[j] *= f;
            }
            let at = self.input_at(step, window);
            for (row, x) in seen.iter().enumerate() {
                let weights = row * 4 * hidden..(row + 1) * 4 * hidden;
                let by_seen: f64 =
                    self.weight[weights.clone()].iter().zip(&deltas).map(|(w, d)| w * d).sum();
                match row.checked_sub(inputs) {
                    None => found[1][at + row] += by_seen,
                    Some(row) => by_hidden[row] = by_seen,
                }
                for (sum, delta) in found[2][weights].iter_mut().zip(&deltas) {
                    *sum += x * delta;
                }
            }
            found[3].iter_mut().zip(&deltas).for_each(|(sum, delta)| *sum += delta);
        }
    }
}

/// What one step leaves behind.
#[derive(Clone, Debug, Default)]
struct State {
    /// The input, then the hidden state before.
    seen: Vec<f64>,
    /// Activated.
    gates: Vec<f64>,
    cell: Vec<f64>,
    hidden: Vec<f64>,
}

/// The norm of the difference over the norm of what it differs from.
pub fn relative_error(found: &[f32], exact: &[f64]) -> f64 {
    assert_eq!(found.len(), exact.len());
    let difference: f64 = found.iter().zip(exact).map(|(f, e)| (f64::from(*f) - e).powi(2)).sum();
    let norm: f64 = exact.iter().map(|e| e * e).sum();
    // A gradient by one step's hidden state can be nothing at all.
    if difference == 0.0 { 0.0 } else { (difference / norm).sqrt() }
}
