"""Nets from other libraries, as people have them when they convert them."""
import numpy as np
import pytest

import fastmlp

X = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)


def stepped(torch, module):
    """The module after a step of some optimizer: weights that hooks make are stale until the next forward pass."""
    with torch.no_grad():
        module(torch.from_numpy(X))
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return module


@pytest.mark.parametrize("make", ["weight_norm", "spectral_norm", "parametrizations.weight_norm",
                                  "parametrizations.spectral_norm", "parametrizations.orthogonal", "prune"])
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torch_net_whose_weights_are_made_by_other_numbers(make):
    """Read from `.weight`, they were those of the last forward pass: outputs off by 0.07."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
    nn, utils = torch.nn, torch.nn.utils
    torch.manual_seed(0)
    if make == "prune":
        from torch.nn.utils import prune
        layer = prune.l1_unstructured(nn.Linear(6, 8), "weight", 0.5)
    else:
        layer = eval(f"utils.{make}", {"utils": utils})(nn.Linear(6, 8))
    module = stepped(torch, nn.Sequential(layer, nn.ReLU(), nn.Linear(8, 1)))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    model = fastmlp.from_torch(module)
    assert all((value == before[name]).all() for name, value in module.state_dict().items()), "the module is changed"
    assert module.training
    with torch.no_grad():
        wanted = module.eval()(torch.from_numpy(X)).numpy().ravel()
    np.testing.assert_allclose(model.predict(X), wanted, atol=1e-5)


def test_a_torch_net_with_hooks_of_its_owner():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
    for register in ("register_forward_hook", "register_forward_pre_hook"):
        for place in range(3):
            module = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
            getattr(module[place], register)(lambda *_: None)
            with pytest.raises(ValueError, match=r"from_torch: .* has the hook .*; remove it first"):
                fastmlp.from_torch(module)


def test_a_torch_layer_that_only_shares_its_name():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")

    class Linear(torch.nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    with pytest.raises(ValueError, match="from_torch does not support Linear"):
        fastmlp.from_torch(torch.nn.Sequential(Linear(6, 1)))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_torch_net_of_half_precision(dtype):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
    module = torch.nn.Sequential(torch.nn.Linear(6, 2)).to(getattr(torch, dtype))
    model = fastmlp.from_torch(module)
    np.testing.assert_array_equal(model.weights[0].T, module[0].weight.detach().float().numpy())


@pytest.mark.parametrize("activation", ["relu", "logistic", "sigmoid", "gelu", "silu", "leaky_relu", "identity",
                                        ("relu", "tanh"), ["gelu", "logistic"]], ids=str)
def test_our_own_estimators(activation):
    """Activations that scikit-learn lacks raised KeyError."""
    pytest.importorskip("sklearn")
    y = X[:, 0] > 0
    for estimator in (fastmlp.MLPClassifier((5, 4), activation=activation, max_iter=3, random_state=0, dropout=0.1),
                      fastmlp.MLPRegressor("squared_error", (5, 4), activation=activation, max_iter=3)):
        with pytest.warns(UserWarning, match="Maximum iterations"):
            estimator.fit(X, y)
        model = fastmlp.from_sklearn(estimator)
        np.testing.assert_allclose(model.predict(X), estimator.predict(X), atol=1e-5)
        assert model.dropout == ((0.1, 0.1) if hasattr(estimator, "classes_") else (0, 0))


@pytest.mark.parametrize("loss", ["squared_error", "poisson", "huber", "absolute_error", "quantile",
                                  fastmlp.Huber(2.5), fastmlp.Quantile(0.9)], ids=str)
def test_the_loss_of_our_own_regressor(loss):
    """Huber became squared error, and training further went another way."""
    pytest.importorskip("sklearn")
    y = np.abs(X[:, 0])
    with pytest.warns(UserWarning, match="Maximum iterations"):
        model = fastmlp.from_sklearn(fastmlp.MLPRegressor(loss, (5,), max_iter=3).fit(X, y))
    name = {fastmlp.Huber: "huber", fastmlp.Quantile: "quantile"}.get(type(loss), loss)
    assert (model.loss, model.task.loss_parameter) == (name, {
        fastmlp.Huber(2.5): 2.5, fastmlp.Quantile(0.9): 0.9, "huber": 1, "quantile": 0.5}.get(loss, 0))


def test_an_estimator_whose_options_were_changed_after_fit():
    pytest.importorskip("sklearn")
    with pytest.warns(UserWarning, match="Maximum iterations"):
        estimator = fastmlp.MLPRegressor("huber", (5,), max_iter=3).fit(X, X[:, 0])
    for change, message in (({"activation": ("relu", "relu")}, "is not what 1 hidden layers can have"),
                            ({"loss": "poisson", "activation": "relu"}, "loss='poisson' is not what this net")):
        with pytest.raises(ValueError, match=message):
            fastmlp.from_sklearn(estimator.set_params(**change))
