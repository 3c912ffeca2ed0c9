// Elementary functions, with the constants of `lopt-kernels`. Products and sums are fused exactly
// where `mul_add` says so; compile without contraction, so that a GPU and a CPU give the same bits.
#pragma once
#include "device.cuh"

namespace lopt {

// The constants that keep denominators above zero; see `features.rs` of `lopt-kernels`.
constexpr float SECOND_MOMENT_EPSILON = 1e-6f;
constexpr float SQUARE_EPSILON = 1e-30f;
constexpr float LINE_EPSILON = 1e-8f;
constexpr float MEAN_EPSILON = 1e-9f;
constexpr float FLOOR = 1e-9f;
constexpr float NORMALIZER_EPSILON = 1e-5f;

// a·b + c, rounded once.
DEVICE float mul_add(float a, float b, float c) { return fmaf(a, b, c); }

// 1/√x
DEVICE float rsqrt_exact(float x) { return 1.0f / sqrtf(x); }

// 1/√max(x, 1e-9)
DEVICE float safe_rsqrt(float x) { return rsqrt_exact(x > FLOOR ? x : FLOOR); }

// (v + 1e-6)^{-1/2}, the preconditioner.
DEVICE float inverse_root(float v) { return rsqrt_exact(v + SECOND_MOMENT_EPSILON); }

// (moment + 1e-8)^{-1/2}
DEVICE float inverse_root_of_line(float moment) { return rsqrt_exact(moment + LINE_EPSILON); }

// 1/√(1e-5 + mean square)
DEVICE float normalizer(double sum_of_squares, u32 n) {
    return 1.0f / sqrtf((float)(sum_of_squares / (double)n) + NORMALIZER_EPSILON);
}

// b·old + (1 − b)·fresh
DEVICE float mean(float decay, float old, float fresh) {
    return mul_add(decay, old, (1.0f - decay) * fresh);
}

// max(x, 0), and 0 for NaN.
DEVICE float relu(float x) { return x > 0.0f ? x : 0.0f; }

// e^x for x clamped to [−87, 88]; NaN stays NaN.
//
// x = n·ln 2 + r with |r| ≤ ln 2 / 2, and e^r by its Taylor polynomial of degree 7.
DEVICE float exponential(float x) {
    // ln 2 in two parts; products of the first with small integers are exact.
    constexpr float LN2_HIGH = 0.6933594f, LN2_LOW = -2.1219444e-4f, LOG2_E = 1.44269504f;
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    const float n = rintf(x * LOG2_E);
    float r = mul_add(n, -LN2_HIGH, x);
    r = mul_add(n, -LN2_LOW, r);
    float y = 1.0f / 5040.0f;
    y = mul_add(y, r, 1.0f / 720.0f);
    y = mul_add(y, r, 1.0f / 120.0f);
    y = mul_add(y, r, 1.0f / 24.0f);
    y = mul_add(y, r, 1.0f / 6.0f);
    y = mul_add(y, r, 0.5f);
    y = mul_add(y, r, 1.0f);
    y = mul_add(y, r, 1.0f);
    // n is not an integer only if it is NaN; y is then NaN too.
    const int exponent = n == n ? (int)n : 0;
    return y * of_bits((u32)(exponent + 127) << 23);
}

// The value of an f16.
DEVICE float of_f16(u16 half) {
    const u32 magnitude = half & 0x7fffu;
    // An exponent of 5 bits at the place of one of 8 bits is too small by 112.
    float x = of_bits(magnitude << 13) * of_bits((112u + 127u) << 23);
    if (magnitude >= 0x7c00u)
        x = of_bits(0x7f800000u | (magnitude << 13));
    return of_bits(bits_of(x) | ((u32)(half & 0x8000u) << 16));
}

// The nearest f16, of two equally near ones the even.
DEVICE u16 to_f16(float value) {
    const u32 bits = bits_of(value), sign = (bits >> 16) & 0x8000u;
    const u32 magnitude = bits & 0x7fffffffu;
    u32 half;
    if (magnitude > 0x7f800000u) {
        half = 0x7e00u;
    } else if (magnitude >= 0x47800000u) {
        half = 0x7c00u;
    } else if (magnitude < 0x38800000u) {
        // A subnormal f16 is a multiple of 2⁻²⁴, the spacing of f32 from 0.5 on.
        half = bits_of(of_bits(magnitude) + 0.5f) - 0x3f000000u;
    } else {
        const u32 odd = (magnitude >> 13) & 1u;
        half = (magnitude - (112u << 23) + 0xfffu + odd) >> 13;
    }
    return (u16)(half | sign);
}

// The value of a bf16.
DEVICE float of_bf16(u16 half) { return of_bits((u32)half << 16); }

// The nearest bf16, of two equally near ones the even.
DEVICE u16 to_bf16(float value) {
    const u32 bits = bits_of(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (u16)((bits >> 16) | 0x40u);
    return (u16)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

} // namespace lopt
