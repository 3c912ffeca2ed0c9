// The kernels of one optimizer step, in the order of their launches; `src/launches.rs` says which
// of them a step has. Each is one call of a function of the headers.
#include "accumulate.cuh"
#include "adam.cuh"
#include "apply.cuh"
#include "finish.cuh"
#include "gradients.cuh"
#include "lines.cuh"

using lopt::Arguments;
using lopt::LINE_THREADS;
using lopt::THREADS;

KERNEL(THREADS, 2) lopt_gradients(ARGUMENT Arguments arguments) { lopt::gradients(arguments); }

KERNEL(LINE_THREADS, 1) lopt_lines(ARGUMENT Arguments arguments) { lopt::lines(arguments); }

KERNEL(THREADS, 2) lopt_accumulate(ARGUMENT Arguments arguments) { lopt::accumulate(arguments); }

KERNEL(THREADS, 2) lopt_finish(ARGUMENT Arguments arguments) { lopt::finish<0>(arguments); }

KERNEL(THREADS, 2) lopt_adam(ARGUMENT Arguments arguments) { lopt::adam(arguments); }

#define KERNELS_OF_WIDTH(H)                                                                       \
    KERNEL(THREADS, 2) lopt_finish_##H(ARGUMENT Arguments arguments) { lopt::finish<H>(arguments); } \
    KERNEL(THREADS, 2) lopt_heads_##H(ARGUMENT Arguments arguments) { lopt::heads<H>(arguments); }   \
    KERNEL(THREADS, 2) lopt_apply_##H(ARGUMENT Arguments arguments) { lopt::apply<H>(arguments); }

KERNELS_OF_WIDTH(4)
KERNELS_OF_WIDTH(8)
KERNELS_OF_WIDTH(16)
KERNELS_OF_WIDTH(32)
