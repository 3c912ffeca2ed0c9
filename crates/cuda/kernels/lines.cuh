// Second pass: the row and column moments and their factors.
#pragma once
#include "elements.cuh"
#include "reduce.cuh"

namespace lopt {

// Kinds of sums of a block of lines, three each.
constexpr u32 MOMENT_SUMS = 0, SQUARE_SUMS = 3, INVERSE_SUMS = 6, LINE_SUMS = 9;

// The line with an index within its group.
DEVICE u32 line_in_group(const Side &side, u32 group, u32 index) {
    const u32 outer = group / side.group_inner, inner = group % side.group_inner;
    return (outer * side.group_lines + index) * side.group_inner + inner;
}

// Updates the moments of a line with its sum of g²; for columns, also writes their factors.
// Writes the summands of the block's sums.
template <class Sums>
DEVICE void update_line(const Decays &decays, const Side &side, u32 line, float sum, Sums &sums,
                        u32 thread) {
    const float average = mul_add(sum, 1.0f / (float)side.per_line, SQUARE_EPSILON);
    for (u32 k = 0; k < 3; ++k) {
        const u64 at = (u64)k * side.lines + line;
        const float v = mean(decays.factored[k], side.moments[at], average);
        side.moments[at] = v;
        if (!side.is_row)
            side.factors[at] = safe_rsqrt(v);
        sums.values[MOMENT_SUMS + k][thread] = v;
        sums.values[SQUARE_SUMS + k][thread] = (double)v * v;
        sums.values[INVERSE_SUMS + k][thread] = 1.0f / (v + LINE_EPSILON);
    }
}

// Writes the factors of all rows of a group, whose blocks have all finished.
template <class Sums>
DEVICE void factor_rows(const Plan &plan, const Side &side, u32 group, Sums &sums) {
    EACH_THREAD(t, LINE_THREADS) {
        double moments[3] = {0.0, 0.0, 0.0};
        const u64 first = side.first_block + (u64)group * side.group_blocks;
        for (u32 block = t; block < side.group_blocks; block += LINE_THREADS)
            for (u32 k = 0; k < 3; ++k)
                moments[k] += fresh(&plan.line_sums[(first + block) * LINE_SUMS + k]);
        for (u32 k = 0; k < LINE_SUMS; ++k)
            sums.values[k][t] = k < 3 ? moments[k] : 0.0;
    }
    sums.reduce();
    EACH_THREAD(t, LINE_THREADS) {
        for (u32 index = t; index < side.group_lines; index += LINE_THREADS) {
            const u32 line = line_in_group(side, group, index);
            for (u32 k = 0; k < 3; ++k) {
                const u64 at = (u64)k * side.lines + line;
                const float average = (float)(sums.totals[k] / (double)side.group_lines);
                const float ratio = fresh(&side.moments[at]) / (average + MEAN_EPSILON);
                side.factors[at] = safe_rsqrt(ratio);
            }
        }
    }
}

DEVICE void lines(const Arguments &arguments) {
    SHARED double slices[LINE_THREADS];
    SHARED BlockSums<double, LINE_SUMS, LINE_THREADS> sums;
    SHARED u32 is_last;
    const Plan &plan = arguments.plan;
    const Lines &block = plan.lines[blockIdx.x];
    if (is_refused(arguments) || !plan.outcomes[block.tensor].present)
        return;
    const Side &side = plan.tensors[block.tensor].sides[block.side];
    const u32 count = smaller(side.block_lines, side.group_lines - block.first);
    // Threads share a line if it has several parts.
    const u32 share = LINE_THREADS / side.block_lines;
    EACH_THREAD(t, LINE_THREADS) {
        const u32 index = t % side.block_lines;
        double sum = 0.0;
        if (index < count) {
            const u32 line = line_in_group(side, block.group, block.first + index);
            for (u32 part = t / side.block_lines; part < side.part_count; part += share)
                sum += side.parts[(u64)part * side.lines + line];
        }
        slices[t] = sum;
    }
    BARRIER;
    EACH_THREAD(t, LINE_THREADS) {
        for (u32 k = 0; k < LINE_SUMS; ++k)
            sums.values[k][t] = 0.0;
        if (t < count) {
            double sum = slices[t];
            for (u32 slice = 1; slice < share; ++slice)
                sum += slices[slice * side.block_lines + t];
            // The parts are sums of squares of the gradients as they are.
            const double factor = gradient_factor(plan);
            sum *= factor * factor;
            const u32 line = line_in_group(side, block.group, block.first + t);
            update_line(decays_of(plan), side, line, (float)sum, sums, t);
        }
        FENCE;
    }
    sums.reduce();
    EACH_THREAD(t, LINE_THREADS) {
        if (t == 0) {
            for (u32 k = 0; k < LINE_SUMS; ++k)
                plan.line_sums[(u64)blockIdx.x * LINE_SUMS + k] = sums.totals[k];
            is_last = 0;
            if (side.is_row) {
                FENCE;
                u32 *counter = &plan.counters[side.first_counter + block.group];
                is_last = add_atomically(counter, 1) + 1 == side.group_blocks;
                if (is_last)
                    *counter = 0;
            }
        }
    }
    BARRIER;
    if (is_last) {
        FENCE;
        factor_rows(plan, side, block.group, sums);
    }
}

} // namespace lopt
