"""Training steps on panels, and inference: the loops that Python enters once per chunk. No Python in between.

Every thread of a team runs the same function (`threads`); what they share is taken from counters.
"""
from ... import activations as codes
from ..jit import inlined, loop_entry, outlined
from ..threads import ROWS_TAKEN, barrier, take
from ..tile.loss_rows import softmax_row
from ..vector.panels import panel_width, panels
from ..vector.pointers import at, lanes, load, store_first
from .arrange import arrange
from .layout import ACTIVATION, N_OUT, Y
from .network import backward_block, forward_block, loss_block
from .steps import step_loop
from .weights import update_biases, update_panel, update_quads


@inlined
def _rows(job, order, step, thread, threads, control):
    """The rows' half of a step: `network`."""
    net, work, data, recipe, totals = job.net, job.work, job.data, job.recipe, job.totals
    rows, first_row = order, step.start
    if work.arranged.size > 0 and data.labels.size > 0:          # by each thread for itself: no barrier
        rows, first_row = work.arranged, thread * (work.arranged.size // threads)
        outputs = net.table[net.table.shape[0] - 1, N_OUT]
        arrange(data.labels, order, step.start, step.rows, outputs, rows, first_row)
    while True:
        row = take(control, ROWS_TAKEN) * work.block
        if row >= step.rows:
            break
        real = forward_block(net, work, data, rows, row, first_row, step.rows, thread, recipe.seed, step.number)
        loss_block(net, work, data, rows, row, first_row, real, thread, recipe.loss, recipe.loss_parameter,
                   step.weight_sum, totals.row_loss, totals.row_right)
        backward_block(net, work, row, real, thread)


@inlined
def _weights(job, layer, panel, step, thread, l2, constants, bias_constants):
    """A task of the weights' half: `weights`."""
    net, slots, work, rule = job.net, job.slots, job.work, job.recipe.rule
    if panel < 0:
        update_biases(net, slots, work, layer, step.rows, thread, rule, bias_constants)
    elif layer == 0 and work.quads.shape[0] > 0:
        update_quads(net, slots, work, panel, step.rows, thread, rule, l2, constants)
    else:
        update_panel(net, slots, work, layer, panel, step.rows, thread, rule, l2, constants)


@inlined
def _add(job, step):
    totals = job.totals
    for r in range(step.rows):
        totals.sums[0] += totals.row_loss[r]
        totals.sums[1] += totals.row_right[r]


_train_steps = step_loop(_rows, _weights, _add)


@loop_entry
def train_steps(thread, threads, control, job, order, rates, first, last, steps_before):
    """`steps.step_loop` on panels; recipe.tasks lists panels of in-features."""
    _train_steps(thread, threads, control, job, order, rates, first, last, steps_before)


@loop_entry
def infer_blocks(thread, threads, control, net, work, data, order, loss, parameter, rows, block_sums, totals, out):
    """Inference on `rows` rows: the outputs into out (rows, outputs), or, where out is (0, 0), their losses,
    right answers and weights summed over each block of rows into block_sums (blocks, 3)."""
    mine = thread * work.block
    while True:
        block = take(control, ROWS_TAKEN)
        if block * work.block >= rows:
            break
        start = block * work.block - mine
        # No dropout: any seed and step will do.
        real = forward_block(net, work, data, order, mine, start, rows - start, thread, thread, thread)
        if out.size > 0:
            _copy_out(net, work, mine, start, real, out)
            continue
        loss_block(net, work, data, order, mine, start, real, thread, loss, parameter, float(rows),
                   totals.row_loss, totals.row_right)
        for r in range(mine, mine + real):
            block_sums[block, 0] += totals.row_loss[r]
            block_sums[block, 1] += totals.row_right[r]
            block_sums[block, 2] += data.weights[start + r] if data.weights.size > 0 else 1.0
    barrier(control, threads)


@outlined
def _copy_out(net, work, first, start, real, out):
    last = net.table.shape[0] - 1
    n_out, width = net.table[last, N_OUT], panel_width(at(net.w, 0))
    for r in range(first, first + real):
        y = at(work.h, net.table[last, Y] + r * width)
        if net.table[last, ACTIVATION] == codes.SOFTMAX:
            softmax_row(y, work.rows * width, n_out, y)
        for p in range(panels(n_out, y)):
            for v in range(0, min(width, n_out - p * width), lanes(y)):
                store_first(at(out, (start + r) * n_out + p * width), v, load(y, p * work.rows * width + v),
                            n_out - p * width - v)
