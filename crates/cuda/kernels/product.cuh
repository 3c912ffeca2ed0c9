// One tile of a matrix product, by one block.
#pragma once
#include "layout.cuh"
#include "math.cuh"

namespace lopt {

// Which of two neighbours in memory a factor has: two terms of one line (a row of the left factor, a
// column of the right one), or one term of two lines.
enum Neighbours { OF_TERMS, OF_LINES };

// Terms that a block has in shared memory at a time.
constexpr u32 DEPTH = 32;
// Elements of such a part that a thread loads, of each factor.
constexpr u32 LOADS = SIDE * DEPTH / PRODUCT_THREADS;
// The threads are this many columns; a thread has every so many-th column and row.
constexpr u32 ACROSS = 8, DOWN = PRODUCT_THREADS / ACROSS;
constexpr u32 OWN_COLUMNS = SIDE / ACROSS, OWN_ROWS = SIDE / DOWN;

DEVICE u32 tiles_along(u32 length) { return (length + SIDE - 1) / SIDE; }

// Puts Σ left(row, term)·right(column, term), in the order of the terms, for the rows and columns of
// a tile. Loads the next terms while it multiplies.
template <Neighbours LEFT, Neighbours RIGHT, class Left, class Right, class Put>
DEVICE void product(u32 tile, u32 rows, u32 columns, u32 terms, Left left, Right right, Put put) {
    // One float more, so that neighbouring terms lie in different banks.
    SHARED float lefts[DEPTH][SIDE + 1], rights[DEPTH][SIDE + 1];
    KEPT(float, next, PRODUCT_THREADS, 2 * LOADS);
    KEPT(float, sums, PRODUCT_THREADS, OWN_ROWS * OWN_COLUMNS);
    const u32 top = tile / tiles_along(columns) * SIDE, start = tile % tiles_along(columns) * SIDE;
    const auto place = [](Neighbours order, u32 t, u32 load, u32 &line, u32 &term) {
        const u32 at = t + load * PRODUCT_THREADS;
        line = order == OF_TERMS ? at / DEPTH : at % SIDE;
        term = order == OF_TERMS ? at % DEPTH : at / SIDE;
    };
    const auto load = [&](u32 t, u32 first) {
        UNROLL for (u32 i = 0; i < LOADS; ++i) {
            u32 line, term;
            place(LEFT, t, i, line, term);
            const bool is_left = top + line < rows && first + term < terms;
            next[MINE(t)][i] = is_left ? left(top + line, first + term) : 0.0f;
            place(RIGHT, t, i, line, term);
            const bool is_right = start + line < columns && first + term < terms;
            next[MINE(t)][LOADS + i] = is_right ? right(start + line, first + term) : 0.0f;
        }
    };
    EACH_THREAD(t, PRODUCT_THREADS) {
        UNROLL for (u32 i = 0; i < OWN_ROWS * OWN_COLUMNS; ++i)
            sums[MINE(t)][i] = 0.0f;
        load(t, 0);
    }
    for (u32 first = 0; first < terms; first += DEPTH) {
        EACH_THREAD(t, PRODUCT_THREADS) {
            UNROLL for (u32 i = 0; i < LOADS; ++i) {
                u32 line, term;
                place(LEFT, t, i, line, term);
                lefts[term][line] = next[MINE(t)][i];
                place(RIGHT, t, i, line, term);
                rights[term][line] = next[MINE(t)][LOADS + i];
            }
        }
        BARRIER;
        EACH_THREAD(t, PRODUCT_THREADS) {
            load(t, first + DEPTH);
            const u32 row = t / ACROSS, column = t % ACROSS;
            for (u32 term = 0; term < DEPTH; ++term) {
                UNROLL for (u32 i = 0; i < OWN_ROWS; ++i) {
                    const float factor = lefts[term][row + i * DOWN];
                    UNROLL for (u32 j = 0; j < OWN_COLUMNS; ++j) {
                        float &sum = sums[MINE(t)][i * OWN_COLUMNS + j];
                        sum = mul_add(factor, rights[term][column + j * ACROSS], sum);
                    }
                }
            }
        }
        BARRIER;
    }
    EACH_THREAD(t, PRODUCT_THREADS) {
        UNROLL for (u32 i = 0; i < OWN_ROWS; ++i) {
            UNROLL for (u32 j = 0; j < OWN_COLUMNS; ++j) {
                const u32 row = top + t / ACROSS + i * DOWN;
                const u32 column = start + t % ACROSS + j * ACROSS;
                if (row < rows && column < columns)
                    put(row, column, sums[MINE(t)][i * OWN_COLUMNS + j]);
            }
        }
    }
}

} // namespace lopt
