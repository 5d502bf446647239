"""The formulas of the catalogue compiled for this machine, and the choice among them by code.

What chooses among them by code is a `choice`, generated from the table. A code is compared once a tile or once a row,
outside the loops, so a record costs what its arithmetic costs. Unknown codes are refused where users pass them; here
they compute nothing: zero.
"""
import math

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ... import activations, catalogue, update_rules
from ...catalogue import binder
from ..jit import inlined, outlined
from .pointers import like
from .simd import I64, absolute, select, sqrt
from .vector_math import erf, exp, log, reciprocal_sqrt, tanh

of_vectors = binder(inlined, {"exp": exp, "log": log, "tanh": tanh, "erf": erf, "sqrt": sqrt, "absolute": absolute,
                              "reciprocal_sqrt": reciprocal_sqrt, "select": select})
of_numbers = binder(inlined, {"exp": math.exp, "log": math.log, "log1p": math.log1p, "tanh": math.tanh,
                              "sqrt": math.sqrt, "like": like})
of_constants = binder(inlined, {})
without_decay = of_constants(catalogue.without_decay)


def choice(functions):
    """choose(code, arguments, a tuple) -> functions[code](*arguments), zero for another code.

    functions : {code: compiled function}. One switch of LLVM's: as a chain of functions, each with an `if` and a call
    of the next, it would take a sixth longer to compile all kernels.
    """
    @intrinsic
    def choose(typingctx, code, arguments):
        dispatchers = {function: types.Dispatcher(function) for function in functions.values()}
        signatures = {function: typingctx.resolve_function_type(dispatcher, tuple(arguments), {})
                      for function, dispatcher in dispatchers.items()}
        result = typingctx.unify_types(*(signature.return_type for signature in signatures.values()))

        def codegen(context, builder, sig, args):
            entry, done, blocks = builder.block, builder.append_basic_block("chosen"), {}
            values = [builder.extract_value(args[1], i) for i in range(len(arguments))]
            outcomes = [(context.get_constant_null(result), entry)]
            for function, signature in signatures.items():
                blocks[function] = builder.append_basic_block("choice")
                builder.position_at_end(blocks[function])
                call = context.get_function(dispatchers[function], signature)
                context.add_linking_libs(getattr(call, "libs", ()))
                taken = [context.cast(builder, *each) for each in zip(values, arguments, signature.args, strict=True)]
                outcomes.append((context.cast(builder, call(builder, taken), signature.return_type, result),
                                 builder.block))
                builder.branch(done)
            builder.position_at_end(entry)
            switch = builder.switch(context.cast(builder, args[0], sig.args[0], types.int64), done)
            for number, function in functions.items():
                switch.add_case(ir.Constant(I64, number), blocks[function])
            builder.position_at_end(done)
            phi = builder.phi(context.get_value_type(result))
            for value, block in outcomes:
                phi.add_incoming(value, block)
            return phi

        return result(code, arguments), codegen

    return choose


# ------------------------------------------------------------------------------- activations

# By code, of one vector.
VECTOR_FUNCTIONS = {code: of_vectors(record.f) for code, record in activations.TABLE.cases() if record.elementwise}


_slope = choice({code: of_vectors(record.slope) for code, record in activations.TABLE.cases() if record.trainable})


@inlined
def slope_vector(code, y):
    """f' of one vector of outputs (of pre-activations where the slope needs z)."""
    return _slope(code, (y,))


# ------------------------------------------------------------------------------- optimizer rules

_constants = choice({code: of_constants(record.constants) for code, record in update_rules.TABLE.cases()})


@outlined
def step_constants(rule, hyper, rate, step):
    """`catalogue.StepConstants` of one step, from 1 on."""
    return _constants(rule, (hyper, rate, step))
