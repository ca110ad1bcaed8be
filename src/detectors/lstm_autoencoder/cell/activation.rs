//! Logistic function and hyperbolic tangent of vectors.
//!
//! A call into the C library per gate would cost more than the matrix products of a small LSTM.
//! Both functions are straight-line arithmetic; `N` vectors take each step side by side, because
//! one alone would wait for its own last result most of the time.

use super::vector::Vector;

/// 1 / (1 + exp(-x)), within 2e-7.
///
/// exp(-x) = 2^n 2^f with n integral and |f| <= 1/2; 2^f by the polynomial of degree 6 whose largest
/// relative error is least, 2e-8.
///
/// # Safety
/// The processor has what `V` needs.
#[inline(always)]
pub(super) unsafe fn sigmoid<V: Vector, const N: usize>(x: [V; N]) -> [V; N] {
    const POWERS: [f32; 7] = [
        1.0,
        std::f32::consts::LN_2,
        0.240_226_48,
        0.055_503_294,
        0.009_618_373,
        0.001_339_978_9,
        1.537_089e-4,
    ];
    /// exp(80) and its inverse are normal numbers with room to spare.
    const FAR: f32 = 80.0;
    // SAFETY: the caller answers for the processor.
    unsafe {
        let one = V::splat(1.0);
        let binary = V::splat(-std::f32::consts::LOG2_E);
        let (mut whole, mut rest) = (x, x);
        for i in 0..N {
            let t = x[i].clamp(-FAR, FAR).mul(binary);
            whole[i] = t.round();
            rest[i] = t.sub(whole[i]);
        }
        let mut found = polynomial(POWERS, rest);
        for i in 0..N {
            found[i] = found[i].scale(whole[i]).add(one).reciprocal();
        }
        found
    }
}

/// tanh(x), within 5e-7 of its value, however small that is: x times a quotient of polynomials in
/// x², whose largest relative error is least (4e-8) among those of these degrees that give x where
/// x is small. (Eigen's quotient, whose constants do not cancel there, is off by 2e-7 throughout.)
///
/// # Safety
/// The processor has what `V` needs.
#[inline(always)]
pub(super) unsafe fn tanh<V: Vector, const N: usize>(x: [V; N]) -> [V; N] {
    const TOP: [f32; 6] =
        [1.0, 0.129_527_26, 0.002_956_846_5, 9.599_406e-6, -1.379_081_6e-8, 2.089_601_8e-11];
    const BOTTOM: [f32; 4] = [1.0, 0.462_860_38, 0.023_910_66, 0.000_233_103_77];
    /// From here on tanh is 1 within the spacing of single precision.
    const FAR: f32 = 8.5;
    // SAFETY: the caller answers for the processor.
    unsafe {
        let (mut x, mut square) = (x, x);
        for i in 0..N {
            x[i] = x[i].clamp(-FAR, FAR);
            square[i] = x[i].mul(x[i]);
        }
        let (mut found, bottom) = (polynomial(TOP, square), polynomial(BOTTOM, square));
        for i in 0..N {
            found[i] = found[i].mul(x[i]).mul(bottom[i].reciprocal());
        }
        found
    }
}

/// # Safety
/// The processor has what `V` needs.
#[inline(always)]
unsafe fn polynomial<V: Vector, const N: usize, const TERMS: usize>(
    coefficients: [f32; TERMS],
    x: [V; N],
) -> [V; N] {
    // SAFETY: the caller answers for the processor.
    unsafe {
        let mut sum = [V::splat(coefficients[TERMS - 1]); N];
        for term in (0..TERMS - 1).rev() {
            let coefficient = V::splat(coefficients[term]);
            for i in 0..N {
                sum[i] = sum[i].mul_add(x[i], coefficient);
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::super::vector::{LANES, Portable};
    use super::*;

    type Function = unsafe fn([Portable; 1]) -> [Portable; 1];

    #[inline(never)]
    fn values(function: Function, x: [f32; LANES]) -> [f32; LANES] {
        let mut found = [0.0; LANES];
        // SAFETY: the portable vector needs nothing.
        unsafe { function([Portable::load(&x)])[0].store(&mut found) };
        found
    }

    fn worst(function: Function, exact: impl Fn(f64) -> f64, relative: bool, unit: f32) -> f64 {
        let mut worst = 0.0f64;
        for first in (-120_000..=120_000).step_by(LANES) {
            let x: [f32; LANES] = std::array::from_fn(|lane| (first + lane as i32) as f32 * unit);
            let found = values(function, x);
            for lane in 0..LANES {
                let error = (f64::from(found[lane]) - exact(f64::from(x[lane]))).abs();
                let scale = if relative { exact(f64::from(x[lane])).abs().max(1e-30) } else { 1.0 };
                worst = worst.max(error / scale);
            }
        }
        worst
    }

    #[test]
    fn both_functions_are_near_double_precision() {
        let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
        assert!(worst(sigmoid::<Portable, 1>, logistic, false, 1e-3) < 2e-7);
        assert!(worst(tanh::<Portable, 1>, f64::tanh, true, 1e-3) < 5e-7);
    }

    #[test]
    fn a_small_tanh_keeps_its_digits() {
        assert!(worst(tanh::<Portable, 1>, f64::tanh, true, 1e-7) < 5e-7);
    }

    #[test]
    fn infinities_saturate_and_nan_stays_nan() {
        let x = std::array::from_fn(|lane| match lane % 3 {
            0 => f32::INFINITY,
            1 => f32::NEG_INFINITY,
            _ => f32::NAN,
        });
        let [high, low, nan, ..] = values(sigmoid::<Portable, 1>, x);
        assert!(high == 1.0 && (0.0..1e-30).contains(&low) && nan.is_nan());
        let [high, low, nan, ..] = values(tanh::<Portable, 1>, x);
        assert!((high - 1.0).abs() < 3e-7 && low == -high && nan.is_nan());
    }
}
