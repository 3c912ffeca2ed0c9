//! Pseudo-random numbers, and the types of 16 bits.

use lopt_cuda::Number;

/// Numbers in \[−1, 1) from a linear congruential generator.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub fn vec(&mut self, n: usize, scale: f32) -> Vec<f32> {
        (0..n).map(|_| scale * self.next()).collect()
    }

    pub fn positive(&mut self, n: usize, scale: f32) -> Vec<f32> {
        (0..n).map(|_| scale * self.next().abs()).collect()
    }

    pub fn array<const N: usize>(&mut self, scale: f32) -> [f32; N] {
        std::array::from_fn(|_| scale * self.next())
    }
}

/// The value of a finite f16 or bf16.
pub fn value(number: Number, bits: u16) -> f32 {
    if number == Number::BF16 {
        return f32::from_bits(u32::from(bits) << 16);
    }
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    let magnitude = match exponent {
        0 => fraction * 2f64.powi(-24),
        _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
    };
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    (sign * magnitude) as f32
}

/// The nearest f16 or bf16, of two equally near ones the even, by search. The first that stands
/// for infinity counts as the next power of two.
pub fn nearest(number: Number, x: f32) -> u16 {
    let infinity = if number == Number::F16 {
        0x7C00
    } else {
        0x7F80
    };
    let magnitude = f64::from(x.abs());
    let of = |bits: u16| match bits {
        bits if bits < infinity => f64::from(value(number, bits)),
        _ => 2.0 * 2f64.powi(if number == Number::F16 { 15 } else { 127 }),
    };
    let (mut low, mut high) = (0, infinity);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if of(middle) <= magnitude {
            low = middle;
        } else {
            high = middle;
        }
    }
    let (below, above) = (magnitude - of(low), of(high) - magnitude);
    let up = above < below || (above == below && low % 2 == 1);
    let sign = if x.is_sign_negative() { 0x8000 } else { 0 };
    sign | if up { high } else { low }
}
