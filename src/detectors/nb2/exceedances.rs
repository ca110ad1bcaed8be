//! The part of the likelihood that depends on counts and dispersion alone.
//!
//! `ln gamma(y + 1/alpha) - ln gamma(1/alpha) + y ln alpha` is the sum of `ln(1 + alpha j)` over all
//! `j < y`. Summed over the points of a series, each `j` comes as often as there are counts above
//! it. With these *exceedances* the derivatives by `alpha` need no digammas, cost one pass over the
//! largest count instead of one over the points, and know no special case at `alpha = 0`.

/// Exceedances are kept up to this count; what lies beyond is summed in closed form.
const TABLE_LEN: usize = 256;

/// The weight of the points that have a count above `j`, for `j` from 0, and the large counts one by
/// one.
#[derive(Clone, Debug, Default)]
pub(super) struct Exceedances {
    table: Vec<f64>,
    /// (count, weight)
    large: Vec<(f64, f64)>,
}

impl Exceedances {
    /// Of the counts whose weight is not 0.
    pub fn fill(&mut self, counts: &[f64], weights: &[f64]) {
        self.table.clear();
        self.large.clear();
        for (&y, &weight) in counts.iter().zip(weights).filter(|(_, w)| **w > 0.0) {
            let within = (y as usize).min(TABLE_LEN);
            if self.table.len() <= within {
                self.table.resize(within + 1, 0.0);
            }
            self.table[within] += weight;
            if y > TABLE_LEN as f64 {
                self.large.push((y, weight));
            }
        }
        // From the weight of the points with a capped count of j to those above j.
        let mut above = 0.0;
        for value in self.table.iter_mut().rev() {
            let at = *value;
            *value = above;
            above += at;
        }
        self.table.pop();
    }

    /// First and second derivative by `alpha` of the sum of `ln(1 + alpha j)` over all points and
    /// all `j` below their counts.
    pub fn derivatives(&self, alpha: f64) -> (f64, f64) {
        let (mut first, mut second) = (0.0, 0.0);
        for (j, &n) in self.table.iter().enumerate() {
            let j = j as f64;
            let ratio = j / (1.0 + alpha * j);
            first += n * ratio;
            second -= n * ratio * ratio;
        }
        for &(y, weight) in &self.large {
            let (f, s) = sum_beyond_table(alpha, y);
            first += weight * f;
            second += weight * s;
        }
        (first, second)
    }
}

/// Sums of `j / (1 + alpha j)` and of minus its square, over `j` from the table's end to `y - 1`,
/// by the midpoint rule with its first correction: exact to 1e-10 that far out.
fn sum_beyond_table(alpha: f64, y: f64) -> (f64, f64) {
    let (a, b) = (TABLE_LEN as f64 - 0.5, y - 0.5);
    let first = |x: f64| {
        let z = alpha * x;
        x * x * one_minus_log_ratio(z)
    };
    let second = |x: f64| {
        let z = alpha * x;
        x * x * x * squared_ratio_integral(z)
    };
    let slope = |x: f64| 1.0 / (1.0 + alpha * x).powi(2);
    let slope_of_square = |x: f64| 2.0 * x / (1.0 + alpha * x).powi(3);
    (
        first(b) - first(a) - (slope(b) - slope(a)) / 24.0,
        -(second(b) - second(a) - (slope_of_square(b) - slope_of_square(a)) / 24.0),
    )
}

/// `(z - ln(1 + z)) / z^2`.
fn one_minus_log_ratio(z: f64) -> f64 {
    if z < 1e-5 {
        return 0.5 - z / 3.0;
    }
    -crate::math::special::log1p_minus_x(z) / (z * z)
}

/// `integral of u^2 / (1 + u)^2 from 0 to z, over z^3` = `(z - 2 ln(1 + z) + z / (1 + z)) / z^3`.
fn squared_ratio_integral(z: f64) -> f64 {
    if z < 1e-2 {
        return 1.0 / 3.0 - z * (0.5 - z * (0.6 - z * (2.0 / 3.0 - z * (5.0 / 7.0))));
    }
    (z - 2.0 * z.ln_1p() + z / (1.0 + z)) / (z * z * z)
}

/// `(ln(1 + z) - z / (1 + z)) / z^2` and its derivative; `ln_1p` is `ln(1 + z)`.
pub(super) fn curvature(z: f64, ln_1p: f64) -> (f64, f64) {
    if z < 2e-2 {
        // sum of (-z)^k (k + 1) / (k + 2)
        let value = 0.5
            - z * (2.0 / 3.0
                - z * (0.75 - z * (0.8 - z * (5.0 / 6.0 - z * (6.0 / 7.0 - z * (7.0 / 8.0))))));
        let slope = -2.0 / 3.0
            + z * (1.5 - z * (2.4 - z * (10.0 / 3.0 - z * (30.0 / 7.0 - z * (21.0 / 4.0)))));
        return (value, slope);
    }
    let inverse = 1.0 / (1.0 + z);
    let value = (ln_1p - z * inverse) / (z * z);
    (value, (inverse * inverse - 2.0 * value) / z)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Beyond the table the midpoint rule with one correction leaves a few 1e-11.
    #[test]
    fn derivatives_are_the_plain_sums_within_and_beyond_the_table() {
        let counts = [0.0, 1.0, 7.0, 256.0, 257.0, 900.0, 20_000.0, 5.0];
        let used = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0];
        let mut exceedances = Exceedances::default();
        exceedances.fill(&counts, &used);
        for alpha in [0.0, 1e-9, 1e-3, 0.1, 2.0, 50.0] {
            let (mut first, mut second) = (0.0, 0.0);
            for (&y, _) in counts.iter().zip(used).filter(|(_, used)| *used > 0.0) {
                for j in 0..y as u32 {
                    let ratio = f64::from(j) / (1.0 + alpha * f64::from(j));
                    first += ratio;
                    second -= ratio * ratio;
                }
            }
            let found = exceedances.derivatives(alpha);
            assert!((found.0 / first - 1.0).abs() < 1e-10, "{alpha}: {} {first}", found.0);
            assert!((found.1 / second - 1.0).abs() < 1e-10, "{alpha}: {} {second}", found.1);
        }
    }

    #[test]
    fn the_series_of_the_curvature_meets_its_closed_form() {
        for z in [0.0199f64, 0.0201] {
            let exact = (z.ln_1p() - z / (1.0 + z)) / (z * z);
            let slope = ((1.0 + z).powi(-2) - 2.0 * exact) / z;
            let (value, derivative) = curvature(z, z.ln_1p());
            assert!((value / exact - 1.0).abs() < 1e-11, "{z}: {value} {exact}");
            assert!((derivative / slope - 1.0).abs() < 1e-8, "{z}: {derivative} {slope}");
        }
        assert_eq!(curvature(0.0, 0.0), (0.5, -2.0 / 3.0));
    }
}
