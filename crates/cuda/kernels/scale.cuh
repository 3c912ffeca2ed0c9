// The online scale; see `lopt-online-scale`.
#pragma once
#include "elements.cuh"

namespace lopt {

// Added under square roots.
constexpr float TINY = 1e-30f;
// ε of the learners.
constexpr float LEARNER_EPSILON = 1e-8f;

// Updates the learners [4, K] with the slope h; writes S′ − S and S′.
DEVICE void advance(const Settings &settings, float h, float *learners, float &change,
                    float &scale) {
    const u32 count = settings.learners;
    float *m = learners, *v = m + count, *r = v + count, *s = r + count;
    float before = 0.0f, after = 0.0f;
    for (u32 i = 0; i < count; ++i) {
        const float beta = settings.betas[i];
        before += s[i];
        r[i] = beta * r[i] - s[i] * fminf(fmaxf(h, -m[i]), m[i]);
        m[i] = fmaxf(beta * m[i], fabsf(h) + LEARNER_EPSILON);
        v[i] = beta * beta * v[i] + h * h;
        s[i] = (m[i] * settings.start + fmaxf(r[i], 0.0f)) / (sqrtf(v[i] + TINY) + LEARNER_EPSILON);
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
