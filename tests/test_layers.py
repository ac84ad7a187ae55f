"""The layers: which package and folder may import which, and where heavy libraries are imported."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "configs": set(),
    "indexes": set(),
    "ingest": {"indexes"},
    "query": {"indexes", "ingest"},
    "eval": {"indexes", "ingest", "query"},
    "cies": {"indexes", "ingest", "query", "eval"},
}
MAY_IMPORT_LIBRARY = {
    "lancedb": (
        "indexes/store/lance.py",
        "indexes/search/lance_index.py",
        "eval/bench/",
        "eval/peers/",
        "cies/integrations/",
    ),
    "faiss": (
        "indexes/search/faiss.py",
        "eval/metrics/clustering.py",
        "eval/bench/",
        "eval/peers/",
    ),
    "torch": (
        "ingest/encoders/",
        "eval/training/",
        "eval/bench/",
        "eval/peers/",
        "cies/integrations/",
    ),
    "transformers": ("ingest/encoders/", "eval/training/", "eval/bench/", "eval/peers/"),
    "tokenizers": ("eval/training/", "eval/bench/"),
    "typer": ("cies/cli/",),
    "fastapi": ("cies/server/", "cies/mcp/"),
    "mcp": ("cies/mcp/",),
    "starlette": ("cies/server/",),
    "uvicorn": ("cies/server/",),
    "jinja2": ("cies/html/", "ingest/encoders/chat/template_process.py"),
    "pydantic": (
        "indexes/documents.py",
        "cies/server/",
        "cies/integrations/langchain.py",
        "cies/mcp/",
    ),
    "langchain_core": ("cies/integrations/langchain.py",),
    "fsspec": ("ingest/sources/remote.py",),
    "rich": ("cies/console.py",),
    "textual_image": ("cies/console.py",),
    "pandas": ("query/hits.py",),
    "mteb": ("eval/adapters/mteb_",),
    "datasets": ("eval/adapters/mteb_",),
    "sklearn": ("eval/metrics/clustering.py",),
}
#: Layers of each package, the lowest first. A folder imports only from its own layer and below.
LAYERS = {
    "indexes": (("store",), ("search",)),
    "ingest": (("read",), ("sources", "encoders"), ("scan",), ("fill",)),
    "query": (("ranking", "filters", "explore"), ("composers",)),
    "eval": (
        ("metrics",),
        ("protocols",),
        ("runs",),
        ("world", "reports", "adapters"),
        ("bench",),
        ("training", "peers"),
    ),
    "cies": (("html",), ("reports",), ("server", "mcp"), ("bench",), ("cli",)),
}
MODULES = sorted(p for package in MAY_IMPORT for p in (ROOT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Top-level names of every import of a module, also inside functions."""
    return {module.split(".")[0] for module in imported_modules(path)}


def imported_modules(path: Path, types: bool = True) -> set[str]:
    """Modules that a module imports, and the names that it imports from them, with a dot.

    Args:
        path: of the module.
        types: also imports under ``if TYPE_CHECKING``.
    """
    names: set[str] = set()
    nodes: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}: import by full path"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif not types and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            nodes += node.orelse
        else:
            nodes += ast.iter_child_nodes(node)
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_package_imports_only_packages_below(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    others = imported(path) & MAY_IMPORT.keys() - {package}
    assert others <= MAY_IMPORT[package]


@pytest.mark.parametrize("package", LAYERS)
def test_folders_of_a_package_import_only_lower_ones(package: str) -> None:
    layer = {folder: number for number, level in enumerate(LAYERS[package]) for folder in level}
    for path in (ROOT / package).rglob("*.py"):
        folder = path.relative_to(ROOT / package).parts[0]
        for module in imported_modules(path):
            first, _, rest = module.partition(".")
            other = rest.split(".")[0]
            if first == package and folder in layer and other in layer:
                assert layer[other] <= layer[folder], f"{path} imports {module}"


def test_no_modules_import_each_other() -> None:
    """There are no import cycles, also inside functions; imports for types only are exempt."""
    names = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in MODULES}
    names = {name.removesuffix(".__init__"): path for name, path in names.items()}
    below = {
        name: imported_modules(path, types=False) & names.keys() - {name}
        for name, path in names.items()
    }
    while leaves := {name for name, modules in below.items() if not modules}:
        below = {name: modules - leaves for name, modules in below.items() if name not in leaves}
    assert not below, f"these modules import each other: {sorted(below)}"


def test_a_folder_holds_few_modules() -> None:
    modules = Counter(path.parent for path in MODULES if path.name != "__init__.py")
    crowded = {str(folder.relative_to(ROOT)): n for folder, n in modules.items() if n > 15}
    assert not crowded


def test_a_class_name_has_one_meaning() -> None:
    classes = [
        (node.name, str(path.relative_to(ROOT)))
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    ]
    times = Counter(name for name, _ in classes)
    assert not [(name, path) for name, path in classes if times[name] > 1]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_heavy_libraries_are_imported_in_few_places(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    for library in imported(path) & MAY_IMPORT_LIBRARY.keys():
        assert name.startswith(MAY_IMPORT_LIBRARY[library]), f"{name} imports {library}"


def test_these_tests_can_fail(tmp_path: Path) -> None:
    module = tmp_path / "bad.py"
    module.write_text("def f():\n    from query.engine import Engine\n    import torch\n")
    assert imported(module) == {"query", "torch"}


@pytest.mark.parametrize(
    ("command", "banned"),
    [
        (["--help"], {"torch", "transformers", "lancedb", "faiss", "pyarrow", "numpy", "PIL"}),
        (["search", "--help"], {"torch", "transformers", "lancedb", "faiss", "pyarrow", "numpy"}),
        (["status"], {"torch", "transformers", "faiss"}),
        (["models"], {"torch", "transformers", "faiss", "lancedb"}),
        (["methods"], {"torch", "transformers", "faiss", "lancedb"}),
        (["conditions", "words"], {"torch", "transformers", "faiss"}),
    ],
)
def test_light_commands_import_nothing_heavy(command: list[str], banned: set[str]) -> None:
    code = (
        "import sys; sys.argv = ['cies', *sys.argv[1:]]\n"
        "from cies.cli.app import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('LOADED', *sorted({m.split('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.splitlines()[-1].split()[1:])
    assert "cies" in loaded
    assert not loaded & banned


def test_public_names_are_those_listed() -> None:
    import cies

    assert sorted(cies.__all__) == sorted(cies._HOMES)
    for name in cies.__all__:
        assert getattr(cies, name) is not None
    with pytest.raises(AttributeError):
        getattr(cies, "no_such_name")  # noqa: B009


def test_another_package_of_the_same_name_is_named(tmp_path: Path) -> None:
    (tmp_path / "query").mkdir()
    (tmp_path / "query" / "__init__.py").touch()
    done = subprocess.run(
        [sys.executable, "-c", "import cies"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 1
    assert f"another package named 'query' in {tmp_path}" in done.stderr
