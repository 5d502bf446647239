"""The dense layer, y = f(x W + b), and its gradients by the chain rule.

    z  = x W + b             y = f(z)
    dz = dy ⊙ f'(z)
    dx = dz Wᵀ               dW = xᵀ dz               db = Σ_rows dz
"""
import numpy as np

from .activations import activate, slope


def dense_forward(x, w, b, activation, y=None):
    """y = f(x W + b), which is returned. 2 m n k flops."""
    y = np.matmul(x, w, out=y)
    y += b
    activate(activation, y, y)
    return y


def dense_backward(x, w, y, dy, activation, dz, dx, dw, db):
    """dz = dy ⊙ f'(z), dx = dz Wᵀ, dw = xᵀ dz, db = Σ_rows dz. 4 m n k flops."""
    np.multiply(dy, slope(activation, y), out=dz)
    np.matmul(x.T, dz, out=dw)
    np.sum(dz, axis=0, out=db)
    if dx.size:
        np.matmul(dz, w.T, out=dx)
