// Tiles and the elements of a tensor.
#pragma once
#include "layout.cuh"
#include "math.cuh"

namespace lopt {

// A rectangle of a tensor, seen as rows of length `columns`.
struct Tile {
    u32 rows;
    u32 columns;
    // The first element.
    u64 at;
    // The index without x of the first column, and the part of its lines.
    u32 no_x;
    u32 part_x;
    // The index without y of the first element, its step from row to row, and the part of its
    // lines.
    u32 no_y;
    u32 step_y;
    u32 part_y;
    // The number of indices without y in a row.
    u32 lines_y;
};

DEVICE Tile tile_of(const Tensor &tensor, u32 index) {
    Tile tile;
    const u32 across = tensor.columns / tensor.span * tensor.span_tiles;
    const u32 along = (tensor.x + tensor.tile_rows - 1) / tensor.tile_rows;
    const u32 down = index / across, right = index % across;
    const u32 outer = down / along;
    tile.part_x = down % along;
    const u32 row = tile.part_x * tensor.tile_rows;
    const u32 span = right / tensor.span_tiles, piece = right % tensor.span_tiles;
    const u32 skipped = piece * tensor.tile_columns;
    const u32 column = span * tensor.span + skipped;
    tile.rows = smaller(tensor.tile_rows, tensor.x - row);
    tile.columns = smaller(tensor.tile_columns, tensor.span - skipped);
    tile.at = ((u64)outer * tensor.x + row) * tensor.columns + column;
    tile.no_x = outer * tensor.columns + column;
    tile.step_y = tensor.middle * tensor.inner;
    const u32 segment = tensor.y * tensor.inner;
    tile.no_y = (outer * tensor.x + row) * tile.step_y;
    tile.no_y += column / segment * tensor.inner + column % tensor.inner;
    switch (tensor.cut) {
    case WHOLE_SEGMENTS:
        tile.part_y = 0;
        tile.lines_y = tile.columns / segment * tensor.inner;
        break;
    case WITHIN_SEGMENT:
        tile.part_y = piece;
        tile.lines_y = tensor.inner;
        break;
    default:
        tile.part_y = span % tensor.y;
        tile.lines_y = tile.columns;
    }
    return tile;
}

// Some elements of a row, read and written at once if all addresses are multiples of their size.
template <class T, u32 N> struct alignas(N * sizeof(T)) Packed {
    T values[N];

    DEVICE_MEMBER T &operator[](u32 i) { return values[i]; }
    DEVICE_MEMBER const T &operator[](u32 i) const { return values[i]; }
};

template <u32 N> using Group = Packed<float, N>;

// The indices without y of a group of a row. Those beyond `count` repeat the first.
template <u32 N>
DEVICE void set_lines_of_y(const Tensor &tensor, const Tile &tile, u32 row, u32 column, u32 count,
                           u32 (&lines)[N]) {
    const u32 first = tile.no_y + row * tile.step_y;
    UNROLL for (u32 i = 0; i < N; ++i) lines[i] = first;
    if (tile.lines_y == 1)
        return;
    const u32 segment = tensor.y * tensor.inner;
    u32 start = column / segment * tensor.inner, within = column % segment;
    u32 inner = within % tensor.inner;
    lines[0] += start + inner;
    UNROLL for (u32 i = 1; i < N; ++i) {
        inner = inner + 1 == tensor.inner ? 0 : inner + 1;
        if (++within == segment) {
            within = 0;
            start += tensor.inner;
        }
        lines[i] = i < count ? first + start + inner : lines[0];
    }
}

// Reads values of lines, the first once if the others are the same.
template <u32 N> DEVICE Group<N> read_lines(const float *from, const u32 (&lines)[N]) {
    Group<N> to;
    to[0] = from[lines[0]];
    UNROLL for (u32 i = 1; i < N; ++i) {
        to[i] = lines[i] == lines[0] ? to[0] : from[lines[i]];
    }
    return to;
}

// Calls `use(row, column, count)` for the groups of a thread: `count` ≤ N elements of a row. The
// order depends on the tile's size alone.
template <u32 N, class Use> DEVICE void each_group(u32 thread, const Tile &tile, Use use) {
    const u32 across = (tile.columns + N - 1) / N;
    const u32 down = THREADS / across, right = THREADS % across;
    u32 row = thread / across, group = thread % across;
    while (row < tile.rows) {
        const u32 column = group * N;
        use(row, column, smaller(N, tile.columns - column));
        row += down;
        group += right;
        if (group >= across) {
            group -= across;
            ++row;
        }
    }
}

template <u32 N, class T> DEVICE bool is_aligned(const void *at) {
    return reinterpret_cast<u64>(at) % sizeof(Packed<T, N>) == 0;
}

// Whether all groups of a tile can be read and written at once.
DEVICE bool is_packed(const Tensor &tensor, const Pointers &at, const Tile &tile) {
    const u32 odd = tile.columns | tensor.columns | tensor.elements | (u32)tile.at;
    const bool typed = tensor.type == F32
        ? is_aligned<GROUP, float>(at.p) && is_aligned<GROUP, float>(at.g)
        : is_aligned<GROUP, u16>(at.p) && is_aligned<GROUP, u16>(at.g);
    return odd % GROUP == 0 && typed && is_aligned<GROUP, float>(tensor.momentum)
        && is_aligned<GROUP, float>(tensor.rms) && is_aligned<GROUP, float>(tensor.diagonal)
        && is_aligned<GROUP, float>(tensor.sum) && is_aligned<GROUP, float>(tensor.master);
}

// Reads `count` ≤ N values, then zeros.
template <u32 N, bool PACKED, class T> DEVICE Packed<T, N> read(const T *from, u32 count) {
    if constexpr (PACKED) {
        return *reinterpret_cast<const Packed<T, N> *>(from);
    } else {
        Packed<T, N> to;
        UNROLL for (u32 i = 0; i < N; ++i) to[i] = i < count ? from[i] : T(0);
        return to;
    }
}

// Writes the first `count` ≤ N values.
template <bool PACKED, u32 N, class T>
DEVICE void write(T *to, const Packed<T, N> &from, u32 count) {
    if constexpr (PACKED) {
        *reinterpret_cast<Packed<T, N> *>(to) = from;
    } else {
        UNROLL for (u32 i = 0; i < N; ++i) {
            if (i < count)
                to[i] = from[i];
        }
    }
}

// The value of an f16 or bf16.
DEVICE float of_half(u32 type, u16 half) { return type == F16 ? of_f16(half) : of_bf16(half); }

// Reads values of any type.
template <u32 N, bool PACKED>
DEVICE Group<N> read_any(const void *from, u32 type, u64 at, u32 count) {
    if (type == F32)
        return read<N, PACKED>(static_cast<const float *>(from) + at, count);
    const auto half = read<N, PACKED>(static_cast<const u16 *>(from) + at, count);
    Group<N> to;
    UNROLL for (u32 i = 0; i < N; ++i) to[i] = of_half(type, half[i]);
    return to;
}

// The nearest f16 or bf16.
DEVICE u16 to_half(u32 type, float value) { return type == F16 ? to_f16(value) : to_bf16(value); }

// Writes values of any type, rounded to the nearest.
template <bool PACKED, u32 N>
DEVICE void write_any(void *to, u32 type, u64 at, const Group<N> &from, u32 count) {
    if (type == F32)
        return write<PACKED>(static_cast<float *>(to) + at, from, count);
    Packed<u16, N> half;
    UNROLL for (u32 i = 0; i < N; ++i) {
        half[i] = to_half(type, from[i]);
    }
    write<PACKED>(static_cast<u16 *>(to) + at, half, count);
}

// The factor of the gradients in this step.
DEVICE float gradient_factor(const Plan &plan) {
    return plan.gradient_square ? plan.control->gradient_factor : 1.0f;
}

// The gradients that the arithmetic uses: multiplied by their factor.
template <u32 N, bool PACKED>
DEVICE Group<N> read_gradients(const Plan &plan, const Tensor &tensor, const Pointers &at, u64 from,
                               u32 count) {
    Group<N> g = read_any<N, PACKED>(at.g, tensor.type, from, count);
    const float factor = gradient_factor(plan);
    UNROLL for (u32 i = 0; i < N; ++i) g[i] *= factor;
    return g;
}

// The parameters that the arithmetic uses: their master copy if there is one, but for those that
// someone else has written since, such as loaded weights.
template <u32 N, bool PACKED>
DEVICE Group<N> read_parameters(const Tensor &tensor, const Pointers &at, u64 from, u32 count) {
    if (!tensor.master)
        return read<N, PACKED>(static_cast<const float *>(at.p) + from, count);
    Group<N> p = read<N, PACKED>(tensor.master + from, count);
    const auto half = read<N, PACKED>(static_cast<const u16 *>(at.p) + from, count);
    UNROLL for (u32 i = 0; i < N; ++i) {
        if (half[i] != to_half(tensor.type, p[i]))
            p[i] = of_half(tensor.type, half[i]);
    }
    return p;
}

template <bool PACKED, u32 N>
DEVICE void write_parameters(const Tensor &tensor, const Pointers &at, u64 to,
                             const Group<N> &values, u32 count) {
    if (tensor.master)
        write<PACKED>(tensor.master + to, values, count);
    write_any<PACKED>(at.p, tensor.type, to, values, count);
}

// The unit of a block.
struct Unit {
    u32 index;
    u32 tensor;
    u32 first_tile;
    u32 end_tile;
};

DEVICE Unit unit_of(const Arguments &arguments) {
    const Plan &plan = arguments.plan;
    Unit unit;
    unit.index = arguments.first_unit + blockIdx.x;
    unit.tensor = plan.units[unit.index];
    const Tensor &tensor = plan.tensors[unit.tensor];
    unit.first_tile = (unit.index - tensor.first_unit) * tensor.unit_tiles;
    unit.end_tile = smaller(tensor.tiles, unit.first_tile + tensor.unit_tiles);
    return unit;
}

// Copies the tensor of a unit to shared memory, where all threads read it again and again.
DEVICE void share(Tensor &to, const Tensor &from) {
    EACH_THREAD(t, THREADS) {
        for (u32 at = t; at < sizeof(Tensor) / sizeof(u32); at += THREADS)
            reinterpret_cast<u32 *>(&to)[at] = reinterpret_cast<const u32 *>(&from)[at];
    }
    BARRIER;
}

// Whether the step is skipped because a gradient is invalid.
DEVICE bool is_refused(const Arguments &arguments) {
    return arguments.plan.control->bad[arguments.parity] != 0;
}

} // namespace lopt
