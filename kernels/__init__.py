"""The kernels: every operation of a multi-layer perceptron, on plain arrays.

Three packages export the same names with the same meaning: `reference` (vectorised NumPy, the
mathematics and the baseline), `cpu` (Numba) and `cuda` (Numba and CuPy). Nothing here knows about models,
files or users; `fastmlp` validates user input once, on entry.

Letters: m rows (batch), k in-features, n out-features. ``dx`` means ∂loss/∂x.
Arrays are C-order, float32 or float64 (one dtype per call); inputs first, outputs last; the caller
allocates every output (what has the default None may be left out, and is returned).
On `cuda` every operation but `forward` takes stream=, a stream of CuPy's, PyTorch's or Numba's or its address:
`cuda.streams`; and `cuda.functions` has the same for one row or one number, inside other CUDA kernels.
Codes (`activation`, `loss`, `rule`) are the integers of `activations`, `losses` and `update_rules`.

Operations
----------
dense_forward(x, w, b, activation, y=None) -> y
    y (m, n) = f(x W + b);  x (m, k), w (k, n), b (n,)
dense_backward(x, w, y, dy, activation, dz, dx, dw, db)
    dz (m, n) = dy ⊙ f'(z);  dx (m, k) = dz Wᵀ;  dw (k, n) = xᵀ dz;  db (n,) = Σ_rows dz
    f' is taken from the output y. GELU and SiLU are not monotonic, so their output does not tell
    their slope: for these two, pass the pre-activation z = x W + b as ``y``.
    dz may be dy itself. dx may be an empty (0, 0) array: the first layer of a net needs none.
softmax_cross_entropy(z, labels, targets, weights, dz) -> loss
    loss = Σᵢ wᵢ lᵢ / Σᵢ wᵢ,  lᵢ = -Σⱼ tᵢⱼ log softmax(zᵢ)ⱼ;  dz = (softmax(z) Σⱼtᵢⱼ - t) wᵢ / Σ w
sigmoid_cross_entropy(z, targets, weights, dz) -> loss
    lᵢ = 1/n Σⱼ [max(z, 0) - z t + log(1 + e^-|z|)];  dz = (σ(z) - t) wᵢ / (n Σ w)
squared_error(z, targets, weights, dz) -> loss
    lᵢ = 1/n Σⱼ (z - t)²;  dz = 2 (z - t) wᵢ / (n Σ w)
pointwise_loss(loss, parameter, z, targets, weights, dz) -> loss
    lᵢ = 1/n Σⱼ l(z, t);  dz = l'(z, t) wᵢ / (n Σ w);  with e = z - t, loss one of
    HUBER            l = e²/2 where |e| ≤ δ, else δ (|e| - δ/2);  l' = e cut to -δ .. δ;  δ = parameter
    ABSOLUTE_ERROR   l = |e|;  l' = sign e
    POISSON          l = e^z - t - t (z - log t), half the deviance where z is the log of the mean;  l' = e^z - t
    QUANTILE         l = (1 - q) e where e > 0, else -q e;  l' = 1 - q or -q;  q = parameter
    In all four: z, dz (m, n); labels int64 (m,) class indices, or None or empty (0,) when targets are given;
    targets (m, n), or None or empty (0, 0) when labels are given; weights (m,), or None or empty (0,) for ones.
    Σ w = 0 gives loss 0 and dz 0. The sum over rows runs in float64. dz may be z itself.
perceptron_online(x, y, theta, bias) -> number of updates
    one pass in order: if yᵢ (θᵀxᵢ + b) ≤ 0 then θ ← θ + yᵢ xᵢ, b ← b + yᵢ;
    x (m, k), y (m,) of ±1, theta (k,) and bias (1,) updated in place
perceptron_batch(x, y, theta, bias, delta) -> number of mistakes
    Δ = Σ over rows with yᵢ (θᵀxᵢ + b) ≤ 0 of yᵢ (xᵢ, 1);  (θ, b) ← (θ, b) + Δ / m;  delta (k + 1,) scratch
perceptron_epoch(x, rows, labels, weights, positive, negative, l2, l1, intercept, steps, active, theta, bias, shrunk,
                 totals)
    scikit-learn's perceptron: K units θ_c (K, k), each one class against the rest, online through `rows`: where
    y (θᵀx + b) ≤ 0 then θ ← θ + η y w x, b ← b + intercept η y w, with η = positive[c] or negative[c];
    before that θ ← (1 - l2) θ, after it the cumulative l1 penalty. Details: `cpu.perceptron_epoch`.
    `reference` and `cpu` alone: every row waits for the one before, which a GPU has no use for.
shuffle(rows, seed)
    rows (m,) int64 in another order, by Fisher and Yates with xorshift32 (Marsaglia 2003); `reference` and `cpu` alone
update(rule, hyper, learning_rate, step, w, g, s1, s2)
    one optimizer step on flat arrays, in place: see `update_rules`
dropout(x, rate, seed, step, layer, y=None) -> y
    y = x / (1 - rate) where kept, else 0; element (r, c) is kept when
    philox(counter=(c, r // 4, layer, step), key=(seed low, seed high))[r % 4] >= floor(rate 2³²),
    with 0 <= seed < 2⁶³; four rows share a call, so that the lanes of a vector are neighbouring columns
philox(c0, c1, c2, c3, k0, k1) -> four uint32
    Philox4x32-10 (Salmon et al., SC 2011): counter-based, so a mask depends on nothing but its position
gather(x, rows, scale, out)
    out (m, k) = x[rows] * scale, in out's dtype;  x (any, k) uint8 or out's dtype, rows int64 (m,)
forward(parameters, sizes, activations, x, scale, n_threads, out)
    out = the net's output for every row of x (uint8 or the parameters' dtype), times `scale` on entry.
    The last activation may be SOFTMAX. n_threads: None chooses.
forward_few(parameters, sizes, activations, x, scale) -> out
    `cpu` alone: the same for a few rows, of arguments that are checked already; sizes, activations: tuples of int.

Training
--------
`parameters` is one flat array: W of the first layer in row-major order, its b, the next W, ...

prepare(parameters, sizes, activations, *, dropout, loss, rule, hyper, l2, batch_size, scale, seed, n_threads,
        alpha=0.0, loss_parameter=0.0) -> state
    Allocates everything once and takes a copy of the weights in the package's own layout.
    sizes (s0, ..., sL); activations: L codes, the last IDENTITY for the two cross-entropies (the loss
    contains the softmax or sigmoid); dropout: L rates, the last 0; hyper: `update_rules`;
    l2 adds ½ l2 Σ w² over weights, not biases, to the objective (its gradient, not to the loss shown);
    alpha adds ½ alpha Σ w² / Σᵢ wᵢ, as scikit-learn does: so much for the batch, not for a row of it.
    loss_parameter is δ of HUBER and q of QUANTILE.
    state.step counts finished optimizer steps; state.failed_step is the first whose loss was not finite, 0 if there
    was none (`cuda` does not know it: 0). `cuda` takes precision="tf32" or "bf16" as well: the products of
    training steps on the tensor cores.
train_epoch(state, x, labels, targets, weights, order, rates) -> (loss_sum, correct, weight_sum)
    order int64 (n,): the rows to visit; rates float64 (steps,): the learning rate of each batch, and
    steps = ceil(n / batch_size). loss_sum = Σ wᵢ lᵢ as training met them; correct: rows whose largest
    output is the label (softmax) or share of outputs on the correct side (sigmoid); 0.0 for squared_error.
    KeyboardInterrupt may pass through: the state then stands between two steps.
    A package with READS_IN_PLACE reads, from its second call on, no other rows of x than those: x may be a memory map.
batch_gradient(state, x, labels, targets, weights, rows, share) -> (loss_sum, correct, weight_sum)
    The first half of a step: state.gradients (one array, in the package's own layout) = share × the gradient of the
    batch `rows` (at most batch_size of them, or none), without l2. The same totals.
apply_gradients(state, learning_rate)
    The second half: l2 and one optimizer step by state.gradients. With share 1 the two are a step of train_epoch, to
    the bit; with the gradients of shares Σ w / Σ w of all, summed over processes, they are a step of them together.
    alpha is not in these. In `cuda` state.gradients lies on the GPU.
evaluate(state, x, labels, targets, weights) -> (loss_sum, correct, weight_sum)
    The same totals without dropout or training.
read_parameters(state, parameters)
    Copies the weights out into the flat layout.
write_parameters(state, parameters)
    The way back; optimizer and step are left as they are.
read_optimizer(state, s1, s2) / write_optimizer(state, step, s1, s2)
    The optimizer's slots in the same flat layout (arrays of size 0 for slots its rule does not use).
warm_up(dtype) / needs_compiling(dtype) -> bool
    `cpu` and `cuda` alone: compiles what training enters, or loads it from disk; whether it may have to compile.
"""
