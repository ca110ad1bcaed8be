//! Cholesky for the few coefficients of a small regression.
//!
//! The matrices here have two to a dozen rows and are factored millions of times, so the factor
//! keeps its own storage and is filled anew instead of being allocated anew.

/// The lower factor `L` of a symmetric positive definite matrix `A = L L'`, row-major `[n, n]`.
#[derive(Clone, Debug)]
pub struct Cholesky {
    n: usize,
    lower: Vec<f64>,
}

impl Cholesky {
    /// Room for matrices of `n` rows; the factor of the identity until [`Cholesky::factor`] fills it.
    pub fn new(n: usize) -> Self {
        let mut lower = vec![0.0; n * n];
        for i in 0..n {
            lower[i * n + i] = 1.0;
        }
        Self { n, lower }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.n
    }

    /// True for a matrix without rows.
    pub fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// Factors the matrix whose lower triangle is packed by rows: `a00, a10, a11, a20, …`.
    /// Returns false, and leaves the factor unusable, when the matrix is not positive definite.
    #[must_use]
    pub fn factor(&mut self, packed: &[f64]) -> bool {
        let n = self.n;
        debug_assert_eq!(packed.len(), n * (n + 1) / 2);
        let mut place = 0;
        for i in 0..n {
            for j in 0..=i {
                let mut sum = packed[place];
                place += 1;
                for k in 0..j {
                    sum -= self.lower[i * n + k] * self.lower[j * n + k];
                }
                if i == j {
                    // Also refuses NaN.
                    if sum.is_nan() || sum <= packed[place - 1].abs() * 1e-14 || sum.is_infinite() {
                        return false;
                    }
                    self.lower[i * n + i] = sum.sqrt();
                } else {
                    self.lower[i * n + j] = sum / self.lower[j * n + j];
                }
            }
        }
        true
    }

    /// `b <- L^-1 b`.
    pub fn forward(&self, b: &mut [f64]) {
        let n = self.n;
        for i in 0..n {
            let row = &self.lower[i * n..i * n + i];
            let known: f64 = row.iter().zip(&b[..i]).map(|(l, x)| l * x).sum();
            b[i] = (b[i] - known) / self.lower[i * n + i];
        }
    }

    /// `b <- A^-1 b`.
    pub fn solve(&self, b: &mut [f64]) {
        self.forward(b);
        let n = self.n;
        for i in (0..n).rev() {
            let column = self.lower[i * n + i..].iter().step_by(n).skip(1);
            let known: f64 = column.zip(&b[i + 1..]).map(|(l, x)| l * x).sum();
            b[i] = (b[i] - known) / self.lower[i * n + i];
        }
    }

    /// `out <- out + L z`: noise of covariance `A` for standard normal `z`.
    pub fn add_product(&self, z: &[f64], out: &mut [f64]) {
        for (i, value) in out.iter_mut().enumerate() {
            let row = &self.lower[i * self.n..=i * self.n + i];
            *value += row.iter().zip(z).map(|(l, z)| l * z).sum::<f64>();
        }
    }

    /// `A^-1`, its lower triangle packed by rows.
    pub fn inverse_packed(&self, out: &mut [f64]) {
        let n = self.n;
        let mut column = vec![0.0; n];
        for j in 0..n {
            column.fill(0.0);
            column[j] = 1.0;
            self.solve(&mut column);
            for i in j..n {
                out[i * (i + 1) / 2 + j] = column[i];
            }
        }
    }

    /// `ln det A`.
    pub fn ln_determinant(&self) -> f64 {
        2.0 * (0..self.n).map(|i| self.lower[i * self.n + i].ln()).sum::<f64>()
    }
}

/// `x' M x` for a symmetric `M` given by its lower triangle packed by rows.
pub fn quadratic_form(packed: &[f64], x: &[f64]) -> f64 {
    let mut sum = 0.0;
    let mut place = 0;
    for (i, &xi) in x.iter().enumerate() {
        for &xj in &x[..i] {
            sum += 2.0 * packed[place] * xi * xj;
            place += 1;
        }
        sum += packed[place] * xi * xi;
        place += 1;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_solution_multiplied_back_gives_the_right_hand_side() {
        let packed = [4.0, 2.0, 5.0, -1.0, 0.5, 3.0];
        let full = [[4.0, 2.0, -1.0], [2.0, 5.0, 0.5], [-1.0, 0.5, 3.0]];
        let mut factor = Cholesky::new(3);
        assert!(factor.factor(&packed));
        let mut x = [1.0, -2.0, 3.0];
        factor.solve(&mut x);
        for (row, expected) in full.iter().zip([1.0, -2.0, 3.0]) {
            let back: f64 = row.iter().zip(&x).map(|(a, b)| a * b).sum();
            assert!((back - expected).abs() < 1e-14, "{back} is not {expected}");
        }
        // det by hand: 4 (15 - .25) - 2 (6 + .5) - 1 (1 + 5) = 40.
        assert!((factor.ln_determinant() - 40f64.ln()).abs() < 1e-14);
        let mut inverse = [0.0; 6];
        factor.inverse_packed(&mut inverse);
        let b = [1.0, -2.0, 3.0];
        let direct: f64 = x.iter().zip(&b).map(|(a, b)| a * b).sum();
        assert!((quadratic_form(&inverse, &b) - direct).abs() < 1e-14);
    }

    #[test]
    fn a_matrix_that_is_not_positive_definite_is_refused() {
        let mut factor = Cholesky::new(2);
        assert!(!factor.factor(&[1.0, 2.0, 1.0]));
        assert!(!factor.factor(&[1.0, 1.0, 1.0]));
        assert!(!factor.factor(&[f64::NAN, 0.0, 1.0]));
        assert!(!factor.factor(&[0.0, 0.0, 1.0]));
        assert!(factor.factor(&[1.0, 0.5, 1.0]));
    }
}
