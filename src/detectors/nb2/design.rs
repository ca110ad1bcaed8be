//! The regressors: intercept, yearly harmonics, trend.
//!
//! They depend on time alone, so one matrix serves every series of a panel, and so do the products
//! of its columns: the information matrix of a fit is then a handful of dot products with the
//! weights, which the compiler turns into vector instructions.

/// Which terms a regression has besides its intercept.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Terms {
    /// Steps per season.
    pub period: f64,
    pub fourier_k: usize,
    pub trend: bool,
    /// The step, counted from the model's origin, at which the trend is zero.
    pub centre: f64,
}

impl Terms {
    pub fn n_columns(&self) -> usize {
        1 + 2 * self.fourier_k + usize::from(self.trend)
    }

    /// The regressors at step `t` from the model's origin: 1, (sin, cos) per harmonic, trend in periods.
    pub fn row(&self, t: f64, out: &mut [f64]) {
        out[0] = 1.0;
        let angle = std::f64::consts::TAU * (t / self.period).rem_euclid(1.0);
        for k in 0..self.fourier_k {
            let (sin, cos) = ((k + 1) as f64 * angle).sin_cos();
            out[1 + 2 * k] = sin;
            out[2 + 2 * k] = cos;
        }
        if self.trend {
            out[1 + 2 * self.fourier_k] = (t - self.centre) / self.period;
        }
    }
}

/// The regressors of all steps of a panel, with their pairwise products, computed once for all series.
#[derive(Clone, Debug)]
pub(super) struct Design {
    pub n_columns: usize,
    n_times: usize,
    /// `[column, time]`.
    columns: Vec<f64>,
    /// `[pair of columns, time]`, pairs in packed lower-triangle order.
    products: Vec<f64>,
}

impl Design {
    /// Of the steps from the model's origin on.
    pub fn new(terms: &Terms, n_times: usize) -> Self {
        Self::starting_at(terms, 0.0, n_times)
    }

    /// Of `n_times` steps from the step `first` of the model's time on.
    pub fn starting_at(terms: &Terms, first: f64, n_times: usize) -> Self {
        let n_columns = terms.n_columns();
        let mut columns = vec![0.0; n_columns * n_times];
        let mut row = vec![0.0; n_columns];
        for t in 0..n_times {
            terms.row(first + t as f64, &mut row);
            for (j, &value) in row.iter().enumerate() {
                columns[j * n_times + t] = value;
            }
        }
        Self::of_columns(n_columns, n_times, columns)
    }

    /// This design with more columns, `[column][time]`, behind its own.
    pub fn with_columns(&self, more: &[Vec<f64>]) -> Self {
        let mut columns = self.columns.clone();
        for column in more {
            debug_assert_eq!(column.len(), self.n_times);
            columns.extend_from_slice(column);
        }
        Self::of_columns(self.n_columns + more.len(), self.n_times, columns)
    }

    fn of_columns(n_columns: usize, n_times: usize, columns: Vec<f64>) -> Self {
        let mut products = Vec::with_capacity(n_columns * (n_columns + 1) / 2 * n_times);
        for i in 0..n_columns {
            for j in 0..=i {
                products.extend(
                    (0..n_times).map(|t| columns[i * n_times + t] * columns[j * n_times + t]),
                );
            }
        }
        Self { n_columns, n_times, columns, products }
    }

    /// Rows of zeros, for [`set_row`](Self::set_row).
    pub fn empty(n_columns: usize, n_times: usize) -> Self {
        Self::of_columns(n_columns, n_times, vec![0.0; n_columns * n_times])
    }

    /// Gives step `t` the regressors `row`.
    pub fn set_row(&mut self, t: usize, row: &[f64]) {
        let n = self.n_times;
        let mut pair = 0;
        for i in 0..self.n_columns {
            self.columns[i * n + t] = row[i];
            for j in 0..=i {
                self.products[pair * n + t] = row[i] * row[j];
                pair += 1;
            }
        }
    }

    pub fn n_times(&self) -> usize {
        self.n_times
    }

    /// Number of pairs of columns, a column with itself included.
    pub fn n_pairs(&self) -> usize {
        self.n_columns * (self.n_columns + 1) / 2
    }

    pub fn column(&self, j: usize) -> &[f64] {
        &self.columns[j * self.n_times..(j + 1) * self.n_times]
    }

    /// The product of a pair of columns, at every step.
    pub fn product(&self, pair: usize) -> &[f64] {
        &self.products[pair * self.n_times..(pair + 1) * self.n_times]
    }

    /// The regressors at step `t`.
    pub fn row(&self, t: usize, out: &mut [f64]) {
        for (j, value) in out.iter_mut().enumerate() {
            *value = self.columns[j * self.n_times + t];
        }
    }

    /// `X' diag(weights) X`, packed.
    pub fn gram(&self, weights: &[f64], out: &mut [f64]) {
        for (value, product) in out.iter_mut().zip(self.products.chunks_exact(self.n_times)) {
            *value = dot(product, weights);
        }
    }
}

/// A dot product in four lanes, which the compiler turns into vector instructions.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; 4];
    let (a_chunks, b_chunks) = (a.chunks_exact(4), b.chunks_exact(4));
    let rest: f64 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..4 {
            lanes[lane] += x[lane] * y[lane];
        }
    }
    (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]) + rest
}
