"""What there is: one record for each activation, update rule and loss, and what every kernel package makes of it.

A record holds its name, its formula and what there is to know of it. `activations`, `update_rules` and `losses` each
hold one `Table` of records. Code numbers are positions in the table; nothing depends on their order.

A formula is a plain function of numbers. It runs as it stands, on Python's floats. A kernel package compiles it with
`binder`, which gives its free names another meaning: on the CPU `exp` is that of a whole vector, and on a GPU that of
the one number of a thread. What a formula may name, its vocabulary:

    in f and slope of an activation and in the step of a rule, where a value may be a vector:
        exp, log, tanh, erf, sqrt, reciprocal_sqrt, absolute, select(condition, yes, no); no `if`
    in the element of a loss, always of single numbers:
        exp, log, log1p, tanh, sqrt, abs, min, max, and like(c, z), the constant c in the type of z; `if` is allowed
    in the constants of a rule: arithmetic of float64
    everywhere: numbers and other plain functions of the formula's own module

Comparisons are written so that NaN stays NaN.

A further record is added by `activations.TABLE.register`, and so on, before the first kernel package is imported: what
they compile is made from the tables as they are then.
"""
import dis
import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import NamedTuple

# ------------------------------------------------------------------------------- records


@dataclass(frozen=True)
class Activation:
    """y = f(z)."""

    name: str
    f: Callable | None               # None: of a whole row, each package's own kernel
    slope: Callable | None = None    # f' of the output y, or of z; None: for inference only
    needs_z: bool = False            # f is not monotonic, so that the output does not tell the slope

    @property
    def elementwise(self):
        return self.f is not None

    @property
    def trainable(self):
        return self.slope is not None


class StepConstants(NamedTuple):
    """What one step of a rule needs, the same for every weight. Computed in float64: 1 - β₂ of a β₂ rounded to float32
    would be wrong in the fifth digit."""

    rate: float                      # η
    first: float                     # μ | ρ | β₁
    second: float                    # β₂
    epsilon: float
    decay: float                     # weights are multiplied by it: 1 - η λ
    corrected_rate: float            # η / (1 - β₁ᵗ)
    root: float                      # 1 / √(1 - β₂ᵗ)
    rest_of_first: float             # 1 - μ | 1 - ρ | 1 - β₁
    rest_of_second: float            # 1 - β₂


def with_decay(c, decay):
    """The same constants with another decay (Numba has no `_replace`)."""
    return StepConstants(c.rate, c.first, c.second, c.epsilon, decay, c.corrected_rate, c.root, c.rest_of_first,
                         c.rest_of_second)


def without_decay(constants):
    """The constants for biases, which no rule decays."""
    return with_decay(constants, 1.0)


def plain_constants(hyper, rate, step):
    """The constants of a rule that corrects nothing by the number of its steps and does not decay."""
    return StepConstants(rate, hyper[0], hyper[1], hyper[2], 1.0, rate, 1.0, 1.0 - hyper[0], 1.0 - hyper[1])


@dataclass(frozen=True)
class Rule:
    """One step of an optimizer: step(w, g, s1, s2, constants) -> (w, s1, s2)."""

    name: str
    step: Callable
    slots: int = 0                   # state arrays of the weights' size: s1, then s2
    hyper: tuple = ("", "", "", "")  # names of the four hyper-parameters; "" where there is none
    constants: Callable = plain_constants        # (hyper, rate, step) -> StepConstants; step counts from 1
    moves: bool = True               # False: w stays as it is


@dataclass(frozen=True)
class Loss:
    """The loss of a row: the mean of element(parameter, z, t) -> (l, ∂l/∂z) over its outputs."""

    name: str
    element: Callable | None         # None: of a whole row, each package's own kernel (softmax)
    output: str = "identity"         # the activation of the net's output, which the loss contains
    y: str = "numbers"               # what the rows' targets are: "classes", "yes or no", "numbers"
    parameter: str | None = None     # the name of its parameter
    correct: str | None = None       # what counts as correct: "row", the largest output is the label; "outputs", those
    #                                  on the same side of 0 as their target is of 1/2; None: nothing

    @property
    def elementwise(self):
        return self.element is not None


# ------------------------------------------------------------------------------- tables

