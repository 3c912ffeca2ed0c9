// Third pass: updates momenta and second moments, and sums the squares of the element features.
#pragma once
#include "features.cuh"
#include "reduce.cuh"

namespace lopt {

// Updates the averages of a group, and adds to the sums.
template <bool PACKED>
DEVICE void accumulate_group(const Plan &plan, const Tensor &tensor, const Pointers &at,
                             const Tile &tile, u32 row, u32 column, u32 count, float *sums) {
    const Decays &decays = decays_of(plan);
    const u64 n = tensor.elements, from = tile.at + (u64)row * tensor.columns + column;
    const Group<GROUP> g = read_gradients<GROUP, PACKED>(plan, tensor, at, from, count);
    const Group<GROUP> p = read_parameters<GROUP, PACKED>(tensor, at, from, count);
    Group<GROUP> m[3], v = read<GROUP, PACKED>(tensor.rms + from, count);
    UNROLL for (u32 k = 0; k < 3; ++k) {
        m[k] = read<GROUP, PACKED>(tensor.momentum + k * n + from, count);
        UNROLL for (u32 i = 0; i < GROUP; ++i) {
            m[k][i] = mean(decays.momentum[k], m[k][i], g[i]);
        }
        write<PACKED>(tensor.momentum + k * n + from, m[k], count);
    }
    UNROLL for (u32 i = 0; i < GROUP; ++i) {
        v[i] = mean(decays.rms, v[i], g[i] * g[i]);
    }
    write<PACKED>(tensor.rms + from, v, count);
    Factors factors[GROUP];
    if (tensor.is_diagonal) {
        UNROLL for (u32 k = 0; k < 3; ++k) {
            Group<GROUP> d = read<GROUP, PACKED>(tensor.diagonal + k * n + from, count);
            UNROLL for (u32 i = 0; i < GROUP; ++i) {
                const float square = mul_add(g[i], g[i], SQUARE_EPSILON);
                d[i] = mean(decays.factored[k], d[i], square);
                set_diagonal_factor(factors[i], k, d[i]);
                if (i < count) {
                    sums[ELEMENT + k] = mul_add(d[i], d[i], sums[ELEMENT + k]);
                    sums[ELEMENT + 3 + k] += 1.0f / (d[i] + LINE_EPSILON);
                }
            }
            write<PACKED>(tensor.diagonal + k * n + from, d, count);
        }
    } else {
        u32 lines_of_y[GROUP];
        set_lines_of_y(tensor, tile, row, column, count, lines_of_y);
        Group<GROUP> factor[3];
        set_factors<GROUP, PACKED>(tensor, tile, column, count, lines_of_y, factor);
        UNROLL for (u32 i = 0; i < GROUP; ++i) {
            UNROLL for (u32 k = 0; k < 3; ++k) factors[i].g[k] = factors[i].m[k] = factor[k][i];
        }
    }
    UNROLL for (u32 i = 0; i < GROUP; ++i) {
        if (i < count) {
            const float momenta[3] = {m[0].values[i], m[1].values[i], m[2].values[i]};
            add_squares(sums, g[i], p[i], momenta, v[i], factors[i]);
        }
    }
}

DEVICE void accumulate(const Arguments &arguments) {
    SHARED BlockSums<float, SUMS, THREADS> sums;
    SHARED Tensor tensor;
    const Plan &plan = arguments.plan;
    const Unit unit = unit_of(arguments);
    const Pointers &at = arguments.pointers[unit.tensor - arguments.first_tensor];
    if (is_refused(arguments) || !at.g)
        return;
    share(tensor, plan.tensors[unit.tensor]);
    EACH_THREAD(t, THREADS) {
        float own[SUMS];
        UNROLL for (u32 k = 0; k < SUMS; ++k) own[k] = 0.0f;
        for (u32 index = unit.first_tile; index < unit.end_tile; ++index) {
            const Tile tile = tile_of(tensor, index);
            choose(is_packed(tensor, at, tile), [&](auto packed) {
                constexpr bool PACKED = decltype(packed)::value;
                each_group<GROUP>(t, tile, [&](u32 row, u32 column, u32 count) {
                    accumulate_group<PACKED>(plan, tensor, at, tile, row, column, count, own);
                });
            });
        }
        UNROLL for (u32 k = 0; k < SUMS; ++k) sums.values[k][t] = own[k];
    }
    sums.reduce();
    EACH_THREAD(t, THREADS) {
        if (t < SUMS)
            plan.sums[(u64)unit.index * SUMS + t] = sums.totals[t];
    }
}

} // namespace lopt
