// The pass of Adam.
#pragma once
#include "elements.cuh"
#include "scale.cuh"

namespace lopt {

DEVICE void adam(const Arguments &arguments) {
    const Plan &plan = arguments.plan;
    const Unit unit = unit_of(arguments);
    const Tensor &tensor = plan.tensors[unit.tensor];
    const Pointers &at = arguments.pointers[unit.tensor - arguments.first_tensor];
    if (is_refused(arguments) || !at.g)
        return;
    const Settings &settings = *plan.settings;
    const Control &control = *plan.control;
    const float beta1 = (float)settings.beta1, beta2 = (float)settings.beta2;
    const Moved moved = moved_of(plan, plan.outcomes[unit.tensor]);
    EACH_THREAD(t, THREADS) {
        for (u32 index = unit.first_tile; index < unit.end_tile; ++index) {
            const Tile tile = tile_of(tensor, index);
            each_group<GROUP>(t, tile, [&](u32 row, u32 column, u32 count) {
                const u64 from = tile.at + (u64)row * tensor.columns + column;
                const Group<GROUP> g = read_any<GROUP>(at.g, tensor.type, from, count);
                const Group<GROUP> p = read_parameters<GROUP>(tensor, at, from, count);
                Group<GROUP> m = read<GROUP>(tensor.momentum + from, count), v = read<GROUP>(tensor.rms + from, count);
                Group<GROUP> direction;
                UNROLL for (u32 i = 0; i < GROUP; ++i) {
                    const float x = g[i];
                    m[i] = mul_add(beta1, m[i], settings.one_minus_beta1 * x);
                    v[i] = mul_add(beta2, v[i], settings.one_minus_beta2 * (x * x));
                    const float root = sqrtf(v[i] * control.correction2);
                    direction[i] =
                        m[i] * control.correction1 / (root + settings.epsilon);
                }
                write(tensor.momentum + from, m, count);
                write(tensor.rms + from, v, count);
                add_update(tensor, at, moved, from, p, direction, -arguments.learning_rate, count);
            });
        }
    }
}

} // namespace lopt
