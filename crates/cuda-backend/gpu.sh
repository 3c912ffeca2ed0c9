#!/bin/sh
# Runs on a machine with a GPU what `cargo xtask gpu` packed beside this script: the tests, then the
# measurements. The argument is the folder for the results, of which results.json has the figures of
# `measure` and `suites`; it takes less than ten minutes.
set -u
cd "$(dirname "$0")" || exit
to=${1:-results}
mkdir -p "$to"
rm -f "$to"/*.json
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | head -1 | tee "$to/card"
# NVIDIA's libraries, wherever they were installed.
for name in libcuda.so.1 libcublas.so.13 libcublasLt.so.13 libcurand.so.10 libnvrtc.so.13 libcudart.so.13; do
    path=$(find /usr /opt /lib -name $name 2>/dev/null | head -1)
    if [ -n "$path" ]; then LD_LIBRARY_PATH=${path%/*}:${LD_LIBRARY_PATH:-}; fi
done
export LD_LIBRARY_PATH
# The driver translates the kernels once.
export CUDA_CACHE_PATH=${TMPDIR:-/tmp}/lopt-kernels CUDA_CACHE_MAXSIZE=2000000000

codes=
# run NAME SECONDS LINES COMMAND…: runs a command for so long at most, and prints its last lines.
run() {
    name=$1 seconds=$2 lines=$3
    shift 3
    timeout "$seconds" "$@" >"$to/$name.log" 2>&1
    code=$?
    echo "$name: exit code $code"
    tail -"$lines" "$to/$name.log"
    codes="$codes${codes:+, }\"$name\": $code"
    # After each command, because the time may end at any of them.
    {
        printf '{"card": "%s", "exit codes": {%s}' "$(cat "$to/card")" "$codes"
        for part in steps suites; do
            if [ -s "$to/$part.json" ]; then printf ', "%s": %s' $part "$(cat "$to/$part.json")"; fi
        done
        printf '}\n'
    } >"$to/results.json"
    return $code
}

run tests 100 25 ./tests --nocapture --test-threads 1
status=$?
run measure 150 60 ./measure "$to/steps.json"
# Meta-training as users start it, on the GPU and on this machine's CPU.
for device in cuda:0 cpu; do
    on=${device%:0}
    run "meta-train-$on" 60 8 \
        ./lopt meta-train --device $device --set outer.steps=200 --run-dir "$to/run-on-$on"
done
# 500 steps of each task of the suites on both.
run suites 150 5 ./suites "$to/suites.json"
if command -v compute-sanitizer >/dev/null; then
    run sanitizer 60 3 compute-sanitizer --error-exitcode 9 ./tests invalid
fi
exit $status
