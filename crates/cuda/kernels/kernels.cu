// The kernels of one optimizer step, in the order of their launches; `src/plan.rs` says which of
// them a step has. Each is one call of a function of the headers.
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

KERNEL(THREADS, 3) lopt_adam(ARGUMENT Arguments arguments) { lopt::adam(arguments); }

#define OF_WIDTH(name, H)                                                                         \
    KERNEL(THREADS, 2) lopt_##name##_##H(ARGUMENT Arguments arguments) {                          \
        lopt::name<H>(arguments);                                                                 \
    }
#define ALL_OF_WIDTH(H) OF_WIDTH(finish, H) OF_WIDTH(heads, H) OF_WIDTH(apply, H)

ALL_OF_WIDTH(4)
ALL_OF_WIDTH(8)
ALL_OF_WIDTH(16)
ALL_OF_WIDTH(32)
