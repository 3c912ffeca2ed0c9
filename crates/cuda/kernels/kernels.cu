// The kernels of one optimizer step, in the order of their launches; `src/plan.rs` says which of
// them a step has. Those of a fleet follow; `src/fleet.rs` has their order. Each calls functions of the
// headers.
#include "accumulate.cuh"
#include "adam.cuh"
#include "apply.cuh"
#include "finish.cuh"
#include "fleet.cuh"
#include "gradients.cuh"
#include "lines.cuh"

using lopt::Arguments;
using lopt::FleetArguments;
using lopt::LINE_THREADS;
using lopt::PRODUCT_THREADS;
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

// The same for all networks of a fleet in one launch, whose grid is [blocks, networks]. The networks'
// losses and gradients come first.

KERNEL(PRODUCT_THREADS, 4) lopt_fleet_forward(ARGUMENT FleetArguments at) { lopt::forward(at); }

KERNEL(THREADS, 2) lopt_fleet_loss(ARGUMENT FleetArguments at) { lopt::loss(at); }

KERNEL(PRODUCT_THREADS, 4) lopt_fleet_backward(ARGUMENT FleetArguments at) { lopt::backward(at); }

#define OF_FLEET(threads, blocks, name, function)                                                 \
    KERNEL(threads, blocks) lopt_fleet_##name(ARGUMENT FleetArguments at) {                       \
        lopt::function(lopt::arguments_of(at));                                                   \
    }

OF_FLEET(THREADS, 2, gradients, gradients)
OF_FLEET(LINE_THREADS, 1, lines, lines)
OF_FLEET(THREADS, 2, accumulate, accumulate)
OF_FLEET(THREADS, 2, finish, finish<0>)

// The last kernel of a step.
#define LAST_OF_FLEET(blocks, name, function)                                                     \
    KERNEL(THREADS, blocks) lopt_fleet_##name(ARGUMENT FleetArguments at) {                       \
        lopt::write_skipped(at);                                                                  \
        lopt::function(lopt::arguments_of(at));                                                   \
    }

LAST_OF_FLEET(3, adam, adam)

#define FLEET_OF_WIDTH(H)                                                                         \
    OF_FLEET(THREADS, 2, finish_##H, finish<H>)                                                   \
    OF_FLEET(THREADS, 2, heads_##H, heads<H>)                                                     \
    LAST_OF_FLEET(2, apply_##H, apply<H>)

FLEET_OF_WIDTH(4)
FLEET_OF_WIDTH(8)
FLEET_OF_WIDTH(16)
FLEET_OF_WIDTH(32)
