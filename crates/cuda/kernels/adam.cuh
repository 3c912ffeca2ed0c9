// The pass of Adam.
#pragma once
#include "elements.cuh"
#include "scale.cuh"

namespace lopt {

DEVICE void adam(const Arguments &arguments) {
    SHARED Tensor tensor;
    const Plan &plan = arguments.plan;
    const Unit unit = unit_of(arguments);
    const Pointers &at = arguments.pointers[unit.tensor - arguments.first_tensor];
    if (is_refused(arguments) || !at.g)
        return;
    share(tensor, plan.tensors[unit.tensor]);
    const Settings &settings = *plan.settings;
    const Control &control = *plan.control;
    const float beta1 = (float)settings.beta1, beta2 = (float)settings.beta2;
    const Moved moved = moved_of(plan, plan.outcomes[unit.tensor]);
    EACH_THREAD(t, THREADS) {
        for (u32 index = unit.first_tile; index < unit.end_tile; ++index) {
            const Tile tile = tile_of(tensor, index);
            choose(is_packed(tensor, at, tile), [&](auto packed) {
                constexpr bool PACKED = decltype(packed)::value;
                each_group<GROUP>(t, tile, [&](u32 row, u32 column, u32 count) {
                    const u64 from = tile.at + (u64)row * tensor.columns + column;
                    const auto g = read_gradients<GROUP, PACKED>(plan, tensor, at, from, count);
                    const auto p = read_parameters<GROUP, PACKED>(tensor, at, from, count);
                    auto m = read<GROUP, PACKED>(tensor.momentum + from, count);
                    auto v = read<GROUP, PACKED>(tensor.rms + from, count);
                    Group<GROUP> direction;
                    UNROLL for (u32 i = 0; i < GROUP; ++i) {
                        const float square = g[i] * g[i];
                        m[i] = mul_add(beta1, m[i], settings.one_minus_beta1 * g[i]);
                        v[i] = mul_add(beta2, v[i], settings.one_minus_beta2 * square);
                        const float root = sqrtf(v[i] * control.correction2);
                        direction[i] = m[i] * control.correction1 / (root + settings.epsilon);
                    }
                    write<PACKED>(tensor.momentum + from, m, count);
                    write<PACKED>(tensor.rms + from, v, count);
                    add_update<PACKED>(tensor, at, moved, from, p, direction,
                                       -arguments.learning_rate, count);
                });
            });
        }
    }
}

} // namespace lopt
