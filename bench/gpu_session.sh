#!/usr/bin/env bash
# Everything there is to find out on a machine with an NVIDIA GPU, in one command and less than nine minutes:
#
#     bench/gpu_session.sh OUTPUT
#
# Versions, the tests on the device, compute-sanitizer, then the benches. Every stage is a process of its own with its
# own time limit and log; one that fails is named at the end and does not stop the next. Peers that are not installed
# are named.
#
# The folder OUTPUT gets three files, and the checkout none: session.tar.gz, every log, written anew after each stage, so
# that a session that is cut off keeps what it had; rows.jsonl, every figure; and <gpu>.json, the figures together with
# those of this GPU that bench/results/gpu has: that file goes there.
#
# Needs no network. Of Python packages: fastmlp itself (this checkout will do), numpy, numba, numba-cuda 0.30 or later
# with nvvm, nvrtc and nvjitlink, cupy-cuda13x, nvidia-cublas, safetensors, tqdm, threadpoolctl, pytest, greenlet (for
# the simulator beside which the device's tests stand); as peers torch and jax with its CUDA plugin. Wheels to carry
# where they are missing or older, for Python 3.12: greenlet, numba-cuda, threadpoolctl, safetensors, tqdm, and
# nvidia-nvvm with nvidia-nvjitlink, unless a CUDA toolkit is installed. Nvidia-nvvm must be no newer than
# nvidia-nvjitlink, which links what it compiles (torch brings one): take that version of it, or carry both. The driver
# may be older than both within its CUDA version. compute-sanitizer comes with the CUDA toolkit.
set -u
[ $# -eq 1 ] || { echo "usage: $0 OUTPUT (a folder for what was found)"; exit 2; }
out=$(mkdir -p "$1" && cd "$1" && pwd) || exit 2
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 FASTMLP_CACHE_DIR="$work/cache" XLA_PYTHON_CLIENT_PREALLOCATE=false
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
[ -d /usr/local/cuda ] && export CUDA_HOME="${CUDA_HOME:-/usr/local/cuda}"
mkdir "$work/logs"
failed=""

keep() { # what there is so far, at once
    tar -czf "$out/session.tar.gz.part" -C "$work" logs && mv "$out/session.tar.gz.part" "$out/session.tar.gz"
}

stage() { # stage NAME SECONDS COMMAND...
    local name=$1 limit=$2 start=$SECONDS
    shift 2
    echo "== $name"
    if timeout -k 5 "$limit" "$@" >"$work/logs/$name.log" 2>&1; then
        echo "   done in $((SECONDS - start)) s"
    else
        echo "   FAILED with $? after $((SECONDS - start)) s; its log ends:"
        tail -n 12 "$work/logs/$name.log" | sed 's/^/   | /'
        failed="$failed $name"
    fi
    keep
}

show() { tail -n "$2" "$work/logs/$1.log"; }

figures() { stage "$1" "$2" python3 -m bench.gpu "$1" "$out/rows.jsonl"; show "$1" 40; }

stage versions 15 bash -c 'nvidia-smi; python3 -m bench.gpu versions'
show versions 40
stage smoke 60 python3 -m bench.gpu smoke
show smoke 5
FASTMLP_REQUIRE_CUDA=1 stage tests 100 python3 -m pytest -q -rfEs -p no:cacheprovider -k "gpu" \
    tests/test_cuda.py tests/test_cuda_training.py tests/test_cuda_large.py \
    tests/test_cuda_gradient.py tests/test_cuda_narrow.py tests/test_cuda_functions.py
show tests 3
figures epochs 75
figures peers 105
figures launches 15
figures kernels 45
figures accuracy 25
if command -v compute-sanitizer >"$work/logs/sanitizer.path"; then
    stage memcheck 40 compute-sanitizer --tool memcheck --error-exitcode 9 python3 -m bench.gpu sanitized
    stage racecheck 40 compute-sanitizer --tool racecheck --error-exitcode 9 python3 -m bench.gpu sanitized
else
    echo "== memcheck, racecheck: compute-sanitizer is not on the PATH"
    failed="$failed memcheck racecheck"
fi
stage collect 10 python3 -m bench.gpu collect "$out/rows.jsonl" "$out"
show collect 1
echo "== ${SECONDS} s in all; logs and figures in $out"
[ -z "$failed" ] || { echo "FAILED:$failed"; exit 1; }
