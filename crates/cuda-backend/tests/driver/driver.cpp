// NVIDIA's driver and libraries, as far as candle and the backend call them in the tests: memory is
// that of the host, and a launch runs the kernel on the CPU before it returns. Each call that a step could make is a line in the file that LOPT_CUDA_LOG names.
#include "kernels.cu"
#include "table.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <mutex>

#include "candle.h"

using Handle = void *;
using Address = unsigned long long;

enum Status { SUCCESS = 0, INVALID_VALUE = 1, NOT_FOUND = 500 };

static int some;
static const Handle SOME = &some;

static void log(const char *what, const char *name, size_t bytes) {
    static std::mutex mutex;
    const std::lock_guard<std::mutex> guard(mutex);
    const char *path = std::getenv("LOPT_CUDA_LOG");
    if (std::FILE *file = path ? std::fopen(path, "a") : nullptr) {
        if (name)
            std::fprintf(file, "%s %s\n", what, name);
        else
            std::fprintf(file, "%s %zu\n", what, bytes);
        std::fclose(file);
    }
}

static Status allocate(Address *to, size_t bytes) {
    log("allocate", nullptr, bytes);
    void *memory = std::aligned_alloc(256, (bytes + 511) / 256 * 256);
    *to = reinterpret_cast<Address>(memory);
    return SUCCESS;
}

static Status release(Address memory) {
    log("free", nullptr, 0);
    std::free(reinterpret_cast<void *>(memory));
    return SUCCESS;
}

// The threads of a block that a kernel is written for.
static unsigned threads_of(const char *kernel) {
    if (std::strstr(kernel, "_lines"))
        return lopt::LINE_THREADS;
    if (std::strstr(kernel, "_forward") || std::strstr(kernel, "_backward"))
        return lopt::PRODUCT_THREADS;
    return lopt::THREADS;
}

static bool is_operation(Handle function) {
    const auto at = static_cast<const Operation *>(function);
    return std::begin(OPERATIONS) <= at && at < std::end(OPERATIONS);
}

extern "C" {

Status cuInit(unsigned) { return SUCCESS; }
Status cuDriverGetVersion(int *version) { return *version = 13000, SUCCESS; }
Status cuDeviceGetCount(int *count) { return *count = 1, SUCCESS; }
Status cuDeviceGet(int *device, int ordinal) {
    *device = ordinal;
    return ordinal == 0 ? SUCCESS : INVALID_VALUE;
}
Status cuDeviceGetAttribute(int *value, int, int) { return *value = 1, SUCCESS; }
Status cuDevicePrimaryCtxRetain(Handle *context, int) { return *context = SOME, SUCCESS; }
Status cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
Status cuCtxDestroy_v2(Handle) { return SUCCESS; }
Status cuCtxGetCurrent(Handle *context) { return *context = SOME, SUCCESS; }
Status cuCtxSetCurrent(Handle) { return SUCCESS; }
Status cuCtxSynchronize() { return SUCCESS; }
Status cuStreamCreate(Handle *stream, unsigned) { return *stream = SOME, SUCCESS; }
Status cuStreamDestroy_v2(Handle) { return SUCCESS; }
Status cuStreamWaitEvent(Handle, Handle, unsigned) { return SUCCESS; }
Status cuStreamSynchronize(Handle) { return log("synchronize", nullptr, 0), SUCCESS; }
Status cuStreamIsCapturing(Handle, int *status) { return *status = 0, SUCCESS; }
Status cuEventCreate(Handle *event, unsigned) { return *event = SOME, SUCCESS; }
Status cuEventDestroy_v2(Handle) { return SUCCESS; }
Status cuEventRecord(Handle, Handle) { return log("event", nullptr, 0), SUCCESS; }
Status cuEventSynchronize(Handle) { return log("synchronize", nullptr, 0), SUCCESS; }

Status cuMemAllocAsync(Address *to, size_t bytes, Handle) { return allocate(to, bytes); }
Status cuMemAlloc_v2(Address *to, size_t bytes) { return allocate(to, bytes); }
Status cuMemFreeAsync(Address memory, Handle) { return release(memory); }
Status cuMemFree_v2(Address memory) { return release(memory); }

Status cuMemsetD8Async(Address to, unsigned char value, size_t bytes, Handle) {
    std::memset(reinterpret_cast<void *>(to), value, bytes);
    return SUCCESS;
}
Status cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t bytes, Handle) {
    log("upload", nullptr, bytes);
    std::memcpy(reinterpret_cast<void *>(to), from, bytes);
    return SUCCESS;
}
Status cuMemcpyDtoHAsync_v2(void *to, Address from, size_t bytes, Handle) {
    log("read", nullptr, bytes);
    std::memcpy(to, reinterpret_cast<void *>(from), bytes);
    return SUCCESS;
}
Status cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, Handle) {
    log("copy", nullptr, bytes);
    std::memcpy(reinterpret_cast<void *>(to), reinterpret_cast<void *>(from), bytes);
    return SUCCESS;
}
Status cuMemcpyPeerAsync(Address, Handle, Address, Handle, size_t, Handle) { return INVALID_VALUE; }

