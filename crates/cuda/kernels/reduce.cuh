// Sums over the threads of a block, always in the same order.
#pragma once
#include "device.cuh"

namespace lopt {

// Sums of `ROWS` kinds over N threads: threads write `values`, `reduce` leaves the sums in
// `totals`.
template <class T, u32 ROWS, u32 N> struct BlockSums {
    static constexpr u32 LANES = 16;
    T values[ROWS][N];
    T lanes[ROWS][LANES];
    T totals[ROWS];

    // Call it after the threads wrote, without a barrier between, and outside of EACH_THREAD.
    DEVICE_MEMBER void reduce() {
        BARRIER;
        EACH_THREAD(t, N) {
            for (u32 at = t; at < ROWS * LANES; at += N) {
                const u32 row = at / LANES, lane = at % LANES;
                T sum = values[row][lane];
                for (u32 i = lane + LANES; i < N; i += LANES)
                    sum += values[row][i];
                lanes[row][lane] = sum;
            }
        }
        BARRIER;
        EACH_THREAD(t, N) {
            if (t < ROWS) {
                T sum = lanes[t][0];
                for (u32 lane = 1; lane < LANES; ++lane)
                    sum += lanes[t][lane];
                totals[t] = sum;
            }
        }
        BARRIER;
    }
};

} // namespace lopt
