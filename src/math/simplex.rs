//! Minimising a function of a few variables without its gradient (Nelder and Mead, 1965).
//!
//! Likelihoods of mixtures with bounded support have kinks and forbidden corners where gradients
//! mislead; with two or three parameters a simplex is quick enough and asks for nothing but values.

/// A minimum that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Minimum<const N: usize> {
    pub point: [f64; N],
    pub value: f64,
}

/// Walks downhill from `start`, with first steps of `step` along each axis, until the values at
/// the corners differ by less than `tolerance` or `max_steps` are done.
///
/// A function value that is NaN counts as infinitely bad, so forbidden regions may return it.
pub fn minimise<const N: usize>(
    function: impl Fn(&[f64; N]) -> f64,
    start: [f64; N],
    step: f64,
    tolerance: f64,
    max_steps: usize,
) -> Minimum<N> {
    let value_at = |point: &[f64; N]| {
        let value = function(point);
        if value.is_nan() { f64::INFINITY } else { value }
    };
    let mut corners: Vec<Minimum<N>> = (0..=N)
        .map(|i| {
            let mut point = start;
            if i > 0 {
                point[i - 1] += step;
            }
            Minimum { point, value: value_at(&point) }
        })
        .collect();
    for _ in 0..max_steps {
        corners.sort_by(|a, b| a.value.total_cmp(&b.value));
        if corners[N].value - corners[0].value < tolerance {
            break;
        }
        let centre = centroid(&corners[..N]);
        let towards = |factor: f64| {
            let worst = &corners[N].point;
            let point = std::array::from_fn(|k| centre[k] + factor * (worst[k] - centre[k]));
            Minimum { point, value: value_at(&point) }
        };
        let reflected = towards(-1.0);
        let replacement = if reflected.value < corners[0].value {
            let expanded = towards(-2.0);
            if expanded.value < reflected.value { expanded } else { reflected }
        } else if reflected.value < corners[N - 1].value {
            reflected
        } else {
            towards(if reflected.value < corners[N].value { -0.5 } else { 0.5 })
        };
        if replacement.value < corners[N].value {
            corners[N] = replacement;
        } else {
            shrink(&mut corners, &value_at);
        }
    }
    corners.sort_by(|a, b| a.value.total_cmp(&b.value));
    corners[0]
}

/// The mean of the corners.
fn centroid<const N: usize>(corners: &[Minimum<N>]) -> [f64; N] {
    std::array::from_fn(|k| corners.iter().map(|c| c.point[k]).sum::<f64>() / corners.len() as f64)
}

/// Pulls every corner half-way to the best one.
fn shrink<const N: usize>(corners: &mut [Minimum<N>], value_at: &impl Fn(&[f64; N]) -> f64) {
    let best = corners[0].point;
    for corner in &mut corners[1..] {
        for (x, b) in corner.point.iter_mut().zip(&best) {
            *x = b + 0.5 * (*x - b);
        }
        corner.value = value_at(&corner.point);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minimum_of_a_bent_valley_is_found() {
        let valley = |p: &[f64; 2]| (1.0 - p[0]).powi(2) + 100.0 * (p[1] - p[0] * p[0]).powi(2);
        let found = minimise(valley, [-1.2, 1.0], 0.5, 1e-14, 1_000);
        assert!((found.point[0] - 1.0).abs() < 1e-5 && (found.point[1] - 1.0).abs() < 1e-5);
    }

    #[test]
    fn a_forbidden_region_is_avoided() {
        let wall = |p: &[f64; 1]| if p[0] < 1.0 { f64::NAN } else { p[0] };
        let found = minimise(wall, [3.0], 0.5, 1e-12, 500);
        assert!((found.point[0] - 1.0).abs() < 1e-6, "{found:?}");
    }
}
