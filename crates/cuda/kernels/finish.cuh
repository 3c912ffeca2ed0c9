// Between the passes: the sums over units, the values that all tensors of the step share, and the
// contributions of lines to the first layer.
#pragma once
#include "features.cuh"
#include "lines.cuh"
#include "reduce.cuh"
#include "scale.cuh"

namespace lopt {

// Sums over units at a time; two rounds make all of them.
constexpr u32 ROUND = SUMS / 2;

using FinishSums = BlockSums<double, ROUND, THREADS>;

// Leaves the sum of the slopes of some units in the first total.
DEVICE void sum_slopes(const Plan &plan, u32 first, u32 count, FinishSums &sums) {
    EACH_THREAD(t, THREADS) {
        double slope = 0.0;
        for (u32 unit = t; unit < count; unit += THREADS)
            slope += plan.slopes[first + unit];
        for (u32 k = 0; k < ROUND; ++k)
            sums.values[k][t] = k == 0 ? slope : 0.0;
    }
    sums.reduce();
}

// tanh(t/τ − 1) for the time scales τ = 1, 3, 10, …, 1e5.
DEVICE float step_feature(u32 index, u64 step) {
    constexpr float SCALES[PER_STEP] = {1.0f, 3.0f, 10.0f, 30.0f, 100.0f, 300.0f,
                                        1e3f, 3e3f, 1e4f,  3e4f,  1e5f};
    return tanhf((float)step / SCALES[index] - 1.0f);
}

// The coefficients of the two terms at a step.
DEVICE void set_terms(const Settings &settings, Control &control) {
    const u64 t = control.step, limit = settings.time_limit;
    const double fade = limit < t ? (double)limit / (double)t : 1.0;
    const double growth = settings.grows ? 1.0 / sqrt(fade) : 1.0;
    for (u32 k = 0; k < 4; ++k)
        control.nominal[k] = (float)(settings.nominal[k] * growth);
    control.blackbox = settings.blackbox * (float)fade;
    control.correction1 = (float)(1.0 / (1.0 - pow(settings.beta1, (double)(t + 1))));
    control.correction2 = (float)(1.0 / (1.0 - pow(settings.beta2, (double)(t + 1))));
}

// Sets the values that all tensors share, and counts the step.
template <u32 H> DEVICE void finish_network(const Arguments &arguments, FinishSums &sums) {
    const Plan &plan = arguments.plan;
    const Settings &settings = *plan.settings;
    Control &control = *plan.control;
    const bool refused = is_refused(arguments);
    if (plan.learners && !refused)
        sum_slopes(plan, 0, settings.units, sums);
    EACH_THREAD(t, THREADS) {
        if constexpr (H > 0) {
            if (t < H && !refused) {
                const Theta<H> &theta = theta_of<H>(plan);
                const u64 step =
                    control.step < settings.time_limit ? control.step : settings.time_limit;
                float bias = theta.b0[t];
                for (u32 k = 0; k < PER_STEP; ++k)
                    bias += theta.w0[PER_PARAMETER + k][t] * step_feature(k, step);
                control.bias[t] = bias;
            }
        }
    }
    BARRIER;
    EACH_THREAD(t, THREADS) {
        if (t == 0) {
            control.bad[1 - arguments.parity] = 0;
            if (refused) {
                ++control.skipped;
            } else {
                set_terms(settings, control);
                if (plan.learners)
                    advance(settings, (float)sums.totals[0], plan.learners, control.change,
                            control.scale);
                ++control.step;
            }
        }
    }
}

// Sums the squares of a tensor's features over its units, and sets the normalizers.
DEVICE void set_normalizers(const Plan &plan, const Tensor &tensor, Outcome &outcome,
                            FinishSums &sums) {
    for (u32 first = 0; first < SUMS; first += ROUND) {
        EACH_THREAD(t, THREADS) {
            double own[ROUND];
            UNROLL for (u32 k = 0; k < ROUND; ++k) own[k] = 0.0;
            for (u32 unit = t; unit < tensor.units; unit += THREADS) {
                const float *from = plan.sums + (u64)(tensor.first_unit + unit) * SUMS + first;
                UNROLL for (u32 k = 0; k < ROUND; ++k) own[k] += from[k];
            }
            UNROLL for (u32 k = 0; k < ROUND; ++k) sums.values[k][t] = own[k];
        }
        sums.reduce();
        EACH_THREAD(t, THREADS) {
            if (t < ROUND)
                outcome.normalizers[first + t] = normalizer(sums.totals[t], tensor.elements);
        }
        BARRIER;
    }
}

// Updates the learners of a tensor and sets its normalizers.
template <u32 H> DEVICE void finish_tensor(const Arguments &arguments, u32 index, FinishSums &sums) {
    const Plan &plan = arguments.plan;
    const Tensor &tensor = plan.tensors[index];
    Outcome &outcome = plan.outcomes[index];
    EACH_THREAD(t, THREADS) {
        if (t == 0)
            outcome.bad[1 - arguments.parity] = 0;
    }
    if (is_refused(arguments) || !outcome.present)
        return;
    if (tensor.learners) {
        sum_slopes(plan, tensor.first_unit, tensor.units, sums);
        EACH_THREAD(t, THREADS) {
            if (t == 0)
                advance(*plan.settings, (float)sums.totals[0], tensor.learners, outcome.change,
                        outcome.scale);
        }
        BARRIER;
    }
    if constexpr (H > 0)
        set_normalizers(plan, tensor, outcome, sums);
}

// Writes Σ weight · feature over the moments of some lines and their inverse roots, with the
// normalizers of these features.
template <u32 H> DEVICE void fold_lines(const Arguments &arguments, u32 index, FinishSums &sums) {
    SHARED float weights[6][H];
    const Plan &plan = arguments.plan;
    const Lines &block = plan.folds[index];
    if (is_refused(arguments) || !plan.outcomes[block.tensor].present)
        return;
    const Side &side = plan.tensors[block.tensor].sides[block.side];
    EACH_THREAD(t, THREADS) {
        double own[6] = {0.0, 0.0, 0.0, 0.0, 0.0, 0.0};
        for (u32 at = t; at < side.groups * side.group_blocks; at += THREADS) {
            const double *from = plan.line_sums + (u64)(side.first_block + at) * LINE_SUMS;
            UNROLL for (u32 k = 0; k < 6; ++k) own[k] += from[SQUARE_SUMS + k];
        }
        UNROLL for (u32 k = 0; k < ROUND; ++k) sums.values[k][t] = k < 6 ? own[k] : 0.0;
    }
    sums.reduce();
    EACH_THREAD(t, THREADS) {
        const u32 first = side.is_row ? ROW_INPUT : COLUMN_INPUT;
        const u32 first_root = side.is_row ? ROW_ROOT_INPUT : COLUMN_ROOT_INPUT;
        for (u32 at = t; at < 6 * H; at += THREADS) {
            const u32 k = at / H, j = at % H;
            const u32 input = k < 3 ? first + k : first_root + k - 3;
            weights[k][j] = theta_of<H>(plan).w0[input][j] * normalizer(sums.totals[k], side.lines);
        }
    }
    BARRIER;
    EACH_THREAD(t, THREADS) {
        const u32 line = block.first + t;
        if (t < FOLD_LINES && line < side.lines) {
            float moments[3], roots[3];
            UNROLL for (u32 k = 0; k < 3; ++k) {
                moments[k] = side.moments[(u64)k * side.lines + line];
                roots[k] = inverse_root_of_line(moments[k]);
            }
            for (u32 j = 0; j < H; ++j) {
                float sum = 0.0f;
                UNROLL for (u32 k = 0; k < 3; ++k) {
                    sum = mul_add(moments[k], weights[k][j], sum);
                    sum = mul_add(roots[k], weights[3 + k][j], sum);
                }
                side.folds[(u64)j * side.lines + line] = sum;
            }
        }
    }
}

// Block 0 is that of the network, then one for each tensor, then those that fold lines.
template <u32 H> DEVICE void finish(const Arguments &arguments) {
    SHARED FinishSums sums;
    const u32 tensors = arguments.plan.settings->tensors;
    if (blockIdx.x == 0) {
        finish_network<H>(arguments, sums);
    } else if (blockIdx.x <= tensors) {
        finish_tensor<H>(arguments, blockIdx.x - 1, sums);
    } else if constexpr (H > 0) {
        fold_lines<H>(arguments, blockIdx.x - 1 - tensors, sums);
    }
}

} // namespace lopt
