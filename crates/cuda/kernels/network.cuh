// The MLP inputs → H → H → 3 on the features of each element.
#pragma once
#include "features.cuh"

namespace lopt {

// The layers for one tensor and one step, in the order in which threads read them.
template <u32 H> struct Layers {
    // The weights of the element features, with their normalizers, by hidden unit.
    alignas(16) float first[H][ELEMENT];
    // For rank < 2 the weights of the moments and their inverse roots, with their normalizers.
    float moments[H][6];
    float first_bias[H];
    // By output.
    alignas(16) float second[H][H];
    float second_bias[H];
    // For d, m_b and m_g; the fourth is unused.
    alignas(16) float last[H][HEADS + 1];
    float last_bias[HEADS];
};

template <u32 H>
DEVICE void set_layers(const Plan &plan, const Outcome &outcome, Layers<H> &layers) {
    const Theta<H> &theta = theta_of<H>(plan);
    EACH_THREAD(t, THREADS) {
        for (u32 at = t; at < H * ELEMENT; at += THREADS) {
            const u32 j = at % H, k = at / H;
            layers.first[j][k] = theta.w0[input_of(k)][j] * outcome.normalizers[k];
        }
        for (u32 at = t; at < H * 6; at += THREADS) {
            const u32 j = at % H, k = at / H;
            const u32 row = k < 3 ? ROW_INPUT + k : ROW_ROOT_INPUT + k - 3;
            const u32 column = k < 3 ? COLUMN_INPUT + k : COLUMN_ROOT_INPUT + k - 3;
            const float weight = theta.w0[row][j] + theta.w0[column][j];
            layers.moments[j][k] = weight * outcome.normalizers[ELEMENT + k];
        }
        for (u32 at = t; at < H * H; at += THREADS)
            layers.second[at % H][at / H] = theta.w1[at / H][at % H];
        for (u32 j = t; j < H; j += THREADS) {
            layers.first_bias[j] = plan.control->bias[j];
            layers.second_bias[j] = theta.b1[j];
            for (u32 k = 0; k < HEADS; ++k)
                layers.last[j][k] = theta.w2[j][k];
        }
        if (t < HEADS)
            layers.last_bias[t] = theta.b2[t];
    }
    BARRIER;
}

// The inputs of N elements of a row.
template <u32 N> struct Inputs {
    Group<N> p;
    Group<N> g;
    Group<N> m[3];
    Group<N> v;
    // (v + 1e-6)^{-1/2}
    Group<N> r;
    // The factors of g in the factored features, for rank ≥ 2 also those of m.
    Group<N> factor[3];
};

// For rank ≥ 2: the contributions of the elements' lines.
template <u32 N, bool PACKED> struct OfLines {
    const Side &no_x;
    const Side &no_y;
    u32 line_of_x;
    u32 count;
    u32 lines_of_y[N];

    DEVICE_MEMBER float factor_of_m(u32, u32, float factor) const { return factor; }

    // Adds them to hidden unit j.
    template <u32 H>
    DEVICE_MEMBER void add(const Layers<H> &, u32 j, float (&hidden)[N]) const {
        const auto x = read<N, PACKED>(no_x.folds + (u64)j * no_x.lines + line_of_x, count);
        const auto y = read_lines<N>(no_y.folds + (u64)j * no_y.lines, lines_of_y);
        UNROLL for (u32 i = 0; i < N; ++i) hidden[i] = (hidden[i] + y[i]) + x[i];
    }
};

// For rank < 2: those of the elements' own moments d.
template <u32 N> struct OfMoments {
    Group<N> d[3];
    Group<N> root[3];

    DEVICE_MEMBER float factor_of_m(u32 k, u32 i, float) const { return inverse_root(d[k][i]); }

    template <u32 H>
    DEVICE_MEMBER void add(const Layers<H> &layers, u32 j, float (&hidden)[N]) const {
        UNROLL for (u32 i = 0; i < N; ++i) {
            UNROLL for (u32 k = 0; k < 3; ++k) {
                hidden[i] = mul_add(d[k][i], layers.moments[j][k], hidden[i]);
                hidden[i] = mul_add(root[k][i], layers.moments[j][3 + k], hidden[i]);
            }
        }
    }
};

// Writes the heads of N elements.
template <u32 H, u32 N, class Line>
DEVICE void forward(const Layers<H> &layers, const Inputs<N> &inputs, const Line &line,
                    float (&heads)[HEADS][N]) {
    float hidden[H][N], factor_of_m[3][N];
    UNROLL for (u32 k = 0; k < 3; ++k) {
        UNROLL for (u32 i = 0; i < N; ++i) {
            factor_of_m[k][i] = line.factor_of_m(k, i, inputs.factor[k][i]);
        }
    }
    UNROLL for (u32 j = 0; j < H; ++j) {
        UNROLL for (u32 i = 0; i < N; ++i) hidden[j][i] = layers.first_bias[j];
        line.add(layers, j, hidden[j]);
        float weights[ELEMENT];
        UNROLL for (u32 k = 0; k < ELEMENT; ++k) weights[k] = layers.first[j][k];
        UNROLL for (u32 i = 0; i < N; ++i) {
            // Weights of features with a common factor are summed first.
            float of_g = weights[GRADIENT];
            float sum = mul_add(inputs.p[i], weights[PARAMETER], hidden[j][i]);
            sum = mul_add(inputs.v[i], weights[SECOND_MOMENT], sum);
            sum = mul_add(inputs.r[i], weights[INVERSE_ROOT], sum);
            UNROLL for (u32 k = 0; k < 3; ++k) {
                of_g = mul_add(inputs.factor[k][i], weights[FACTORED_GRADIENT + k], of_g);
                float of_m = mul_add(inputs.r[i], weights[PRECONDITIONED_MOMENTUM + k],
                                     weights[MOMENTUM + k]);
                of_m = mul_add(factor_of_m[k][i], weights[FACTORED_MOMENTUM + k], of_m);
                sum = mul_add(inputs.m[k][i], of_m, sum);
            }
            hidden[j][i] = relu(mul_add(inputs.g[i], of_g, sum));
        }
    }
    UNROLL for (u32 k = 0; k < HEADS; ++k) {
        UNROLL for (u32 i = 0; i < N; ++i) heads[k][i] = layers.last_bias[k];
    }
    ROLLED for (u32 j = 0; j < H; ++j) {
        float y[N];
        UNROLL for (u32 i = 0; i < N; ++i) y[i] = layers.second_bias[j];
        UNROLL for (u32 h = 0; h < H; ++h) {
            UNROLL for (u32 i = 0; i < N; ++i) {
                y[i] = mul_add(hidden[h][i], layers.second[j][h], y[i]);
            }
        }
        UNROLL for (u32 k = 0; k < HEADS; ++k) {
            UNROLL for (u32 i = 0; i < N; ++i) {
                heads[k][i] = mul_add(relu(y[i]), layers.last[j][k], heads[k][i]);
            }
        }
    }
}

// The number of elements that a thread evaluates together: wider MLPs need more registers.
template <u32 H> constexpr u32 TOGETHER = H == 4 ? 4 : 2;

// Calls `use(from, count, inputs, heads)` for a group of elements; `from` is the index of the first.
template <u32 H, u32 N, bool PACKED, class Use>
DEVICE void evaluate(const Plan &plan, const Tensor &tensor, const Pointers &at,
                     const Layers<H> &layers, const Tile &tile, u32 row, u32 column, u32 count,
                     Use use) {
    const u64 n = tensor.elements, from = tile.at + (u64)row * tensor.columns + column;
    Inputs<N> inputs;
    inputs.g = read_gradients<N, PACKED>(plan, tensor, at, from, count);
    inputs.p = read_parameters<N, PACKED>(tensor, at, from, count);
    inputs.v = read<N, PACKED>(tensor.rms + from, count);
    UNROLL for (u32 i = 0; i < N; ++i) inputs.r[i] = inverse_root(inputs.v[i]);
    UNROLL for (u32 k = 0; k < 3; ++k) {
        inputs.m[k] = read<N, PACKED>(tensor.momentum + k * n + from, count);
    }
    READ_AGAIN;
    float heads[HEADS][N];
    if (tensor.is_diagonal) {
        OfMoments<N> line;
        UNROLL for (u32 k = 0; k < 3; ++k) {
            line.d[k] = read<N, PACKED>(tensor.diagonal + k * n + from, count);
            UNROLL for (u32 i = 0; i < N; ++i) {
                line.root[k][i] = inverse_root_of_line(line.d[k][i]);
                inputs.factor[k][i] = safe_rsqrt(line.d[k][i] + MEAN_EPSILON);
            }
        }
        forward(layers, inputs, line, heads);
    } else {
        OfLines<N, PACKED> line{
            tensor.sides[0], tensor.sides[1], tile.no_x + column, count, {}};
        set_lines_of_y(tensor, tile, row, column, count, line.lines_of_y);
        set_factors<N, PACKED>(tensor, tile, column, count, line.lines_of_y, inputs.factor);
        forward(layers, inputs, line, heads);
    }
    use(from, count, inputs, heads);
}

} // namespace lopt
