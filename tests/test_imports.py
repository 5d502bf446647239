"""Imports go one way, and `import fastmlp` loads NumPy and no more."""
import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# The rooms, lowest first: a module imports from its own room or from those before it.
ROOMS = (
    ("fastmlp.kernels.catalogue", "fastmlp.kernels.cores", "fastmlp.kernels.flat", "fastmlp.kernels.interrupts",
     "fastmlp.kernels.renamed"),
    ("fastmlp.kernels.activations", "fastmlp.kernels.cache", "fastmlp.kernels.losses", "fastmlp.kernels.update_rules"),
    ("fastmlp.kernels.cpu", "fastmlp.kernels.cuda", "fastmlp.kernels.reference"),
    ("fastmlp._moved", "fastmlp._version", "fastmlp.checks", "fastmlp.device", "fastmlp.files"),
    ("fastmlp.losses", "fastmlp.optimizers", "fastmlp.schedules"),      # what `train` is told by name or instance
    ("fastmlp.datasets", "fastmlp.input"),
    ("fastmlp.export",),
    ("fastmlp.net",),
    ("fastmlp.distributed",),
    ("fastmlp.training",),
    ("fastmlp.estimators", "fastmlp.importers", "fastmlp.many"),
    ("fastmlp.environment",),
    ("fastmlp.cli",),
    ("tests", "bench", "conftest"),
)
# Rooms of kernels.cpu, lowest first; of the last two neither imports the other.
CPU_ROOMS = ("", "vector", "tile", "operation", "net")
FILES = sorted(path for folder in ("fastmlp", "kernels", "tests", "bench") for path in (ROOT / folder).rglob("*.py"))


def name_of(path):
    """The module's dotted name as installed."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return ".".join(("fastmlp", *parts) if parts[0] == "kernels" else parts)


def package_of(path):
    return name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]


MODULES = {name_of(path) for path in FILES}


def imports_of(path):
    """Every module of ours that the file imports anywhere, as dotted names; with the statement for the message."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package_of(path).split(".")
                assert node.level <= len(parents), f"{path}: {ast.unparse(node)} leaves the package"
                base = ".".join([*parents[:len(parents) - node.level + 1], *([base] if base else [])])
            targets = [f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in node.names]
        else:
            continue
        for target in targets:
            if target.split(".")[0] in ("fastmlp", "kernels", "tests", "bench"):
                yield target, ast.unparse(node)


def room_of(module):
    for room, members in enumerate(ROOMS):
        if any(module == member or module.startswith(member + ".") for member in members):
            return room
    raise AssertionError(f"{module} is in no room: ROOMS in this file says what may import what")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_one_way(path):
    module = name_of(path)
    for target, statement in imports_of(path):
        assert not target.startswith("kernels"), f"`{statement}`: the kernels are installed as fastmlp.kernels"
        if module in ("fastmlp", "fastmlp.kernels") or target in ("fastmlp", "fastmlp.kernels"):
            continue  # the two front doors name everything, lazily
        assert room_of(target) <= room_of(module), f"{module} must not import {target}: `{statement}`"


@pytest.mark.parametrize("path", [p for p in FILES if name_of(p).startswith("fastmlp.kernels")], ids=name_of)
def test_kernels_know_only_kernels(path):
    module, source = name_of(path), path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        assert not any(name.split(".")[0] == "fastmlp" for name in names), f"`{ast.unparse(node)}`: import relatively"
    own = ".".join(module.split(".")[:3])  # fastmlp.kernels.reference, .cpu, .cuda
    for target, statement in imports_of(path):
        assert target.startswith("fastmlp.kernels"), f"{module}: `{statement}`"
        package = ".".join(target.split(".")[:3])
        if own == "fastmlp.kernels.reference":
            assert package == own, f"{module}: the reference stands alone, but `{statement}`"
        elif room_of(module) == 2:
            assert package == own or room_of(target) < 2, f"{module}: `{statement}`"


