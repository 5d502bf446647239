"""The benchmarks: every kernel and every peer, measured side by side and checked before it is timed.

    pip install -e ".[bench,plot]"               # peers that are not installed are named and left out
    pytest --benchmark                           # everything; a part: -k "lab_2 and JAX", bench/bench_kernels.py
    python -m bench.run                          # everything, kept in bench/results/<machine>.json
    python -m bench.run --again                  # once more into the same file: how well the ratios repeat
    python -m bench.report                       # bench/results/*.json -> bench/RESULTS.md and its pictures

How a figure is made
    Every implementation lives in a process of its own (`worker`), started with the number of threads it may use:
    one thread means one core by affinity, for everybody alike. In each short round the machine's ceiling, our
    kernels and the peer run one after the other, each timed inside its own process (`timing`). A ratio is the median
    over rounds of peer / ours within a round, so a slow spell of the machine falls on both sides; p20 and p80 show
    what is left. A fraction of the ceiling is taken round by round as well.

`nets` what is trained, on which data · `peers` who trains it, `training` how a worker does · `operations` single
kernels, ours and theirs · `rows` one row through a net · `estimators` ours and scikit-learn's own · `selection` grid
search and preset · `startup` a fresh process · `ceiling` what the machine can do · `machine` a neutral description of
it · `run` the whole suite, kept · `report`, `tables`, `pictures` RESULTS.md

Commands beside the suite: `streaming` rows in a file · `scale` MPI ranks · `interrupts` how soon Ctrl-C is answered ·
`gpu` the stages of gpu_session.sh, with `gpu_rows`, `gpu_kernels`, `gpu_floors`, `gpu_peers`, `gpu_report`
"""
