use super::Simd;

/// Eight lanes in an array, in safe Rust. Every access is checked, so that a kernel that passes its
/// tests with this implementation stays within its slices.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

const LANES: usize = 8;
type V = [f32; LANES];

#[inline(always)]
fn map(a: V, f: impl Fn(f32) -> f32) -> V {
    a.map(f)
}

#[inline(always)]
fn zip(a: V, b: V, f: impl Fn(f32, f32) -> f32) -> V {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Simd for Portable {
    type V = V;
    const LANES: usize = LANES;
    const REGISTERS: usize = 16;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        [x; LANES]
    }

    #[inline(always)]
    unsafe fn load_splat(self, from: &[f32], at: usize) -> V {
        [from[at]; LANES]
    }

    #[inline(always)]
    unsafe fn load(self, from: &[f32], at: usize) -> V {
        let from = &from[at..at + LANES];
        std::array::from_fn(|i| from[i])
    }

    #[inline(always)]
    unsafe fn load_pixels(self, from: &[u8], at: usize) -> V {
        let from = &from[at..at + LANES];
        std::array::from_fn(|i| f32::from(from[i]) / 255.0)
    }

    #[inline(always)]
    unsafe fn load_part(self, from: &[f32], at: usize, n: usize) -> V {
        let mut v = [0.0; LANES];
        v[..n].copy_from_slice(&from[at..at + n]);
        v
    }

    #[inline(always)]
    unsafe fn store(self, to: &mut [f32], at: usize, v: V) {
        to[at..at + LANES].copy_from_slice(&v);
    }

    #[inline(always)]
    unsafe fn store_part(self, to: &mut [f32], at: usize, n: usize, v: V) {
        to[at..at + n].copy_from_slice(&v[..n]);
    }

    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a / b)
    }

    /// Rounds twice: rounding once would need a library call per lane.
    #[inline(always)]
    fn mul_add(self, a: V, b: V, c: V) -> V {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }

    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        zip(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        zip(a, b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn sqrt(self, a: V) -> V {
        map(a, f32::sqrt)
    }

    /// Adds and subtracts 1.5·2²³, which is valid for |a| below 2²².
    #[inline(always)]
    fn round(self, a: V) -> V {
        const MAGIC: f32 = 12_582_912.0;
        map(a, |a| (a + MAGIC) - MAGIC)
    }

    #[inline(always)]
    fn times_pow2(self, a: V, n: V) -> V {
        zip(a, n, |a, n| {
            a * f32::from_bits(((n as i32 + 127) as u32) << 23)
        })
    }

    #[inline(always)]
    fn where_positive(self, a: V, yes: V, no: V) -> V {
        std::array::from_fn(|i| if a[i] > 0.0 { yes[i] } else { no[i] })
    }

    #[inline(always)]
    fn keep(self, v: V, n: usize) -> V {
        std::array::from_fn(|i| if i < n { v[i] } else { 0.0 })
    }

    #[inline(always)]
    fn sum(self, v: V) -> f32 {
        ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]))
    }
}