def cpu_room_of(module):
    """Number of the room of kernels.cpu that a module is in; 0 for its own modules."""
    name = module.removeprefix("fastmlp.kernels.cpu.").split(".")[0]
    return CPU_ROOMS.index(name) if name in CPU_ROOMS else 0


@pytest.mark.parametrize("path", sorted((ROOT / "kernels/cpu").rglob("[!_]*.py")), ids=name_of)
def test_rooms_of_the_cpu_kernels(path):
    module = name_of(path)
    for target, statement in imports_of(path):
        if target.startswith("fastmlp.kernels.cpu"):
            allowed = {cpu_room_of(module), *range(min(cpu_room_of(module), CPU_ROOMS.index("operation")))}
            assert cpu_room_of(target) in allowed, f"{module} must not import {target}: `{statement}`"


def test_no_module_hides_an_operation():
    """Importing kernels/cpu/gather.py would set `cpu.gather` to the module and hide the operation."""
    from fastmlp.kernels import cpu, reference
    for package in (cpu, reference):
        folder = ROOT / "kernels" / package.__name__.rpartition(".")[2]
        assert not {path.stem for path in folder.rglob("*.py")} & set(package.__all__)


def run(code, *options, cwd=ROOT):
    result = subprocess.run([sys.executable, *options, "-c", code], cwd=cwd, text=True, capture_output=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_import_is_light(tmp_path):
    heavy = ("numba", "sklearn", "scipy", "matplotlib", "tqdm", "safetensors", "pandas", "polars", "torch")
    code = f"import sys, fastmlp; print([m for m in {heavy!r} if m in sys.modules])"
    assert run(code, cwd=tmp_path) == "[]"


def test_every_public_name_loads():
    run("import fastmlp; [getattr(fastmlp, name) for name in fastmlp.__all__]")


def circles(edges):
    """Strongly connected parts of more than one module (Tarjan 1972)."""
    number, low, stack, found = {}, {}, [], []

    def visit(module):
        number[module] = low[module] = len(number)
        stack.append(module)
        for target in edges[module]:
            if target not in number:
                visit(target)
                low[module] = min(low[module], low[target])
            elif target in stack:
                low[module] = min(low[module], number[target])
        if low[module] == number[module]:
            part = stack[stack.index(module):]
            del stack[stack.index(module):]
            if len(part) > 1:
                found.append(sorted(part))

    for module in edges:
        if module not in number:
            visit(module)
    return found


def test_no_circles():
    """Modules that import each other, wherever the import stands: within a function as well."""
    doors = {name_of(path) for path in FILES if path.name == "__init__.py"}
    edges = {name_of(path): {target for target, _ in imports_of(path)} & (MODULES - doors)
             for path in FILES if name_of(path).startswith("fastmlp")}
    assert circles({module: targets & edges.keys() for module, targets in edges.items()}) == []


def test_no_module_hides_a_public_name():
    """Importing fastmlp/info.py would set `fastmlp.info` to the module and hide a function of that name."""
    modules = {path.stem for path in (ROOT / "fastmlp").glob("*.py")}
    names = run("import fastmlp; print(*(n for n in fastmlp.__all__ if n != 'schedules'))").split()
    assert not modules & set(names)


def test_works_from_the_repository_without_installation(tmp_path):
    """-S leaves out site-packages, and with it the installation; the third-party packages come back by path."""
    packages = [p for p in sys.path if p.endswith(("site-packages", "dist-packages"))]
    code = f"""
import sys
sys.path += {packages!r}
import fastmlp, fastmlp.kernels.reference
from fastmlp import kernels
assert kernels is sys.modules["fastmlp.kernels"]
print(fastmlp.__file__); print(kernels.__file__)
"""
    assert run(code, "-S").splitlines() == [str(ROOT / "fastmlp/__init__.py"), str(ROOT / "kernels/__init__.py")]
