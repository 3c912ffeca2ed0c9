// Activation functions and their derivatives, with the formulas of `lopt_kernels::mlp`.
#pragma once
#include "layout.cuh"
#include "math.cuh"

namespace lopt {

constexpr float LEAK = 0.01f;
// √(2/π), and the factor of x³.
constexpr float GELU_SCALE = 0.7978846f, GELU_CUBE = 0.044715f;

DEVICE float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

// tanh(√(2/π)·(x + 0.044715·x³))
DEVICE float gelu_tanh(float x) { return tanhf((x + x * x * (x * GELU_CUBE)) * GELU_SCALE); }

DEVICE float activated(u32 activation, float x) {
    switch (activation) {
    case RELU:
        return x < 0.0f ? 0.0f : x;
    case TANH:
        return tanhf(x);
    case SIGMOID:
        return sigmoid(x);
    case GELU:
        return x * 0.5f * (1.0f + gelu_tanh(x));
    case SILU:
        return x * sigmoid(x);
    case LEAKY_RELU:
        return x < 0.0f ? x * LEAK : x;
    case ELU:
        return x > 0.0f ? x : exponential(x) - 1.0f;
    case SOFTPLUS:
        return (x < 0.0f ? 0.0f : x) + log1pf(exponential(-fabsf(x)));
    default:
        return sinf(x);
    }
}

DEVICE float slope(u32 activation, float x) {
    switch (activation) {
    case RELU:
        // 1 at 0, as in candle.
        return x < 0.0f ? 0.0f : 1.0f;
    case TANH: {
        const float y = tanhf(x);
        return 1.0f - y * y;
    }
    case SIGMOID: {
        const float y = sigmoid(x);
        return y * (1.0f - y);
    }
    case GELU: {
        // (1 + t)/2 + x/2·(1 − t²)·√(2/π)·(1 + 3·0.044715·x²)
        const float y = gelu_tanh(x), inner = mul_add(x * x, 3.0f * GELU_CUBE, 1.0f);
        return mul_add(x * GELU_SCALE * (1.0f - y * y), inner, 1.0f + y) * 0.5f;
    }
    case SILU: {
        const float y = sigmoid(x);
        return y * mul_add(x, 1.0f - y, 1.0f);
    }
    case LEAKY_RELU:
        return x > 0.0f ? 1.0f : LEAK;
    case ELU:
        return x > 0.0f ? 1.0f : exponential(x);
    case SOFTPLUS:
        return sigmoid(x);
    default:
        return cosf(x);
    }
}

} // namespace lopt