class Table:
    """Records of one kind; a record's code is its position."""

    def __init__(self, module, *records):
        """module : where their codes are found, for messages"""
        self.module, self._records, self._in_use = module, [], False
        for record in records:
            self.register(record)

    def register(self, record):
        """Adds a record and returns its code, which is also a constant of the module: the name in capitals.

        RuntimeError once kernels.cpu or kernels.cuda is imported, ValueError for a name that is taken. The reference
        restates what it checks: there a twin is added by hand.
        """
        if self._in_use:
            raise RuntimeError(f"{record.name} comes too late: register it before kernels.cpu or kernels.cuda is "
                               "imported")
        if record.name in self.names:
            raise ValueError(f"there is a {record.name} in kernels.{self.module}")
        self._records.append(record)
        return len(self._records) - 1

    @property
    def names(self):
        return tuple(record.name for record in self._records)

    def code(self, name):
        return self.names.index(name)

    def codes(self, condition):
        """Codes of the records of which the condition holds."""
        return tuple(code for code, record in enumerate(self._records) if condition(record))

    def cases(self):
        """(code, record) of all, to compile what chooses among them: from now on there are no others."""
        self._in_use = True
        return tuple(enumerate(self._records))

    def record(self, code, what="code"):
        """The record of a code, or by its name. ValueError, which names `what`, if there is none."""
        if isinstance(code, str):
            if code in self.names:
                return self._records[self.code(code)]
        elif not isinstance(code, bool) and hasattr(code, "__index__") and 0 <= code < len(self._records):
            return self._records[code]
        raise ValueError(f"{what} must be a code of kernels.{self.module}, got {code!r}")

    def constant(self, name):
        """The code whose record's name in capitals that is. AttributeError if there is none."""
        if name.isupper() and name.lower() in self.names:
            return self.code(name.lower())
        raise AttributeError(f"module 'kernels.{self.module}' has no attribute {name!r}")

    def __iter__(self):
        return iter(self._records)


# ------------------------------------------------------------------------------- formulas, for a target

def binder(jit, vocabulary):
    """bound(formula) -> the formula compiled by `jit`, its free names meaning what they mean in `vocabulary`.

    Plain functions of the formula's module are bound in the same way, each once. NameError for a name that is neither
    of the vocabulary nor a number or function of that module.
    """
    @functools.cache
    def bound(formula):
        scope = {"__name__": formula.__module__, "__builtins__": formula.__builtins__}
        for name in _free_names(formula.__code__):
            if name in vocabulary:
                scope[name] = vocabulary[name]
            elif name in formula.__globals__:
                scope[name] = _meaning(formula, name, bound)
            elif name not in formula.__builtins__:
                raise NameError(f"{formula.__module__}.{formula.__name__} names {name}, which is not defined")
        return jit(FunctionType(formula.__code__, scope, formula.__name__, formula.__defaults__))

    return bound


def _free_names(code):
    return {instruction.argval for instruction in dis.get_instructions(code) if instruction.opname == "LOAD_GLOBAL"}


def _meaning(formula, name, bound):
    value = formula.__globals__[name]
    if isinstance(value, FunctionType) and value.__module__ in (formula.__module__, __name__):
        return bound(value)
    if isinstance(value, int | float) or value is StepConstants:
        return value
    raise NameError(f"{formula.__module__}.{formula.__name__} names {name}, which is not in the vocabulary of this "
                    "target: see kernels.catalogue")


def stamp(*tables):
    """A hash over all records and their formulas, in order: machine code made from others must not be found."""
    digest = hashlib.sha256()
    for table in tables:
        for record in table:
            for value in vars(record).values():
                digest.update(repr(_description(value)).encode())
    return digest.hexdigest()


def _description(value):
    """What a value of a record is, the same in every process."""
    if isinstance(value, FunctionType):
        names = sorted(_free_names(value.__code__))
        return _description(value.__code__), value.__defaults__, [
            (name, _description(value.__globals__[name])) for name in names
            if isinstance(value.__globals__.get(name), FunctionType | int | float)]
    if isinstance(value, CodeType):
        return value.co_code.hex(), [_description(each) for each in value.co_consts], value.co_names
    return value


# ------------------------------------------------------------------------------- the vocabulary in Python

def select(condition, yes, no):
    return yes if condition else no


def reciprocal_sqrt(x):
    return x ** -0.5


def absolute(x):
    return abs(x)


def like(constant, number):
    return constant
