#!/usr/bin/env bash
# Everything there is to find out on a machine with an NVIDIA GPU, in one command and less than nine minutes:
#
#     bench/gpu_session.sh [folder for logs and figures; default gpu-session]
#
# Versions, the tests on the device, compute-sanitizer, then the benches: bench/results/gpu/<gpu>.json. Every stage is a
# process of its own with its own time limit and log; one that fails is named at the end and does not stop the next.
# Peers that are not installed are named.
#
# Needs no network. Of Python packages: fastmlp itself (this checkout will do), numpy, numba, numba-cuda 0.30 or later
# with nvvm, nvrtc and nvjitlink, cupy-cuda13x, nvidia-cublas, safetensors, tqdm, threadpoolctl, pytest, greenlet (for
# the simulator beside which the device's tests stand); as peers torch and jax with its CUDA plugin. Wheels to carry
# where they are missing or older, for Python 3.12: greenlet, numba-cuda, nvidia-nvvm (unless a CUDA toolkit is
# installed; not of a later CUDA than the driver's, which refuses its PTX), threadpoolctl, safetensors, tqdm.
# compute-sanitizer comes with the CUDA toolkit.
set -u
cd "$(dirname "$0")/.."
out=$(mkdir -p "${1:-gpu-session}" && cd "${1:-gpu-session}" && pwd)
export PYTHONUNBUFFERED=1 FASTMLP_CACHE_DIR="$out/cache" XLA_PYTHON_CLIENT_PREALLOCATE=false
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
failed=""

stage() { # stage NAME SECONDS COMMAND...
    local name=$1 limit=$2 start=$SECONDS
    shift 2
    echo "== $name"
    if timeout -k 5 "$limit" "$@" >"$out/$name.log" 2>&1; then
        echo "   done in $((SECONDS - start)) s"
    else
        echo "   FAILED with $? after $((SECONDS - start)) s; its log ends:"
        tail -n 12 "$out/$name.log" | sed 's/^/   | /'
        failed="$failed $name"
    fi
}

figures() { stage "$1" "$2" python3 -m bench.gpu "$1" "$out/rows.jsonl"; tail -n 40 "$out/$1.log"; }

stage versions 15 bash -c 'nvidia-smi; python3 -m bench.gpu versions'
cat "$out/versions.log"
stage smoke 60 python3 -m bench.gpu smoke
tail -n 5 "$out/smoke.log"
FASTMLP_REQUIRE_CUDA=1 stage tests 100 python3 -m pytest -q -rfEs -p no:cacheprovider -k "gpu" \
    tests/test_cuda.py tests/test_cuda_training.py tests/test_cuda_large.py \
    tests/test_cuda_gradient.py tests/test_cuda_narrow.py tests/test_cuda_functions.py
tail -n 3 "$out/tests.log"
figures epochs 75
figures peers 105
figures launches 15
figures kernels 45
figures accuracy 25
if command -v compute-sanitizer >"$out/sanitizer.path"; then
    stage memcheck 40 compute-sanitizer --tool memcheck --error-exitcode 9 python3 -m bench.gpu sanitized
    stage racecheck 40 compute-sanitizer --tool racecheck --error-exitcode 9 python3 -m bench.gpu sanitized
else
    echo "== memcheck, racecheck: compute-sanitizer is not on the PATH"
    failed="$failed memcheck racecheck"
fi
stage collect 10 python3 -m bench.gpu collect "$out/rows.jsonl"
tail -n 1 "$out/collect.log"
echo "== ${SECONDS} s in all; logs in $out"
[ -z "$failed" ] || { echo "FAILED:$failed"; exit 1; }
