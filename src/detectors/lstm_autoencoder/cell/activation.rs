//! Logistic function and hyperbolic tangent that a compiler can vectorise.
//!
//! A call into the C library per gate would cost more than the matrix products of a small LSTM.
//! Both functions here are straight-line arithmetic on `f32`, so a loop over them becomes vector
//! instructions. The absolute error of both is below 2e-7 (tested against `f64`), which is less
//! than what a single-precision product of 64 terms loses.
//!
//! `NaN` comes out as `NaN`: a diverged training must show, not be clamped away.

use super::gemm::{LANES, Sums};

/// `a * b + c`, in one rounding where the processor has the instruction (`FMA`), else in two.
/// Without the instruction `mul_add` would be a call into the C library.
#[inline(always)]
pub(super) fn multiply_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// exp(x) as `scale * (1 + rest)`, for x in [-87, 0]; smaller arguments count as -87.
///
/// x = n ln 2 + r with |r| <= ln 2 / 2; (exp(r) - 1) / r by the polynomial that meets it in the
/// six Chebyshev points of that interval, within 2.5e-8 of the value (the Taylor series of as many
/// terms: 3.9e-7); 2^n by adding n to the exponent's bits.
#[inline(always)]
fn exp_negative<const FMA: bool>(x: f32) -> (f32, f32) {
    /// Adding this rounds to an integer and leaves the integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts: the first has few bits, so that n times it is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = multiply_add::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = multiply_add::<FMA>(n, -LN2_HIGH, x);
    let r = multiply_add::<FMA>(n, -LN2_LOW, r);
    let mut series = multiply_add::<FMA>(r, 0.001_393_368_6, 0.008_369_184);
    series = multiply_add::<FMA>(series, r, 0.041_666_463);
    series = multiply_add::<FMA>(series, r, 0.166_665_05);
    series = multiply_add::<FMA>(series, r, 0.5);
    series = multiply_add::<FMA>(series, r, 1.0);
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    (power, series * r)
}

/// 1 / (1 + exp(-x)) as a numerator and a denominator, from exp(-|x|), which cannot overflow.
///
/// Both functions come as fractions, because a division is what takes longest in them, and some
/// processors have something faster.
#[inline(always)]
pub(super) fn sigmoid<const FMA: bool>(x: f32) -> (f32, f32) {
    let (power, rest) = exp_negative::<FMA>(-x.abs());
    let e = multiply_add::<FMA>(power, rest, power);
    (if x < 0.0 { e } else { 1.0 }, 1.0 + e)
}

/// (1 - exp(-2x)) / (1 + exp(-2x)) as a numerator and a denominator; exp - 1 is never made from
/// exp, which would lose the digits of a small x.
#[inline(always)]
pub(super) fn tanh<const FMA: bool>(x: f32) -> (f32, f32) {
    let (power, rest) = exp_negative::<FMA>(-2.0 * x.abs());
    let less_one = multiply_add::<FMA>(power, rest, power - 1.0);
    ((-less_one).copysign(x), 2.0 + less_one)
}

/// A function of [`LANES`] values, from its fractions.
///
/// # Safety
/// The processor has what `S` needs.
#[inline(always)]
pub(super) unsafe fn each<S: Sums>(
    values: &[f32; LANES],
    fraction: impl Fn(f32) -> (f32, f32),
) -> [f32; LANES] {
    let (mut tops, mut bottoms) = ([0.0; LANES], [0.0; LANES]);
    for lane in 0..LANES {
        (tops[lane], bottoms[lane]) = fraction(values[lane]);
    }
    // SAFETY: the caller answers for the processor.
    let inverse = unsafe { S::reciprocals(&bottoms) };
    std::array::from_fn(|lane| tops[lane] * inverse[lane])
}

#[cfg(test)]
mod tests {
    use super::super::gemm::Portable;
    use super::*;

    fn value(fraction: (f32, f32)) -> f32 {
        fraction.0 / fraction.1
    }

    fn worst(approximate: impl Fn(f32) -> (f32, f32), exact: impl Fn(f64) -> f64) -> f64 {
        (-120_000..=120_000)
            .map(|i| i as f32 * 1e-3)
            .map(|x| (f64::from(value(approximate(x))) - exact(f64::from(x))).abs())
            .fold(0.0, f64::max)
    }

    #[test]
    fn both_functions_are_within_2e_7_of_double_precision() {
        let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
        assert!(worst(sigmoid::<true>, logistic) < 2e-7);
        assert!(worst(sigmoid::<false>, logistic) < 2e-7);
        assert!(worst(tanh::<true>, f64::tanh) < 2e-7);
        assert!(worst(tanh::<false>, f64::tanh) < 2e-7);
    }

    #[test]
    fn a_small_tanh_keeps_its_digits() {
        for i in 1..=100_000 {
            let x = i as f32 * 1e-5;
            let exact = f64::from(x).tanh();
            for found in [tanh::<true>(x), tanh::<false>(x)].map(value) {
                assert!((f64::from(found) / exact - 1.0).abs() < 3e-7, "{x}: {found}");
            }
        }
    }

    #[test]
    fn infinities_saturate_and_nan_stays_nan() {
        assert_eq!(value(tanh::<false>(f32::INFINITY)), 1.0);
        assert_eq!(value(tanh::<false>(f32::NEG_INFINITY)), -1.0);
        assert_eq!(value(sigmoid::<false>(f32::INFINITY)), 1.0);
        assert!(value(sigmoid::<false>(f32::NEG_INFINITY)) < 1e-30);
        for found in [tanh::<false>(f32::NAN), sigmoid::<false>(f32::NAN)] {
            assert!(value(found).is_nan());
        }
        for found in [tanh::<true>(f32::NAN), sigmoid::<true>(f32::NAN)] {
            assert!(value(found).is_nan());
        }
    }

    #[test]
    fn sixteen_values_at_once_are_each_its_own() {
        let values: [f32; LANES] = std::array::from_fn(|lane| lane as f32 - 7.5);
        // SAFETY: the portable sums need nothing.
        let found = unsafe { each::<Portable>(&values, tanh::<false>) };
        for (found, x) in found.into_iter().zip(values) {
            assert!((found - x.tanh()).abs() < 3e-7, "{found} for {x}");
        }
    }
}
