//! Sixteen numbers side by side, on whatever the processor has.

/// Numbers per vector, units per block, columns per panel.
pub(super) const LANES: usize = 16;

/// Sixteen `f32` and the arithmetic of an LSTM: one AVX-512 register, two AVX registers, or an
/// array that the compiler places as it can.
///
/// # Safety of every method
/// An implementation may use instructions that not every processor has. Its methods may be called
/// only where the caller has made sure of them; all are inlined into such a caller.
pub(super) trait Vector: Copy {
    unsafe fn load(values: &[f32; LANES]) -> Self;
    unsafe fn store(self, values: &mut [f32; LANES]);
    unsafe fn splat(value: f32) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    /// `self * factor + term`, in one rounding where the processor can.
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self;
    /// `term - self * factor`, likewise.
    unsafe fn neg_mul_add(self, factor: Self, term: Self) -> Self;
    /// Cut to between `low` and `high`; NaN stays NaN: a diverged training must show.
    unsafe fn clamp(self, low: f32, high: f32) -> Self;
    /// To the nearest integer, for values of less than 4 million.
    unsafe fn round(self) -> Self;
    /// `self * 2^power`, for integral powers whose result is a normal number.
    unsafe fn scale(self, power: Self) -> Self;
    /// 1 / self, within a unit in the last place.
    unsafe fn reciprocal(self) -> Self;
    /// Zero where the magnitude is below `least`.
    unsafe fn zero_below(self, least: f32) -> Self;
}

/// On any processor.
#[derive(Clone, Copy)]
pub(super) struct Portable([f32; LANES]);

impl Portable {
    #[inline(always)]
    fn with(self, other: Self, each: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|lane| each(self.0[lane], other.0[lane])))
    }
    #[inline(always)]
    fn map(self, each: impl Fn(f32) -> f32) -> Self {
        Self(self.0.map(each))
    }
}

