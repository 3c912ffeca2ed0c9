//! Pseudo-random numbers, and the types of 16 bits.

use half::{bf16, f16};
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

/// The value of an f16 or bf16.
pub fn value(number: Number, bits: u16) -> f32 {
    match number {
        Number::BF16 => bf16::from_bits(bits).to_f32(),
        _ => f16::from_bits(bits).to_f32(),
    }
}

/// The nearest f16 or bf16, of two equally near ones the even.
pub fn nearest(number: Number, x: f32) -> u16 {
    match number {
        Number::BF16 => bf16::from_f32(x).to_bits(),
        _ => f16::from_f32(x).to_bits(),
    }
}
