// What differs between a GPU and a CPU: everything else of these headers is the same source for
// both. On a CPU a kernel is a function that is called once for each block, and the threads of a
// block are a loop; or with CONCURRENT_THREADS threads of their own, which shows missing barriers.
//
// A kernel is a sequence of parts. Within EACH_THREAD a part runs for every thread of the block;
// BARRIER separates two parts if the second reads what other threads wrote in the first. A value
// that a thread needs in a later part lies in SHARED memory, or if it is its own, in an array
// `name[MINE(t)]` that KEPT declares.
#pragma once

#ifdef __CUDACC__

#define DEVICE static __device__ __forceinline__
#define DEVICE_MEMBER __device__ __forceinline__
#define KERNEL(threads, blocks) extern "C" __global__ void __launch_bounds__(threads, blocks)
#define ARGUMENT const __grid_constant__
#define SHARED __shared__
#define EACH_THREAD(t, count) if (const u32 t = threadIdx.x; t < (count))
#define BARRIER __syncthreads()
#define KEPT(type, name, threads, count) type name[1][count]
#define MINE(t) 0
#define FENCE __threadfence()
// Reads memory again after it: what a loop reads in each turn does not take registers throughout.
#define READ_AGAIN asm volatile("" ::: "memory")
#define UNROLL _Pragma("unroll")
#define ROLLED _Pragma("unroll 1")

#else

#include <cmath>
#include <cstring>
#ifdef CONCURRENT_THREADS
#include <pthread.h>
#endif

#define DEVICE static inline
#define DEVICE_MEMBER inline
#define KERNEL(threads, blocks) extern "C" void
#define ARGUMENT const
#define SHARED static
#define KEPT(type, name, threads, count) static type name[threads][count]
#define MINE(t) (t)
#ifdef CONCURRENT_THREADS
#define EACH_THREAD(t, count) if (const u32 t = cpu::thread; t < (count))
#define BARRIER cpu::wait()
#else
#define EACH_THREAD(t, count)                                                                     \
    for (u32 at_##t = 0, t = 0; at_##t < (count) && (t = cpu::ordered(at_##t, count), true);      \
         ++at_##t)
#define BARRIER ((void)0)
#endif
#define FENCE ((void)0)
#define READ_AGAIN ((void)0)
#define UNROLL
#define ROLLED

#endif

namespace lopt {

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;

} // namespace lopt

#ifndef __CUDACC__

struct BlockIndex {
    lopt::u32 x, y;
};
static BlockIndex blockIdx;

namespace lopt::cpu {

#ifdef CONCURRENT_THREADS

// The thread of a block that this one stands for.
static thread_local u32 thread;
static pthread_barrier_t barrier;

static inline void wait() { pthread_barrier_wait(&barrier); }

#else

// Whether the threads of a block run from the last to the first. The results must not depend on it.
static bool backwards = false;

static inline u32 ordered(u32 at, u32 count) { return backwards ? count - 1 - at : at; }

#endif

} // namespace lopt::cpu

#endif

namespace lopt {

#ifdef __CUDACC__

// A value that another block wrote in the same launch: read past the first-level cache.
template <class T> DEVICE T fresh(const T *from) { return __ldcg(from); }

DEVICE u32 add_atomically(u32 *to, u32 value) { return atomicAdd(to, value); }
DEVICE void raise(u32 *flag) { atomicOr(flag, 1u); }

DEVICE u32 bits_of(float x) { return __float_as_uint(x); }
DEVICE float of_bits(u32 bits) { return __uint_as_float(bits); }

#else

template <class T> DEVICE T fresh(const T *from) { return *from; }

DEVICE u32 add_atomically(u32 *to, u32 value) {
    return __atomic_fetch_add(to, value, __ATOMIC_SEQ_CST);
}
DEVICE void raise(u32 *flag) { __atomic_fetch_or(flag, 1u, __ATOMIC_SEQ_CST); }

DEVICE u32 bits_of(float x) {
    u32 bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}
DEVICE float of_bits(u32 bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

#endif

DEVICE u32 smaller(u32 a, u32 b) { return a < b ? a : b; }

// A condition that the compiler knows.
template <bool VALUE> struct Known {
    static constexpr bool value = VALUE;
};

// Calls `use` with a condition as a constant.
template <class Use> DEVICE void choose(bool condition, Use use) {
    if (condition)
        use(Known<true>());
    else
        use(Known<false>());
}

} // namespace lopt
