//! The correlation of the metrics' errors, and distances under it.

/// Deviations beyond this are cut before they say anything about correlation.
const CUT: f64 = 4.0;

/// Rows of the correlation matrix of standardised `rows`, drawn towards none by `shrinkage`, 0 to 1.
pub(super) fn correlation(rows: &[Vec<f64>], metrics: usize, shrinkage: f64) -> Vec<Vec<f64>> {
    let cut = |row: &Vec<f64>| row.iter().map(|d| d.clamp(-CUT, CUT)).collect();
    let rows: Vec<Vec<f64>> = rows.iter().map(cut).collect();
    let of = |a: usize, b: usize| match a == b {
        true => 1.0,
        false => (1.0 - shrinkage) * correlate(&rows, a, b),
    };
    (0..metrics).map(|a| (0..metrics).map(|b| of(a, b)).collect()).collect()
}

/// Correlation of two columns over the rows that have both.
fn correlate(rows: &[Vec<f64>], a: usize, b: usize) -> f64 {
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for row in rows {
        if row[a].is_finite() && row[b].is_finite() {
            ab += row[a] * row[b];
            aa += row[a] * row[a];
            bb += row[b] * row[b];
        }
    }
    if aa > 0.0 && bb > 0.0 { (ab / (aa * bb).sqrt()).clamp(-1.0, 1.0) } else { 0.0 }
}

/// Solves with the part of a correlation matrix that belongs to the metrics that are there; the
/// factor of the last such part is kept, because it rarely changes from step to step.
#[derive(Default)]
pub(super) struct Solver {
    there: Vec<usize>,
    /// Lower triangle of the Cholesky factor, by rows; empty where the part is not positive
    /// definite (pairwise correlations of gappy data need not be), and then counts as none.
    factor: Vec<Vec<f64>>,
}

impl Solver {
    /// What each metric adds to the squared Mahalanobis distance of `deviations`, those of the metrics
    /// `there`; they sum to it, and one that follows the others may take away.
    pub(super) fn products(
        &mut self,
        matrix: &[Vec<f64>],
        there: &[usize],
        deviations: &[f64],
    ) -> Vec<f64> {
        let solved = self.solve(matrix, there, deviations);
        deviations.iter().zip(solved).map(|(deviation, solved)| deviation * solved).collect()
    }

    fn solve(&mut self, matrix: &[Vec<f64>], there: &[usize], right: &[f64]) -> Vec<f64> {
        if self.there != there {
            self.there = there.to_vec();
            self.factor = cholesky(matrix, there).unwrap_or_default();
        }
        let mut x = right.to_vec();
        if self.factor.is_empty() {
            return x;
        }
        for i in 0..x.len() {
            for j in 0..i {
                x[i] -= self.factor[i][j] * x[j];
            }
            x[i] /= self.factor[i][i];
        }
        for i in (0..x.len()).rev() {
            for j in i + 1..x.len() {
                x[i] -= self.factor[j][i] * x[j];
            }
            x[i] /= self.factor[i][i];
        }
        x
    }
}

fn cholesky(matrix: &[Vec<f64>], there: &[usize]) -> Option<Vec<Vec<f64>>> {
    let n = there.len();
    let mut factor = vec![vec![0.0; n]; n];
    for i in 0..n {
        for j in 0..=i {
            let dot: f64 = (0..j).map(|k| factor[i][k] * factor[j][k]).sum();
            let rest = matrix[there[i]][there[j]] - dot;
            factor[i][j] =
                if i == j { (rest > 1e-6).then(|| rest.sqrt())? } else { rest / factor[j][j] };
        }
    }
    Some(factor)
}
