//! The discrete Fourier transform of any length, by Bluestein's algorithm.

/// (real, imaginary).
pub type Complex = (f64, f64);

fn times(a: Complex, b: Complex) -> Complex {
    (a.0 * b.0 - a.1 * b.1, a.0 * b.1 + a.1 * b.0)
}

fn turn(angle: f64) -> Complex {
    (angle.cos(), angle.sin())
}

/// In place, for a power of two. `sign` is -1 forward, +1 backward (without the division by n).
fn radix_two(x: &mut [Complex], sign: f64) {
    let n = x.len();
    let bits = n.trailing_zeros();
    for i in 0..n {
        let j = if bits == 0 { 0 } else { i.reverse_bits() >> (usize::BITS - bits) };
        if i < j {
            x.swap(i, j);
        }
    }
    let mut width = 2;
    while width <= n {
        let step = turn(sign * std::f64::consts::TAU / width as f64);
        for block in x.chunks_exact_mut(width) {
            let (low, high) = block.split_at_mut(width / 2);
            let mut factor = (1.0, 0.0);
            for (a, b) in low.iter_mut().zip(high) {
                let turned = times(factor, *b);
                *b = (a.0 - turned.0, a.1 - turned.1);
                *a = (a.0 + turned.0, a.1 + turned.1);
                factor = times(factor, step);
            }
        }
        width *= 2;
    }
}

/// `sign` -1: sum over t of x_t exp(-2 pi i k t / n). `sign` +1: the inverse, divided by n.
pub fn transform(x: &[Complex], sign: f64) -> Vec<Complex> {
    let n = x.len();
    if n == 0 {
        return Vec::new();
    }
    let size = (2 * n - 1).next_power_of_two();
    // t² mod 2n keeps the angle small, and so exact.
    let chirp: Vec<Complex> = (0..n)
        .map(|t| turn(sign * std::f64::consts::PI * ((t * t) % (2 * n)) as f64 / n as f64))
        .collect();
    let mut a = vec![(0.0, 0.0); size];
    let mut b = vec![(0.0, 0.0); size];
    for t in 0..n {
        a[t] = times(x[t], chirp[t]);
        let back = (chirp[t].0, -chirp[t].1);
        b[t] = back;
        b[(size - t) % size] = back;
    }
    radix_two(&mut a, -1.0);
    radix_two(&mut b, -1.0);
    a.iter_mut().zip(&b).for_each(|(a, b)| *a = times(*a, *b));
    radix_two(&mut a, 1.0);
    let scale = 1.0 / size as f64 / if sign > 0.0 { n as f64 } else { 1.0 };
    (0..n)
        .map(|k| {
            let y = times(a[k], chirp[k]);
            (y.0 * scale, y.1 * scale)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::random::stream;
    use rand::RngExt;

    /// The definition, term by term.
    fn direct(x: &[Complex], sign: f64) -> Vec<Complex> {
        let n = x.len();
        (0..n)
            .map(|k| {
                let terms = x.iter().enumerate().map(|(t, x)| {
                    let angle = std::f64::consts::TAU * ((t * k) % n) as f64 / n as f64;
                    times(*x, turn(sign * angle))
                });
                terms.fold((0.0, 0.0), |sum, x| (sum.0 + x.0, sum.1 + x.1))
            })
            .collect()
    }

    fn random(n: usize) -> Vec<Complex> {
        let mut rng = stream(1, "fourier", n as u64);
        (0..n).map(|_| (rng.random::<f64>() - 0.5, rng.random::<f64>() - 0.5)).collect()
    }

    #[test]
    fn every_length_agrees_with_the_direct_sum() {
        for n in [1, 2, 3, 4, 5, 7, 8, 12, 17, 64, 97, 100, 128, 365] {
            let x = random(n);
            let (found, expected) = (transform(&x, -1.0), direct(&x, -1.0));
            for (a, b) in found.iter().zip(&expected) {
                let error = (a.0 - b.0).hypot(a.1 - b.1);
                assert!(error < 1e-12 * n as f64, "{n}: {a:?} is not {b:?}");
            }
        }
        assert!(transform(&[], -1.0).is_empty());
    }

    #[test]
    fn there_and_back_gives_the_series_even_when_it_is_long() {
        for n in [10, 1_000, 40_009] {
            let x = random(n);
            let back = transform(&transform(&x, -1.0), 1.0);
            let worst = x.iter().zip(&back).map(|(a, b)| (a.0 - b.0).hypot(a.1 - b.1));
            let worst = worst.fold(0.0, f64::max);
            assert!(worst < 1e-9, "{n}: {worst}");
        }
    }
}