Status cuModuleLoad(Handle *, const char *) { return NOT_FOUND; }
Status cuModuleLoadData(Handle *module, const void *) { return *module = SOME, SUCCESS; }
Status cuModuleUnload(Handle) { return SUCCESS; }
Status cuModuleGetFunction(Handle *function, Handle, const char *name) {
    for (const Kernel &kernel : KERNELS) {
        if (std::strcmp(kernel.name, name) == 0) {
            *function = const_cast<Kernel *>(&kernel);
            return SUCCESS;
        }
    }
    for (const Operation &operation : OPERATIONS) {
        if (std::strcmp(operation.name, name) == 0) {
            *function = const_cast<Operation *>(&operation);
            return SUCCESS;
        }
    }
    log("missing", name, 0);
    return NOT_FOUND;
}
Status cuLaunchKernel(Handle function, unsigned blocks, unsigned networks, unsigned z,
                      unsigned threads, unsigned, unsigned, unsigned, Handle, void **arguments,
                      void **) {
    static std::mutex mutex;
    const std::lock_guard<std::mutex> guard(mutex);
    if (is_operation(function)) {
        const Operation &operation = *static_cast<const Operation *>(function);
        log("launch", operation.name, 0);
        operation.run(arguments);
        return SUCCESS;
    }
    const Kernel &kernel = *static_cast<const Kernel *>(function);
    const bool is_one = kernel.run != nullptr;
    if (blocks * networks == 0 || networks > 65535 || z != 1 || (is_one && networks != 1) ||
        threads != threads_of(kernel.name))
        return INVALID_VALUE;
    log("launch", kernel.name, 0);
    lopt::Arguments one;
    lopt::FleetArguments fleet;
    if (is_one)
        std::memcpy(&one, arguments[0], sizeof one);
    else
        std::memcpy(&fleet, arguments[0], sizeof fleet);
    for (blockIdx.y = 0; blockIdx.y < networks; ++blockIdx.y) {
        for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x) {
            if (is_one)
                kernel.run(one);
            else
                kernel.run_fleet(fleet);
        }
    }
    return SUCCESS;
}

Status cuGetErrorName(Status, const char **text) { return *text = "error", SUCCESS; }
Status cuGetErrorString(Status status, const char **text) {
    *text = status == NOT_FOUND ? "there is no such kernel" : "invalid value";
    return SUCCESS;
}

int cublasCreate_v2(Handle *handle) { return *handle = SOME, 0; }
int cublasDestroy_v2(Handle) { return 0; }
int cublasSetStream_v2(Handle, Handle) { return 0; }
int cublasDgemmStridedBatched() { return INVALID_VALUE; }
int curandCreateGenerator(Handle *handle, int) { return *handle = SOME, 0; }
int curandDestroyGenerator(Handle) { return 0; }
int curandSetPseudoRandomGeneratorSeed(Handle, unsigned long long) { return 0; }
int curandSetStream(Handle, Handle) { return 0; }

} // extern "C"
