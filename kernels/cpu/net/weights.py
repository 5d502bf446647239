"""The weights' half of a training step: dW and db of a layer over the whole batch, and the optimizer on them.

A tile of dW = hᵀ dz is ROWS in-features by a panel of out-features; the optimizer takes it while it is hot, the
gradient never goes to memory. Every number is summed over the rows of the batch in their order, SUM_BLOCK rows at
a time.

A first layer that skips zeros takes its in-features in other company: a tile steps over the rows in which all its
in-features are zero, so it pairs quads of neighbours that are zero together (`zeros.pair_quads`). That changes
which tile a weight is computed in, not its bits.
"""
import numpy as np

from ... import update_rules
from ..jit import inlined, outlined
from ..tile.epilogues import apply_rule
from ..tile.gemm import SUM_BLOCK, columns_tile, packed_quads_tile, quads_tile
from ..vector.panels import panel_width, panels
from ..vector.pointers import at, broadcast, constant, fetch, get, lanes, load, put, step, store
from ..vector.simd import QUAD, ROWS, VECTOR_BYTES
from .layout import DZ, N_IN, N_OUT, WT, B, W, X
from .sparse import list_of, list_rows, pack_rows, quad_offset

LINE_BYTES = 64                  # of cache


@outlined
def update_panel(net, slots, work, layer, q, m, thread, rule, l2, constants):
    """dW of the in-features of input panel q, and the optimizer on them.

    A panel of dz serves all their groups of ROWS before the next one comes.
    """
    n_in, n_out = net.table[layer, N_IN], net.table[layer, N_OUT]
    width = panel_width(at(net.w, 0))
    capacity = work.rows
    k = q * width
    real = min(width, n_in - k)
    h, tile = at(work.h, net.table[layer, X] + q * capacity * width), at(work.tiles, thread * work.tiles.shape[1])
    last = panels(n_out, tile) - 1
    for p in range(last + 1):
        columns = n_out - p * width
        dz = at(work.dz, net.table[layer, DZ] + p * capacity * width)
        block = net.table[layer, W] + p * n_in * width + k * width
        coming = block + (n_in * width if p < last else 0)
        for g in range(0, real, ROWS):
            prefetch = (at(slots.w1, coming) if g == ROWS else at(slots.w2, coming) if g == 2 * ROWS
                        else at(net.w, coming))
            columns_tile(step(h, g), dz, columns, m, prefetch, tile)
            here = block + g * width
            _apply(net, slots, here, tile, min(ROWS, real - g), columns, rule, l2, constants)
            if layer > 0 and rule != update_rules.GRADIENT:  # which leaves W as it is
                wt = at(net.wt, net.table[layer, WT] + q * n_out * width + p * width * width + g)
                transpose_tile(at(net.w, here), min(ROWS, real - g), min(columns, width), wt)


@outlined
def update_quads(net, slots, work, q, m, thread, rule, l2, constants):
    """The same for the first layer where zeros are skipped: the pairs of quads that are number q P / ROWS and on.

    Quads lie in many panels, a line of cache in each row: what is listed of h is packed for all panels of dz, unless
    there is but one.
    """
    n_in, n_out = net.table[0, N_IN], net.table[0, N_OUT]
    width = panel_width(at(net.w, 0))
    capacity = work.rows
    first, end = q * width // ROWS, min((q + 1) * width // ROWS, work.quads.shape[0])
    h, tile = at(work.h, net.table[0, X]), at(work.tiles, thread * work.tiles.shape[1])
    last = panels(n_out, tile) - 1
    for g in range(first, end):
        one, other = work.quads[g, 0], work.quads[g, 1]
        listed, packed = list_of(work, thread, g - first, m + 1), _packed(work, thread, g - first)
        list_rows(work.nonzero, m, one, other, width, listed)
        if last > 0:
            pack_rows(h, capacity, one, other, width, listed, get(listed, m), packed)
    for p in range(last + 1):
        columns = n_out - p * width
        dz = at(work.dz, net.table[0, DZ] + p * capacity * width)
        block = net.table[0, W] + p * n_in * width
        for g in range(first, end):
            one, other = work.quads[g, 0], work.quads[g, 1]
            listed, packed = list_of(work, thread, g - first, m + 1), _packed(work, thread, g - first)
            if last > 0:
                packed_quads_tile(packed, dz, listed, columns, get(listed, m), tile)
            else:
                quads_tile(step(h, quad_offset(one, capacity, width)), step(h, quad_offset(other, capacity, width)),
                           listed, dz, columns, get(listed, m), tile)
            _apply_quad(net, slots, block, n_in, one, tile, p < last, columns, rule, l2, constants)
            if other != one:
                _apply_quad(net, slots, block, n_in, other, step(tile, QUAD * width), p < last, columns, rule, l2,
                            constants)


@inlined
def _packed(work, thread, number):
    """Where a thread packs the listed rows of that pair of quads."""
    return at(work.packed, thread * work.packed.shape[1] + number * work.rows * ROWS)


@inlined
def _apply_quad(net, slots, block, n_in, quad, tile, more, columns, rule, l2, constants):
    """The optimizer on a quad of rows of W; asks for the same rows of the next panel."""
    width = panel_width(tile)
    here, rows = block + quad * QUAD * width, min(QUAD, n_in - quad * QUAD)
    if more:
        _fetch_quad(net.w, here + n_in * width)
        _fetch_quad(slots.w1, here + n_in * width)
        _fetch_quad(slots.w2, here + n_in * width)
    _apply(net, slots, here, tile, rows, columns, rule, l2, constants)


@inlined
def _fetch_quad(panels_of, start):
    """Asks for QUAD rows of a panel, unless the rule has no such slot."""
    if panels_of.size > 0:
        pointer = at(panels_of, start)
        for i in range(0, QUAD * panel_width(pointer), LINE_BYTES * lanes(pointer) // VECTOR_BYTES):
            fetch(step(pointer, i))


@inlined
def _apply(net, slots, here, gradient, rows, columns, rule, l2, constants):
    width = panel_width(gradient)
    apply_rule(rule, at(net.w, here), gradient, at(slots.w1, here), at(slots.w2, here), rows,
               width if columns > lanes(gradient) else lanes(gradient), width, constant(l2, gradient), constants)


@inlined
def transpose_tile(w, rows, columns, wt):
    width = panel_width(w)
    for c in range(columns):
        for r in range(rows):
            put(wt, c * width + r, get(w, r * width + c))


@outlined
def update_biases(net, slots, work, layer, m, thread, rule, bias_constants):
    """db = Σ_rows dz, and the optimizer on it; no l2."""
    n_out, width = net.table[layer, N_OUT], panel_width(at(net.w, 0))
    tile = at(work.tiles, thread * work.tiles.shape[1])
    for p in range(panels(n_out, tile)):
        dz = at(work.dz, net.table[layer, DZ] + p * work.rows * width)
        for v in range(0, width, lanes(dz)):
            total = broadcast(0.0, dz)
            for first in range(0, m, SUM_BLOCK):
                part = broadcast(0.0, dz)
                for r in range(first, min(m, first + SUM_BLOCK)):
                    part = part + load(dz, r * width + v)
                total = total + part
            store(tile, v, total)
        here = net.table[layer, B] + p * width
        apply_rule(rule, at(net.b, here), tile, at(slots.b1, here), at(slots.b2, here), np.intp(1), width, width,
                   constant(0.0, tile), bias_constants)
