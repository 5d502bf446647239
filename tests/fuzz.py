"""Attacks on everything public with generated arguments: `python tests/fuzz.py ATTACK CALLS SEED` counts outcomes.

Every call is a good one with up to three things about it made odd or wrong: how an array lies in memory, its dtype,
shape and values, an option. What may come of it: "right" (as the same in float64), or "refused" (an error that names an
argument); its inputs are as they were. Anything else is "WRONG" and printed. A crash or a hang ends this process, which
is why `test_fuzz` runs it as a child. The attacks themselves stand in `fuzzing/`.
"""
import json
import os
import sys
import warnings
from collections import Counter

from fuzzing import models, operations, training
from fuzzing.outcomes import Wrong
from hypothesis import HealthCheck, Phase, given, seed, settings

from fastmlp.kernels import cpu, reference

ATTACKS = {
    "train": (training.train_calls, training.train),
    "predict": (models.predict_calls, models.predict),
    "train_perceptron": (training.perceptron_calls, training.perceptron),
    "load": (models.load_calls, models.load),
    "operations of cpu": (operations.op_calls, operations.run_op(cpu)),
    "operations of reference": (operations.op_calls, operations.run_op(reference)),
    "cross_validate": (training.selection_calls, training.selection),
    "estimators": (training.estimator_calls, training.estimators),
}


def attack(name, calls, number, shrink):
    """Counts of outcomes. With `shrink` the first wrong one is made small and raised; without, all are counted."""
    strategy, judge = ATTACKS[name]
    outcomes, examples = Counter(), []

    @settings(max_examples=calls, deadline=None, database=None, suppress_health_check=list(HealthCheck),
              phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,))
    @seed(number)
    @given(strategy())
    def run(call):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                outcomes[judge(call)] += 1
        except Exception as error:
            if shrink:
                raise
            outcomes["WRONG" if isinstance(error, Wrong) else f"WRONG: {type(error).__name__}"] += 1
            if len(examples) < 12:
                examples.append(f"{error!r:.400} from {call!r:.900}")

    run()
    return outcomes, examples


if __name__ == "__main__":
    import faulthandler
    faulthandler.enable()
    faulthandler.dump_traceback_later(float(os.environ.get("FUZZ_SECONDS", 600)), exit=True)
    found, shown = attack(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), shrink="--shrink" in sys.argv)
    print(json.dumps({"outcomes": found, "examples": shown}))
