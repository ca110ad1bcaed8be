//! Eigenvalues of the small symmetric matrices that correlations come in.

use ndarray::Array2;

/// Sweeps over all pairs; Jacobi's method has converged long before for a dozen rows.
const SWEEPS: usize = 60;

/// Eigenvalues and eigenvectors (as columns) of a symmetric matrix, by Jacobi rotations
/// (Golub and Van Loan 2013, section 8.5), in no particular order.
pub fn symmetric(matrix: &Array2<f64>) -> (Vec<f64>, Array2<f64>) {
    let n = matrix.nrows();
    let mut a = matrix.clone();
    let mut vectors = Array2::eye(n);
    for _ in 0..SWEEPS {
        let mut off = 0.0;
        for p in 0..n {
            for q in p + 1..n {
                off += a[[p, q]] * a[[p, q]];
                rotate(&mut a, &mut vectors, p, q);
            }
        }
        if off < 1e-30 {
            break;
        }
    }
    ((0..n).map(|i| a[[i, i]]).collect(), vectors)
}

/// The rotation in the plane of `p` and `q` that makes `a[p, q]` zero.
fn rotate(a: &mut Array2<f64>, vectors: &mut Array2<f64>, p: usize, q: usize) {
    if a[[p, q]].abs() < 1e-300 {
        return;
    }
    let theta = (a[[q, q]] - a[[p, p]]) / (2.0 * a[[p, q]]);
    let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
    let c = 1.0 / t.hypot(1.0);
    let s = t * c;
    for k in 0..a.nrows() {
        let (kp, kq) = (a[[k, p]], a[[k, q]]);
        a[[k, p]] = c * kp - s * kq;
        a[[k, q]] = s * kp + c * kq;
    }
    for k in 0..a.nrows() {
        let (pk, qk) = (a[[p, k]], a[[q, k]]);
        a[[p, k]] = c * pk - s * qk;
        a[[q, k]] = s * pk + c * qk;
        let (vp, vq) = (vectors[[k, p]], vectors[[k, q]]);
        vectors[[k, p]] = c * vp - s * vq;
        vectors[[k, q]] = s * vp + c * vq;
    }
}

/// The inverse square root of a symmetric positive definite matrix.
pub fn inverse_root(matrix: &Array2<f64>) -> Array2<f64> {
    let (values, vectors) = symmetric(matrix);
    let n = matrix.nrows();
    Array2::from_shape_fn((n, n), |(i, j)| {
        (0..n).map(|k| vectors[[i, k]] * vectors[[j, k]] / values[k].max(1e-12).sqrt()).sum()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn the_inverse_root_undoes_the_matrix() {
        let matrix = array![[2.0, 0.6, -0.3], [0.6, 1.0, 0.2], [-0.3, 0.2, 0.7]];
        let root = inverse_root(&matrix);
        let unit = root.dot(&matrix).dot(&root);
        for ((i, j), x) in unit.indexed_iter() {
            assert!((x - f64::from(u8::from(i == j))).abs() < 1e-12, "{unit}");
        }
        let (mut values, _) = symmetric(&array![[2.0, 1.0], [1.0, 2.0]]);
        values.sort_by(f64::total_cmp);
        assert!((values[0] - 1.0).abs() < 1e-12 && (values[1] - 3.0).abs() < 1e-12);
    }
}
