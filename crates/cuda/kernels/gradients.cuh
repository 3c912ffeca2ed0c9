// First pass: checks the gradients and sums ⟨Δ, g⟩, g², and g² over the lines of each tile. The
// last block sets the factor of the gradients.
#pragma once
#include "elements.cuh"
#include "reduce.cuh"
#include "scale.cuh"

namespace lopt {

// The largest accepted magnitude of a gradient entry; larger squares can overflow.
constexpr float LARGEST_GRADIENT = 1e18f;

// The number of floats between two rows of a tile in shared memory: lines then start in different
// banks.
DEVICE u32 stride_of(const Tile &tile) { return tile.columns + (tile.columns % 32 == 0); }

// Writes the sums of `terms` values for each of some outputs. Several of a block's N threads share
// an output if there are more threads than outputs.
template <u32 N = THREADS, class Value, class Put>
DEVICE void sum_lines(float *slices, u32 outputs, u32 terms, Value value, Put put) {
    u32 share = 1;
    while (2 * share * outputs <= N && 2 * share <= terms)
        share *= 2;
    EACH_THREAD(t, N) {
        for (u32 at = t; at < outputs * share; at += N) {
            const u32 output = at % outputs;
            float sum = 0.0f;
            for (u32 term = at / outputs; term < terms; term += share)
                sum += value(output, term);
            if (share == 1)
                put(output, sum);
            else
                slices[at] = sum;
        }
    }
    BARRIER;
    EACH_THREAD(t, N) {
        if (share > 1 && t < outputs) {
            float sum = slices[t];
            for (u32 slice = 1; slice < share; ++slice)
                sum += slices[slice * outputs + t];
            put(t, sum);
        }
    }
    BARRIER;
}

// Writes the tile's part of the sums of g² over its lines. `squares` is the tile, g².
DEVICE void sum_tile(const Tensor &tensor, const Tile &tile, const float *squares, float *slices) {
    const u32 stride = stride_of(tile);
    const Side &no_x = tensor.sides[0], &no_y = tensor.sides[1];
    float *to_x = no_x.parts + (u64)tile.part_x * no_x.lines + tile.no_x;
    sum_lines(
        slices, tile.columns, tile.rows,
        [&](u32 column, u32 row) { return squares[row * stride + column]; },
        [&](u32 column, float sum) { to_x[column] = sum; });
    const u32 segment = tensor.y * tensor.inner, inner = tensor.inner;
    const u32 terms = tensor.cut == WHOLE_SEGMENTS ? tensor.y
        : tensor.cut == WITHIN_SEGMENT ? tile.columns / inner : 1;
    float *to_y = no_y.parts + (u64)tile.part_y * no_y.lines + tile.no_y;
    sum_lines(
        slices, tile.rows * tile.lines_y, terms,
        [&](u32 output, u32 term) {
            const u32 row = output / tile.lines_y, line = output % tile.lines_y;
            const u32 column = line / inner * segment + line % inner + term * inner;
            return squares[row * stride + column];
        },
        [&](u32 output, float sum) {
            const u32 row = output / tile.lines_y, line = output % tile.lines_y;
            to_y[row * tile.step_y + line] = sum;
        });
}

// Sets the factor of the gradients when the step's last unit has finished.
DEVICE void set_gradient_factor(const Arguments &arguments) {
    SHARED BlockSums<double, 2, THREADS> sums;
    SHARED u32 is_last;
    const Plan &plan = arguments.plan;
    const Settings &settings = *plan.settings;
    Control &control = *plan.control;
    EACH_THREAD(t, THREADS) {
        if (t == 0) {
            FENCE;
            is_last = add_atomically(&control.finished, 1) + 1 == settings.units;
            if (is_last)
                control.finished = 0;
        }
    }
    BARRIER;
    if (!is_last)
        return;
    FENCE;
    if (fresh(&control.bad[arguments.parity]))
        return;
    EACH_THREAD(t, THREADS) {
        double square = 0.0, elements = 0.0;
        for (u32 unit = t; unit < settings.units; unit += THREADS)
            square += fresh(plan.squares + unit);
        for (u32 index = t; index < settings.tensors; index += THREADS) {
            if (fresh(&plan.outcomes[index].present))
                elements += plan.tensors[index].elements;
        }
        sums.values[0][t] = square;
        sums.values[1][t] = elements;
    }
    sums.reduce();
    EACH_THREAD(t, THREADS) {
        const double square = sums.totals[0], elements = sums.totals[1];
        if (t == 0 && elements > 0.0) {
            const double mean_square = fmin(square / elements, LARGEST_SQUARE);
            control.gradient_factor = advance_square(settings, mean_square, plan.gradient_square);
        }
    }
}

DEVICE void gradients(const Arguments &arguments) {
    constexpr u32 SLOPE = 0, SQUARE = 1;
    SHARED float squares[TILE + TILE / 32];
    SHARED float slices[THREADS];
    SHARED BlockSums<float, 2, THREADS> sums;
    SHARED Tensor tensor;
    const Plan &plan = arguments.plan;
    const Unit unit = unit_of(arguments);
    const Pointers &at = arguments.pointers[unit.tensor - arguments.first_tensor];
    Outcome &outcome = plan.outcomes[unit.tensor];
    share(tensor, plan.tensors[unit.tensor]);
    EACH_THREAD(t, THREADS) {
        sums.values[SLOPE][t] = sums.values[SQUARE][t] = 0.0f;
        if (t == 0 && unit.index == tensor.first_unit)
            outcome.present = at.g != nullptr;
    }
    const bool has_lines = tensor.sides[0].parts != nullptr;
    for (u32 index = unit.first_tile; at.g && index < unit.end_tile; ++index) {
        const Tile tile = tile_of(tensor, index);
        const u32 stride = stride_of(tile);
        EACH_THREAD(t, THREADS) {
            float products = 0.0f, of_squares = 0.0f;
            u32 bad = 0;
            choose(is_packed(tensor, at, tile), [&](auto packed) {
                constexpr bool PACKED = decltype(packed)::value;
                each_group<GROUP>(t, tile, [&](u32 row, u32 column, u32 count) {
                    const u64 from = tile.at + (u64)row * tensor.columns + column;
                    const auto g = read_any<GROUP, PACKED>(at.g, tensor.type, from, count);
                    UNROLL for (u32 i = 0; i < GROUP; ++i) {
                        const float square = g[i] * g[i];
                        bad += !(fabsf(g[i]) <= LARGEST_GRADIENT);
                        of_squares += square;
                        if (has_lines && i < count)
                            squares[row * stride + column + i] = square;
                    }
                    if (tensor.sum) {
                        const auto sum = read<GROUP, PACKED>(tensor.sum + from, count);
                        UNROLL for (u32 i = 0; i < GROUP; ++i) {
                            products = mul_add(sum[i], g[i], products);
                        }
                    }
                });
            });
            sums.values[SLOPE][t] += products;
            sums.values[SQUARE][t] += of_squares;
            if (bad) {
                add_atomically(&outcome.bad[arguments.parity], bad);
                raise(&plan.control->bad[arguments.parity]);
            }
        }
        BARRIER;
        if (has_lines)
            sum_tile(tensor, tile, squares, slices);
    }
    sums.reduce();
    EACH_THREAD(t, THREADS) {
        if (t == 0) {
            plan.slopes[unit.index] = sums.totals[SLOPE];
            plan.squares[unit.index] = sums.totals[SQUARE];
        }
    }
    if (plan.gradient_square)
        set_gradient_factor(arguments);
}

} // namespace lopt
