// Runs the kernels on a CPU: memory at the addresses that the plan was given, then commands.
//
// The file that the argument names holds: base address, size and number of the first bytes of the
// memory that have a content (u64 each), this content, and commands. A command is a kind (u64), then
//   1  launch: name (32 bytes), blocks, networks, threads, whether to run backwards (u64 each), the
//      argument;
//   2  print:  offset and size (u64 each) of a part of the memory, written to the output;
//   3  write:  offset and size (u64 each) of a part of the memory, and its new content.
// If it is "-", they are read from the standard input, and each print is answered at once.
#include "source.cu"
#include "table.h"

#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>
#include <thread>
#include <vector>

using lopt::u64;

static FILE *input;

[[noreturn]] static void fail(const char *why) {
    std::fprintf(stderr, "%s\n", why);
    std::exit(1);
}

static bool take(void *to, size_t size) { return std::fread(to, 1, size, input) == size; }

static u64 take_number() {
    u64 number;
    if (!take(&number, sizeof number))
        fail("the input ends early");
    return number;
}

#ifdef CONCURRENT_THREADS

// Calls `start` and then `run` for each block. The threads stay for all of them, because starting one
// takes much longer than its part of a block.
template <class Start, class Run>
static void run_blocks(u64 blocks, u64 count, bool, Start start, Run run) {
    pthread_barrier_init(&lopt::cpu::barrier, nullptr, (unsigned)count);
    std::vector<std::thread> threads;
    for (u64 at = 0; at < count; ++at) {
        threads.emplace_back([&, at] {
            lopt::cpu::thread = (lopt::u32)at;
            for (u64 block = 0; block < blocks; ++block) {
                lopt::cpu::wait();
                if (at == 0)
                    start(block);
                lopt::cpu::wait();
                run();
            }
        });
    }
    for (std::thread &thread : threads)
        thread.join();
    pthread_barrier_destroy(&lopt::cpu::barrier);
}

#else

// Calls `start` and then `run` for each block.
template <class Start, class Run>
static void run_blocks(u64 blocks, u64, bool backwards, Start start, Run run) {
    lopt::cpu::backwards = backwards;
    for (u64 at = 0; at < blocks; ++at) {
        start(backwards ? blocks - 1 - at : at);
        run();
    }
}

#endif

// Runs a kernel whose argument comes next.
template <class Argument>
static void run_grid(void (*kernel)(Argument), u64 blocks, u64 networks, u64 threads, bool backwards) {
    Argument argument;
    if (!take(&argument, sizeof argument))
        fail("the input ends early");
    const auto start = [&](u64 block) {
        blockIdx.x = (lopt::u32)(block % blocks);
        blockIdx.y = (lopt::u32)(block / blocks);
    };
    run_blocks(blocks * networks, threads, backwards, start, [&] { kernel(argument); });
}

static void launch() {
    char name[32];
    if (!take(name, sizeof name))
        fail("the input ends early");
    const u64 blocks = take_number(), networks = take_number(), threads = take_number();
    const bool backwards = take_number() != 0;
    for (const Kernel &kernel : KERNELS) {
        if (std::strcmp(kernel.name, name) == 0) {
            if (kernel.run)
                run_grid(kernel.run, blocks, networks, threads, backwards);
            else
                run_grid(kernel.run_fleet, blocks, networks, threads, backwards);
            return;
        }
    }
    fail("there is no such kernel");
}

int main(int count, char **arguments) {
    if (count == 2)
        input = std::strcmp(arguments[1], "-") == 0 ? stdin : std::fopen(arguments[1], "rb");
    if (!input)
        fail("no input");
    const u64 base = take_number(), size = take_number(), filled = take_number();
    void *memory = mmap(reinterpret_cast<void *>(base), size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory != reinterpret_cast<void *>(base))
        fail("the addresses are not free");
    if (filled > size || !take(memory, filled))
        fail("the input ends early");
    u64 command;
    while (take(&command, sizeof command)) {
        if (command == 1) {
            launch();
            continue;
        }
        const u64 at = take_number(), bytes = take_number();
        char *part = static_cast<char *>(memory) + at;
        if (at > size || bytes > size - at)
            fail("there is no such memory");
        if (command == 2) {
            std::fwrite(part, 1, bytes, stdout);
            std::fflush(stdout);
        } else if (!take(part, bytes)) {
            fail("the input ends early");
        }
    }
    return 0;
}
