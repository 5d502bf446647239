"""scikit-learn's own examination: its checks of estimators, and its tests of these three classes run on ours."""
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import fastmlp

sklearn = pytest.importorskip("sklearn")
pytest.importorskip("pandas", reason="check_estimator passes frames only where pandas is installed")

ESTIMATORS = {
    "MLPClassifier": lambda: fastmlp.MLPClassifier(max_iter=100),
    "MLPRegressor": lambda: fastmlp.MLPRegressor(max_iter=100),
    "Perceptron": lambda: fastmlp.Perceptron(max_iter=5),
}
# scikit-learn expects the same of its own Perceptron: its epochs visit repeated rows one by one.
NOT_EQUIVALENT = "a row of weight 2 moves the unit once by twice as much, a repeated row twice"
EXPECTED_FAILURES = {"Perceptron": {"check_sample_weight_equivalence_on_dense_data": NOT_EQUIVALENT,
                                    "check_sample_weight_equivalence_on_sparse_data": NOT_EQUIVALENT}}
SKIPS = {"check_array_api_input", "check_classifiers_multilabel_output_format_decision_function"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ESTIMATORS)
def test_check_estimator(name):
    from sklearn.utils.estimator_checks import check_estimator
    expected = EXPECTED_FAILURES.get(name, {})
    results = check_estimator(ESTIMATORS[name](), on_fail=None, on_skip=None, expected_failed_checks=expected)
    assert len(results) >= 55
    failed = {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"}
    assert not failed
    assert {result["check_name"] for result in results if result["status"] == "skipped"} <= SKIPS


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_weights_are_repetition_with_the_other_solvers(name):
    """The settings for which scikit-learn checks this of its own two."""
    from sklearn.utils.estimator_checks import check_sample_weight_equivalence_on_dense_data
    settings = {"MLPClassifier": {"solver": "lbfgs"},
                "MLPRegressor": {"solver": "sgd", "tol": 1e-2, "random_state": 42}}[name]
    check_sample_weight_equivalence_on_dense_data(name, ESTIMATORS[name]().set_params(**settings))


def test_no_more_is_expected_to_fail_than_in_scikit_learn():
    from sklearn.linear_model import Perceptron
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.utils._test_common.instance_generator import PER_ESTIMATOR_XFAIL_CHECKS
    for theirs in (MLPClassifier, MLPRegressor, Perceptron):
        assert EXPECTED_FAILURES.get(theirs.__name__, {}).keys() <= PER_ESTIMATOR_XFAIL_CHECKS.get(theirs, {}).keys()


# scikit-learn's test file: (its import, that import from us, how many tests it has at least)
SWAPS = {
    "neural_network/tests/test_mlp.py": ("from sklearn.neural_network import MLPClassifier, MLPRegressor",
                                         "from fastmlp import MLPClassifier, MLPRegressor", 50),
    "linear_model/tests/test_perceptron.py": ("from sklearn.linear_model import Perceptron",
                                              "from fastmlp import Perceptron", 5),
}
# Tests of theirs that cannot pass, and why.
PRIVATE = {
    "test_gradient": "calls the private method _loss_grad_lbfgs; tests/test_gradients.py holds our gradients instead",
}


@pytest.mark.parametrize("file", SWAPS)
def test_their_tests_on_our_classes(file, tmp_path):
    root = Path(sklearn.__file__).parent
    if not (root / file).is_file():
        pytest.skip(f"scikit-learn is installed without its tests ({file})")
    theirs, ours, at_least = SWAPS[file]
    source = (root / file).read_text(encoding="utf-8")
    assert source.count(theirs) == 1
    (tmp_path / Path(file).name).write_text(source.replace(theirs, ours), encoding="utf-8")
    (tmp_path / "conftest.py").write_text((root / "conftest.py").read_text(encoding="utf-8"), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml=report.xml",
               Path(file).name]
    output = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout
    assert (tmp_path / "report.xml").is_file(), output
    cases = list(ElementTree.parse(tmp_path / "report.xml").iter("testcase"))
    failed = {case.get("name") for case in cases if case.find("failure") is not None or case.find("error") is not None}
    assert len(cases) >= at_least
    assert failed <= set(PRIVATE), output
    assert not [case.get("name") for case in cases if case.find("skipped") is not None]
