// The features of each scalar parameter; the table is `features.rs` of `lopt-kernels`.
#pragma once
#include "elements.cuh"

namespace lopt {

// Indices among the features of elements.
constexpr u32 GRADIENT = 0, PARAMETER = 1, MOMENTUM = 2, SECOND_MOMENT = 5,
              PRECONDITIONED_MOMENTUM = 6, INVERSE_ROOT = 9, FACTORED_GRADIENT = 10,
              FACTORED_MOMENTUM = 13;
// Indices among the inputs of the MLP of those that are constant along a line, and of the
// factored momenta. The other features of elements have the same index there.
constexpr u32 ROW_INPUT = 13, COLUMN_INPUT = 16, ROW_ROOT_INPUT = 19, COLUMN_ROOT_INPUT = 22,
              FACTORED_MOMENTUM_INPUT = 25;

// The index among the inputs of the MLP of a feature of elements.
DEVICE u32 input_of(u32 feature) {
    return feature < FACTORED_MOMENTUM ? feature
                                       : feature - FACTORED_MOMENTUM + FACTORED_MOMENTUM_INPUT;
}

// The factors of g and m in the factored features, for each decay.
struct Factors {
    float g[3];
    float m[3];
};

// The factors of a tensor of rank < 2 with second moments d.
DEVICE void set_diagonal_factor(Factors &factors, u32 k, float d) {
    factors.g[k] = safe_rsqrt(d + MEAN_EPSILON);
    factors.m[k] = inverse_root(d);
}

// Writes the factors of g and m of a group of a tensor of rank ≥ 2.
template <u32 N, bool PACKED>
DEVICE void set_factors(const Tensor &tensor, const Tile &tile, u32 column, u32 count,
                        const u32 (&lines_of_y)[N], Group<N> (&factors)[3]) {
    const Side &no_x = tensor.sides[0], &no_y = tensor.sides[1];
    UNROLL for (u32 k = 0; k < 3; ++k) {
        const float *of_x = no_x.factors + (u64)k * no_x.lines + tile.no_x + column;
        const auto x = read<N, PACKED>(of_x, count);
        const auto y = read_lines<N>(no_y.factors + (u64)k * no_y.lines, lines_of_y);
        UNROLL for (u32 i = 0; i < N; ++i) factors[k][i] = x[i] * y[i];
    }
}

// Adds the squares of the element features to `sums`.
DEVICE void add_squares(float *sums, float g, float p, const float *m, float v,
                        const Factors &factors) {
    const float inverse = 1.0f / (v + SECOND_MOMENT_EPSILON);
    sums[GRADIENT] = mul_add(g, g, sums[GRADIENT]);
    sums[PARAMETER] = mul_add(p, p, sums[PARAMETER]);
    sums[SECOND_MOMENT] = mul_add(v, v, sums[SECOND_MOMENT]);
    sums[INVERSE_ROOT] += inverse;
    UNROLL for (u32 k = 0; k < 3; ++k) {
        const float m2 = m[k] * m[k];
        sums[MOMENTUM + k] += m2;
        float &preconditioned = sums[PRECONDITIONED_MOMENTUM + k];
        preconditioned = mul_add(m2, inverse, preconditioned);
        const float by_g = g * factors.g[k], by_m = m[k] * factors.m[k];
        sums[FACTORED_GRADIENT + k] = mul_add(by_g, by_g, sums[FACTORED_GRADIENT + k]);
        sums[FACTORED_MOMENTUM + k] = mul_add(by_m, by_m, sums[FACTORED_MOMENTUM + k]);
    }
}

} // namespace lopt
