"""A trained net inside a compiled simulation: does a small net balance a pole as its teacher does?

A cart carries a pole that falls over by itself. A linear controller pushes the cart so that the pole stays upright; a
4-32-16-1 net learns its pushes from examples. Then both drive thousands of noisy simulations, in parallel, in one
compiled function that takes the controller as an argument.
"""
import time

import numba
import numpy as np

import fastmlp

STEP, LIMIT, FORCE = 0.02, 0.4, 15.0                                   # seconds, radians, newtons
GAINS = np.array([-2.0, -4.0, -60.0, -12.0])                           # of position, speed, angle, turning


@numba.njit(cache=True)
def move(state, force):
    """One step of Euler's method. Equations: Barto, Sutton & Anderson 1983, without friction."""
    _, speed, angle, turning = state
    cart, pole, half = 1.0, 0.1, 0.5
    push = (force + pole * half * turning ** 2 * np.sin(angle)) / (cart + pole)
    fall = (9.8 * np.sin(angle) - np.cos(angle) * push) / (
        half * (4 / 3 - pole * np.cos(angle) ** 2 / (cart + pole)))
    slide = push - pole * half * fall * np.cos(angle) / (cart + pole)
    state[0] += STEP * speed
    state[1] += STEP * slide
    state[2] += STEP * turning
    state[3] += STEP * fall


@numba.njit(cache=True)
def linear(gains, state, force):
    force[0] = min(max(-(gains @ state), -FORCE), FORCE)


@numba.njit(cache=True, parallel=True)
def share_upright(net, gains, by_net, starts, noise, steps):
    """The share of runs in which the pole never falls. Each thread has its own state and force; the net is shared."""
    upright = 0
    for run in numba.prange(len(starts)):
        state, force = starts[run].copy(), np.empty(1)
        np.random.seed(run)                                            # noqa: NPY002 (Numba's, one a thread)
        fallen = False
        for _ in range(steps):
            if by_net:
                net(state, force)                                      # no allocation, no Python, no lock
            else:
                linear(gains, state, force)
            move(state, force[0] + noise * np.random.standard_normal())   # noqa: NPY002
            fallen = fallen or abs(state[2]) > LIMIT
        upright += not fallen
    return upright / len(starts)


def main(runs=2000, steps=500):
    rng = np.random.default_rng(0)
    states = rng.uniform(-1, 1, (20_000, 4)) * (1, 2, LIMIT, 2)
    pushes = np.clip(-states @ GAINS, -FORCE, FORCE)
    model = fastmlp.train(states, pushes / FORCE, hidden=(32, 16), activation="tanh", epochs=15, learning_rate=0.003,
                          seed=0)
    model.weights[-1][:] *= FORCE                                      # in newtons again
    model.biases[-1][:] *= FORCE
    starts = rng.uniform(-1, 1, (runs, 4)) * (0.5, 0.5, 0.1, 0.5)
    net = model.as_njit()
    found = {}
    for by_net, name in ((False, "linear controller"), (True, "net")):
        share_upright(net, GAINS, by_net, starts[:1], 5.0, 1)          # compiles, or finds its machine code
        start = time.perf_counter()
        found[name] = share_upright(net, GAINS, by_net, starts, 5.0, steps)
        seconds = time.perf_counter() - start
        print(f"{name}: upright in {found[name]:.1%} of {runs} runs; {seconds / runs / steps * 1e9:.0f} ns a step")
    return found


if __name__ == "__main__":
    main()
