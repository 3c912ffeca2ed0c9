// The kernels compiled for the CPU, by name.
#pragma once

struct Kernel {
    const char *name;
    void (*run)(lopt::Arguments);
};

#define KERNELS_OF_WIDTH(H)                                                                       \
    {"lopt_finish_" #H, lopt_finish_##H}, {"lopt_heads_" #H, lopt_heads_##H},                     \
        {"lopt_apply_" #H, lopt_apply_##H}

static const Kernel KERNELS[] = {
    {"lopt_gradients", lopt_gradients}, {"lopt_lines", lopt_lines},
    {"lopt_accumulate", lopt_accumulate}, {"lopt_finish", lopt_finish},
    {"lopt_adam", lopt_adam}, KERNELS_OF_WIDTH(4), KERNELS_OF_WIDTH(8), KERNELS_OF_WIDTH(16),
    KERNELS_OF_WIDTH(32),
};
