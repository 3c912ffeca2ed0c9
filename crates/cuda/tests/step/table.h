// The kernels compiled for the CPU, by name.
#pragma once

// A kernel has one of the two.
struct Kernel {
    const char *name;
    void (*run)(lopt::Arguments);
    void (*run_fleet)(lopt::FleetArguments);
};

#define ONE(name) {"lopt_" #name, lopt_##name, nullptr}, FLEET(name)
#define FLEET(name) {"lopt_fleet_" #name, nullptr, lopt_fleet_##name}
#define OF_EACH_WIDTH(H) ONE(finish_##H), ONE(heads_##H), ONE(apply_##H)

static const Kernel KERNELS[] = {
    ONE(gradients), ONE(lines), ONE(accumulate), ONE(finish), ONE(adam),
    OF_EACH_WIDTH(4), OF_EACH_WIDTH(8), OF_EACH_WIDTH(16), OF_EACH_WIDTH(32),
    FLEET(forward), FLEET(loss), FLEET(backward),
};
