// The online scale; see `lopt-online-scale`.
#pragma once
#include "elements.cuh"

namespace lopt {

// Added under square roots.
constexpr double TINY = 1e-36;
// ε of the learners.
constexpr float LEARNER_EPSILON = 1e-12f;
// The decay of q and w.
constexpr double GRADIENT_DECAY = 0.99;
// The largest mean square of a gradient.
constexpr double LARGEST_SQUARE = 1e36;
// The largest slope that a learner is told.
constexpr float LARGEST_SLOPE = 1e18f;

// Updates q and w with the mean square of the gradients; returns ρ/R.
DEVICE float advance_square(const Settings &settings, double mean_square, float *q_and_w) {
    constexpr double NEW = 1.0 - GRADIENT_DECAY;
    const float q = (float)(GRADIENT_DECAY * q_and_w[0] + NEW * mean_square);
    const float w = (float)(GRADIENT_DECAY * q_and_w[1] + NEW);
    q_and_w[0] = q;
    q_and_w[1] = w;
    return (float)(settings.gradient_rms / sqrt((double)q / (double)w + TINY));
}

// Updates the learners [4, K] with a slope; writes S′ − S and S′.
DEVICE void advance(const Settings &settings, float slope, float *learners, float &change,
                    float &scale) {
    const u32 count = settings.learners;
    float *m = learners, *v = m + count, *r = v + count, *s = r + count;
    float before = 0.0f, after = 0.0f;
    for (u32 i = 0; i < count; ++i) {
        const float beta = settings.betas[i];
        before += s[i];
        float h = fminf(fmaxf(slope, -LARGEST_SLOPE), LARGEST_SLOPE);
        if (m[i] > LEARNER_EPSILON) {
            const float bound = settings.slope_limit * m[i];
            h = fminf(fmaxf(h, -bound), bound);
        }
        r[i] = beta * r[i] - s[i] * fminf(fmaxf(h, -m[i]), m[i]);
        m[i] = fmaxf(beta * m[i], fabsf(h) + LEARNER_EPSILON);
        v[i] = beta * beta * v[i] + h * h;
        const float root = sqrtf(v[i] + (float)TINY);
        s[i] = (m[i] * settings.start + fmaxf(r[i], 0.0f)) / (root + LEARNER_EPSILON);
        after += s[i];
    }
    change = after - before;
    scale = after;
}

// How the sum of updates moves the parameters of a tensor.
struct Moved {
    float change;
    float scale;
};

DEVICE Moved moved_of(const Plan &plan, const Outcome &outcome) {
    const float w = plan.settings->tensor_weight;
    const Control &control = *plan.control;
    return {(1.0f - w) * control.change + w * outcome.change,
            (1.0f - w) * control.scale + w * outcome.scale};
}

// Adds the update factor·direction of a group to the parameters `p`: p ← p + u, or with an online
// scale p ← p + change·Δ + scale·u and Δ ← Δ + u.
template <bool PACKED, u32 N>
DEVICE void add_update(const Tensor &tensor, const Pointers &at, const Moved &moved, u64 to,
                       Group<N> p, const Group<N> &direction, float factor, u32 count) {
    if (tensor.sum) {
        Group<N> sum = read<N, PACKED>(tensor.sum + to, count);
        UNROLL for (u32 i = 0; i < N; ++i) {
            const float update = direction[i] * factor;
            p[i] = mul_add(sum[i], moved.change, p[i]);
            p[i] = mul_add(update, moved.scale, p[i]);
            sum[i] += update;
        }
        write<PACKED>(tensor.sum + to, sum, count);
    } else {
        UNROLL for (u32 i = 0; i < N; ++i) {
            p[i] = mul_add(direction[i], factor, p[i]);
        }
    }
    write_parameters<PACKED>(tensor, at, to, p, count);
}

} // namespace lopt