impl Vector for Portable {
    #[inline(always)]
    unsafe fn load(values: &[f32; LANES]) -> Self {
        Self(*values)
    }
    #[inline(always)]
    unsafe fn store(self, values: &mut [f32; LANES]) {
        *values = self.0;
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; LANES])
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.with(other, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.with(other, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.with(other, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        Self(std::array::from_fn(|l| {
            // Without the instruction `mul_add` would be a call into the C library.
            if cfg!(target_arch = "aarch64") {
                self.0[l].mul_add(factor.0[l], term.0[l])
            } else {
                self.0[l] * factor.0[l] + term.0[l]
            }
        }))
    }
    #[inline(always)]
    unsafe fn neg_mul_add(self, factor: Self, term: Self) -> Self {
        // SAFETY: needs nothing.
        unsafe { self.map(|value| -value).mul_add(factor, term) }
    }
    #[inline(always)]
    unsafe fn clamp(self, low: f32, high: f32) -> Self {
        self.map(|value| value.clamp(low, high))
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        /// Adding this to a number leaves no room for digits behind the point.
        const NO_DIGITS: f32 = 12_582_912.0;
        self.map(|value| (value + NO_DIGITS) - NO_DIGITS)
    }
    #[inline(always)]
    unsafe fn scale(self, power: Self) -> Self {
        // Adds to the exponent's bits.
        self.with(power, |value, power| {
            f32::from_bits(value.to_bits().wrapping_add((power as i32 as u32) << 23))
        })
    }
    #[inline(always)]
    unsafe fn reciprocal(self) -> Self {
        self.map(|value| 1.0 / value)
    }
    #[inline(always)]
    unsafe fn zero_below(self, least: f32) -> Self {
        self.map(|value| if value.abs() < least { 0.0 } else { value })
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{LANES, Vector};

    /// Needs AVX-512F.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx512(__m512);

    // SAFETY of every call below: sixteen values lie behind each reference, unaligned access is
    // allowed, and the trait makes the caller answer for the instructions.
    impl Vector for Avx512 {
        #[inline(always)]
        unsafe fn load(values: &[f32; LANES]) -> Self {
            Self(unsafe { _mm512_loadu_ps(values.as_ptr()) })
        }
        #[inline(always)]
        unsafe fn store(self, values: &mut [f32; LANES]) {
            unsafe { _mm512_storeu_ps(values.as_mut_ptr(), self.0) }
        }
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            Self(unsafe { _mm512_set1_ps(value) })
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            Self(unsafe { _mm512_add_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            Self(unsafe { _mm512_sub_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            Self(unsafe { _mm512_mul_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
            Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, term.0) })
        }
        #[inline(always)]
        unsafe fn neg_mul_add(self, factor: Self, term: Self) -> Self {
            Self(unsafe { _mm512_fnmadd_ps(self.0, factor.0, term.0) })
        }
        /// Both instructions give their second argument where one is NaN.
        #[inline(always)]
        unsafe fn clamp(self, low: f32, high: f32) -> Self {
            unsafe {
                let raised = _mm512_max_ps(_mm512_set1_ps(low), self.0);
                Self(_mm512_min_ps(_mm512_set1_ps(high), raised))
            }
        }
        #[inline(always)]
        unsafe fn round(self) -> Self {
            Self(unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT }>(self.0) })
        }
        #[inline(always)]
        unsafe fn scale(self, power: Self) -> Self {
            Self(unsafe { _mm512_scalef_ps(self.0, power.0) })
        }
        /// An approximation to 14 bits and one step of Newton's method: a division of sixteen
        /// values takes as long as eight of these.
        #[inline(always)]
        unsafe fn reciprocal(self) -> Self {
            unsafe {
                let near = _mm512_rcp14_ps(self.0);
                let error = _mm512_fnmadd_ps(self.0, near, _mm512_set1_ps(1.0));
                Self(_mm512_fmadd_ps(near, error, near))
            }
        }
        #[inline(always)]
        unsafe fn zero_below(self, least: f32) -> Self {
            unsafe {
                let magnitude = _mm512_abs_ps(self.0);
                // Not "at least": NaN stays NaN.
                let kept = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(magnitude, _mm512_set1_ps(least));
                Self(_mm512_maskz_mov_ps(kept, self.0))
            }
        }
    }

    /// Needs AVX2 and FMA.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx(__m256, __m256);

    impl Vector for Avx {
        #[inline(always)]
        unsafe fn load(values: &[f32; LANES]) -> Self {
            let half = values.as_ptr();
            unsafe { Self(_mm256_loadu_ps(half), _mm256_loadu_ps(half.add(8))) }
        }
        #[inline(always)]
        unsafe fn store(self, values: &mut [f32; LANES]) {
            let half = values.as_mut_ptr();
            unsafe {
                _mm256_storeu_ps(half, self.0);
                _mm256_storeu_ps(half.add(8), self.1);
            }
        }
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            unsafe { Self(_mm256_set1_ps(value), _mm256_set1_ps(value)) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe { Self(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            unsafe { Self(_mm256_sub_ps(self.0, other.0), _mm256_sub_ps(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            unsafe { Self(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
            unsafe {
                Self(
                    _mm256_fmadd_ps(self.0, factor.0, term.0),
                    _mm256_fmadd_ps(self.1, factor.1, term.1),
                )
            }
        }
        #[inline(always)]
        unsafe fn neg_mul_add(self, factor: Self, term: Self) -> Self {
            unsafe {
                Self(
                    _mm256_fnmadd_ps(self.0, factor.0, term.0),
                    _mm256_fnmadd_ps(self.1, factor.1, term.1),
                )
            }
        }
        #[inline(always)]
        unsafe fn clamp(self, low: f32, high: f32) -> Self {
            unsafe { Self(half::clamp(self.0, low, high), half::clamp(self.1, low, high)) }
        }
        #[inline(always)]
        unsafe fn round(self) -> Self {
            const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT;
            unsafe { Self(_mm256_round_ps::<NEAREST>(self.0), _mm256_round_ps::<NEAREST>(self.1)) }
        }
        #[inline(always)]
        unsafe fn scale(self, power: Self) -> Self {
            unsafe { Self(half::scale(self.0, power.0), half::scale(self.1, power.1)) }
        }
        #[inline(always)]
        unsafe fn reciprocal(self) -> Self {
            unsafe {
                let one = _mm256_set1_ps(1.0);
                Self(_mm256_div_ps(one, self.0), _mm256_div_ps(one, self.1))
            }
        }
        #[inline(always)]
        unsafe fn zero_below(self, least: f32) -> Self {
            unsafe { Self(half::zero_below(self.0, least), half::zero_below(self.1, least)) }
        }
    }

    /// What takes more than one instruction, for one of the two registers of [`Avx`].
    mod half {
        use std::arch::x86_64::*;

        /// Both instructions give their second argument where one is NaN.
        #[inline(always)]
        pub(super) unsafe fn clamp(value: __m256, low: f32, high: f32) -> __m256 {
            unsafe {
                let raised = _mm256_max_ps(_mm256_set1_ps(low), value);
                _mm256_min_ps(_mm256_set1_ps(high), raised)
            }
        }
        /// Adds to the exponent's bits.
        #[inline(always)]
        pub(super) unsafe fn scale(value: __m256, power: __m256) -> __m256 {
            unsafe {
                let power = _mm256_slli_epi32::<23>(_mm256_cvtps_epi32(power));
                _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(value), power))
            }
        }
        #[inline(always)]
        pub(super) unsafe fn zero_below(value: __m256, least: f32) -> __m256 {
            unsafe {
                let magnitude = _mm256_andnot_ps(_mm256_set1_ps(-0.0), value);
                // Not "at least": NaN stays NaN.
                let kept = _mm256_cmp_ps::<_CMP_NLT_UQ>(magnitude, _mm256_set1_ps(least));
                _mm256_and_ps(kept, value)
            }
        }
    }
}
