// The last passes: the sums of the heads if a magnitude belongs to a whole tensor, and the step.
#pragma once
#include "network.cuh"
#include "reduce.cuh"
#include "scale.cuh"

namespace lopt {

// Sums the heads of a tensor, and writes their means when the tensor's last unit has finished.
template <u32 H> DEVICE void heads(const Arguments &arguments) {
    SHARED Layers<H> layers;
    SHARED Tensor tensor;
    SHARED BlockSums<float, HEADS, THREADS> sums;
    SHARED BlockSums<double, HEADS, THREADS> totals;
    SHARED u32 is_last;
    const Plan &plan = arguments.plan;
    const Unit unit = unit_of(arguments);
    const Pointers &at = arguments.pointers[unit.tensor - arguments.first_tensor];
    if (is_refused(arguments) || !at.g)
        return;
    Outcome &outcome = plan.outcomes[unit.tensor];
    share(tensor, plan.tensors[unit.tensor]);
    set_layers<H>(plan, outcome, layers);
    constexpr u32 N = TOGETHER<H>;
    EACH_THREAD(t, THREADS) {
        float own[HEADS] = {0.0f, 0.0f, 0.0f};
        for (u32 index = unit.first_tile; index < unit.end_tile; ++index) {
            const Tile tile = tile_of(tensor, index);
            const auto add = [&](u64, u32 count, const Inputs<N> &,
                                 const float(&heads)[HEADS][N]) {
                UNROLL for (u32 k = 0; k < HEADS; ++k) {
                    UNROLL for (u32 i = 0; i < N; ++i) {
                        if (i < count)
                            own[k] += heads[k][i];
                    }
                }
            };
            choose(is_packed(tensor, at, tile), [&](auto packed) {
                constexpr bool PACKED = decltype(packed)::value;
                each_group<N>(t, tile, [&](u32 row, u32 column, u32 count) {
                    evaluate<H, N, PACKED>(plan, tensor, at, layers, tile, row, column, count, add);
                });
            });
        }
        UNROLL for (u32 k = 0; k < HEADS; ++k) sums.values[k][t] = own[k];
    }
    sums.reduce();
    EACH_THREAD(t, THREADS) {
        if (t == 0) {
            for (u32 k = 0; k < HEADS; ++k)
                plan.heads[(u64)unit.index * HEADS + k] = sums.totals[k];
            FENCE;
            is_last = add_atomically(&outcome.finished, 1) + 1 == tensor.units;
            if (is_last)
                outcome.finished = 0;
        }
    }
    BARRIER;
    if (!is_last)
        return;
    FENCE;
    EACH_THREAD(t, THREADS) {
        double own[HEADS] = {0.0, 0.0, 0.0};
        for (u32 index = t; index < tensor.units; index += THREADS) {
            const float *from = plan.heads + (u64)(tensor.first_unit + index) * HEADS;
            for (u32 k = 0; k < HEADS; ++k)
                own[k] += fresh(from + k);
        }
        for (u32 k = 0; k < HEADS; ++k)
            totals.values[k][t] = own[k];
    }
    totals.reduce();
    EACH_THREAD(t, THREADS) {
        if (t < HEADS)
            outcome.heads[t] = (float)(totals.totals[t] / (double)tensor.elements);
    }
}

// The terms' magnitudes and preconditioners for one tensor:
// direction = (c·(g, m₁, m₂, m₃))·π_n·exp(x_n) + β·d·π_b·exp(x_b).
struct Formula {
    float nominal[4];
    float blackbox;
    bool nominal_preconditioned;
    bool blackbox_preconditioned;
    Exponent nominal_exponent;
    Exponent blackbox_exponent;
};

// Replaces the exponent of a whole tensor by its value for the mean of the head.
DEVICE void fix(Exponent &exponent, float mean) {
    if (exponent.per_tensor) {
        exponent.shift += exponent.scale * mean;
        exponent.scale = 0.0f;
    }
}

DEVICE Formula formula_of(const Plan &plan, const Outcome &outcome) {
    const Settings &settings = *plan.settings;
    Formula formula;
    UNROLL for (u32 k = 0; k < 4; ++k) formula.nominal[k] = plan.control->nominal[k];
    formula.blackbox = plan.control->blackbox;
    formula.nominal_preconditioned = settings.nominal_preconditioned;
    formula.blackbox_preconditioned = settings.blackbox_preconditioned;
    formula.nominal_exponent = settings.nominal_exponent;
    formula.blackbox_exponent = settings.blackbox_exponent;
    fix(formula.blackbox_exponent, outcome.heads[1]);
    fix(formula.nominal_exponent, outcome.heads[2]);
    return formula;
}

// e^(scale·m + shift)
DEVICE float magnitude(const Exponent &exponent, float m) {
    return exponential(mul_add(m, exponent.scale, exponent.shift));
}

// The direction of the step of element i: Δφ = −η·direction.
template <u32 N>
DEVICE float direction_of(const Formula &formula, const Inputs<N> &inputs,
                          const float (&heads)[HEADS][N], u32 i) {
    float nominal = inputs.g[i] * formula.nominal[0];
    UNROLL for (u32 k = 0; k < 3; ++k) {
        nominal = mul_add(inputs.m[k][i], formula.nominal[1 + k], nominal);
    }
    nominal *= formula.nominal_preconditioned ? inputs.r[i] : 1.0f;
    nominal *= magnitude(formula.nominal_exponent, heads[2][i]);
    const float direction = heads[0][i] * (formula.blackbox_preconditioned ? inputs.r[i] : 1.0f);
    const float of_direction = magnitude(formula.blackbox_exponent, heads[1][i]);
    return nominal + direction * of_direction * formula.blackbox;
}

template <u32 H> DEVICE void apply(const Arguments &arguments) {
    SHARED Layers<H> layers;
    SHARED Tensor tensor;
    const Plan &plan = arguments.plan;
    const Unit unit = unit_of(arguments);
    const Pointers &at = arguments.pointers[unit.tensor - arguments.first_tensor];
    if (is_refused(arguments) || !at.g)
        return;
    const Outcome &outcome = plan.outcomes[unit.tensor];
    share(tensor, plan.tensors[unit.tensor]);
    set_layers<H>(plan, outcome, layers);
    const Formula formula = formula_of(plan, outcome);
    const Moved moved = moved_of(plan, outcome);
    constexpr u32 N = TOGETHER<H>;
    EACH_THREAD(t, THREADS) {
        for (u32 index = unit.first_tile; index < unit.end_tile; ++index) {
            const Tile tile = tile_of(tensor, index);
            choose(is_packed(tensor, at, tile), [&](auto packed) {
                constexpr bool PACKED = decltype(packed)::value;
                const auto move = [&](u64 from, u32 count, const Inputs<N> &inputs,
                                      const float(&heads)[HEADS][N]) {
                    Group<N> direction;
                    UNROLL for (u32 i = 0; i < N; ++i) {
                        direction[i] = direction_of(formula, inputs, heads, i);
                    }
                    add_update<PACKED>(tensor, at, moved, from, inputs.p, direction,
                                       -arguments.learning_rate, count);
                };
                each_group<N>(t, tile, [&](u32 row, u32 column, u32 count) {
                    evaluate<H, N, PACKED>(plan, tensor, at, layers, tile, row, column, count,
                                           move);
                });
            });
        }
    }
}

} // namespace lopt
