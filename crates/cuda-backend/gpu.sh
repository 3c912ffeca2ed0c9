#!/bin/sh
# Runs on a machine with a GPU what `cargo xtask gpu` packed beside this script: the tests, then the
# measurements. The argument is the folder for the results; it takes less than ten minutes.
set -u
cd "$(dirname "$0")" || exit
to=${1:-results}
mkdir -p "$to"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | tee "$to/card"
# NVIDIA's libraries, wherever they were installed.
for name in libcuda.so.1 libcublas.so.13 libcublasLt.so.13 libcurand.so.10 libnvrtc.so.13 libcudart.so.13; do
    path=$(find /usr /opt /lib -name $name 2>/dev/null | head -1)
    if [ -n "$path" ]; then LD_LIBRARY_PATH=${path%/*}:${LD_LIBRARY_PATH:-}; fi
done
export LD_LIBRARY_PATH
# The driver translates the kernels once.
export CUDA_CACHE_PATH=${TMPDIR:-/tmp}/lopt-kernels CUDA_CACHE_MAXSIZE=2000000000
status=0
timeout 100 ./tests --nocapture --test-threads 1 >"$to/tests.log" 2>&1 || status=$?
tail -25 "$to/tests.log"
timeout 150 ./measure "$to/gpu.json" 2>&1 | tee "$to/measure.log"
# Meta-training as users start it, on the GPU and on this machine's CPU.
for device in cuda:0 cpu; do
    run=$to/run-on-${device%:0}
    timeout 60 ./lopt meta-train --device $device --set outer.steps=200 --run-dir "$run" >"$run.log" 2>&1
    echo "meta-train --device $device: $?"
    tail -8 "$run.log"
done
# 500 steps of each task of the suites on both.
timeout 150 ./suites "$to/suites.json" >"$to/suites.log" 2>&1
tail -5 "$to/suites.log"
if command -v compute-sanitizer >/dev/null; then
    timeout 60 compute-sanitizer --error-exitcode 9 ./tests invalid >"$to/sanitizer.log" 2>&1
    echo "compute-sanitizer: $?"
    tail -3 "$to/sanitizer.log"
fi
exit $status
