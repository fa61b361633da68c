"""The order of the modules: imports point down, lazy ones too, and nothing goes round in a circle."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# From the bottom up; a module may import from its own line and the lines above it here. A name stands for the module
# and everything inside it; the longest name counts. Why it is not quite the order of the folders:
# - `zoo.registry` and `zoo.hub` only find a folder by its name, which the runtime and `weights` need; the rest of the
#   zoo publishes models and stands above `pretrained`.
# - `weights.layout`, `weights.config` and `weights.preprocessor` say what a folder holds without Keras, for the
#   runtime.
# - `embedding` runs exported encoders, so it stands above `export`.
ORDER = [
    "annotations",
    "checks",
    "words",
    "files",
    "processor",
    "child",
    "images",
    "weights.layout",
    "weights.config",
    "weights.preprocessor",
    "zoo.registry",
    "zoo.hub",
    "encoders",
    "weights",
    "data",
    "evaluate",
    "training",
    "export",
    "embedding",
    "pretrained",
    "zoo",
    "conversion",
    "models",
    "demo",
    "benchmark_folders",
    "benchmark",
    "cli",
    "__main__",
]
# `Encoder.save_pretrained` and `push_to_hub` reach up through the table of public names, and through it alone.
THROUGH_PUBLIC_NAMES = {"encoders.base"}


def modules():
    """Name within the package → file, of every module that is installed."""
    found = {}
    for folder in ("memssl_keras", "export", "zoo", "demo"):
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            parts = parts[1:] if folder == "memssl_keras" else parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            if not {"experiments", "benchmarks", "build"} & set(parts):  # scripts beside the package
                found[".".join(parts)] = path
    return found


MODULES = modules()


def imports(name):
    """Modules of the package that a module imports anywhere in its text but for type checkers."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    hidden = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    targets = set()
    for node in ast.walk(tree):
        if node in hidden:
            continue
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: a relative import"
            base = node.module or ""
            targets |= {f"{base}.{alias.name}" for alias in node.names} | {base}
        elif isinstance(node, ast.Import):
            targets |= {alias.name for alias in node.names}
    inside = {target.removeprefix("memssl_keras").lstrip(".") for target in targets if is_ours(target)}
    return {target for target in inside if target in MODULES} - {name}


def is_ours(target):
    return target == "memssl_keras" or target.startswith("memssl_keras.")


def level(name):
    fitting = [place for place in ORDER if name == place or name.startswith(f"{place}.")]
    assert fitting, f"{name} has no place in the order"
    return ORDER.index(max(fitting, key=len))


@pytest.mark.parametrize("name", sorted(set(MODULES) - {""}))
def test_imports_point_down(name):
    up = {other for other in imports(name) - {""} if level(other) > level(name)}
    assert not up, f"{name} imports upwards: {', '.join(sorted(up))}"
    if "" in imports(name) and MODULES[name].is_relative_to(ROOT / "memssl_keras"):
        assert name in THROUGH_PUBLIC_NAMES or level(name) >= level("models"), (
            f"{name} imports the whole package"
        )


def test_nothing_goes_round_in_a_circle():
    graph = {name: imports(name) - {""} for name in MODULES if name}
    done, path = set(), []

    def visit(name):
        assert name not in path, " → ".join([*path[path.index(name) :], name])
        if name in done:
            return
        path.append(name)
        for other in graph[name]:
            visit(other)
        path.pop()
        done.add(name)

    for name in graph:
        visit(name)


@pytest.mark.parametrize("statement", ["import memssl_keras", "from memssl_keras import OnnxEncoder"])
def test_neither_keras_nor_torch_is_loaded(statement):
    heavy = "{'keras', 'torch', 'datasets', 'cv2', 'pyarrow', 'onnx', 'gradio'}"
    code = f"import sys; {statement}; print(sorted({heavy} & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"


def bare_functions(name):
    """Public functions and methods of a module that lack an annotation."""
    found = []

    def visit(body, within=""):
        for node in body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                visit(node.body, f"{node.name}.")
            elif isinstance(node, ast.FunctionDef) and (node.name == "__init__" or node.name[0] != "_"):
                given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                arguments = [one for one in given if one.arg not in ("self", "cls")]
                whole = node.returns is not None or node.name == "__init__"
                if not whole or any(one.annotation is None for one in arguments):
                    found.append(f"{name}.{within}{node.name}")

    visit(ast.parse(MODULES[name].read_text(encoding="utf-8")).body)
    return found


@pytest.mark.parametrize("name", sorted(name for name in MODULES if name.split(".")[0] != "demo"))
def test_public_functions_are_annotated(name):
    assert bare_functions(name) == []
