// Those of candle's own kernels that the tests need, and matrix products. Arguments are in candle's
// order: the number of elements, that of dimensions, then their sizes and the strides of each operand, or
// null if all are contiguous, operands, result.
#pragma once

struct Operation {
    const char *name;
    void (*run)(void **arguments);
};

template <class T> static T argument(void **arguments, unsigned at) {
    T value;
    std::memcpy(&value, arguments[at], sizeof value);
    return value;
}

// Where an element of an operand is.
static size_t place(size_t element, size_t dimensions, const size_t *sizes, const size_t *strides) {
    size_t at = 0;
    for (size_t dimension = dimensions; dimension-- > 0;) {
        at += element % sizes[dimension] * strides[dimension];
        element /= sizes[dimension];
    }
    return at;
}

template <class From, class To, To apply(From)> static void unary(void **arguments) {
    const auto count = argument<size_t>(arguments, 0), dimensions = argument<size_t>(arguments, 1);
    const auto sizes = argument<const size_t *>(arguments, 2);
    const auto from = argument<const From *>(arguments, 3);
    const auto to = argument<To *>(arguments, 4);
    for (size_t i = 0; i < count; ++i)
        to[i] = apply(from[sizes ? place(i, dimensions, sizes, sizes + dimensions) : i]);
}

static void add(void **arguments) {
    const auto count = argument<size_t>(arguments, 0), dimensions = argument<size_t>(arguments, 1);
    const auto sizes = argument<const size_t *>(arguments, 2);
    const auto a = argument<const float *>(arguments, 3), b = argument<const float *>(arguments, 4);
    const auto to = argument<float *>(arguments, 5);
    for (size_t i = 0; i < count; ++i) {
        to[i] = a[sizes ? place(i, dimensions, sizes, sizes + dimensions) : i]
            + b[sizes ? place(i, dimensions, sizes, sizes + 2 * dimensions) : i];
    }
}

static float relu(float x) { return std::fmax(x, 0.0f); }

using lopt::u16;

static const Operation OPERATIONS[] = {
    {"badd_f32", add},
    {"urelu_f32", unary<float, float, relu>},
    {"cast_bf16_f32", unary<u16, float, lopt::of_bf16>},
    {"cast_f32_bf16", unary<float, u16, lopt::to_bf16>},
};

extern "C" {

// C ← A·B of f32 matrices, whose columns lie one after another.
int cublasGemmStridedBatchedEx(void *, int a_is_transposed, int b_is_transposed, int m, int n, int k,
                               const float *alpha, const float *a, int type_of_a, int lda,
                               long long stride_a, const float *b, int type_of_b, int ldb,
                               long long stride_b, const float *beta, float *c, int type_of_c, int ldc,
                               long long stride_c, int batch, int, int) {
    const int f32 = 0;
    if (type_of_a != f32 || type_of_b != f32 || type_of_c != f32 || *alpha != 1.0f || *beta != 0.0f)
        return 1;
    for (int of = 0; of < batch; ++of, a += stride_a, b += stride_b, c += stride_c) {
        for (int column = 0; column < n; ++column) {
            for (int row = 0; row < m; ++row) {
                float sum = 0.0f;
                for (int i = 0; i < k; ++i) {
                    sum += (a_is_transposed ? a[row * lda + i] : a[i * lda + row])
                        * (b_is_transposed ? b[i * ldb + column] : b[column * ldb + i]);
                }
                c[column * ldc + row] = sum;
            }
        }
    }
    return 0;
}

} // extern "C"
