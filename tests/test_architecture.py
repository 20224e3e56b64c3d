"""The shape of the project: who may import whom, where heavy libraries live, whose names these are."""

import ast
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "index": {"index"},
    "rag": {"index", "rag"},
    "eval": {"index", "rag", "eval"},
    "ui": {"index", "rag", "ui"},
}
HEAVY = {
    "faiss": {"index/vectors.py"},
    "sentence_transformers": {"index/encoder.py", "rag/models.py"},
    "torch": {"index/encoder.py", "rag/cross.py", "rag/models.py"},
    "gradio": {"ui/page.py"},
    "bm25s": {"index/lexical.py"},
    "sentencex": {"index/sentences.py"},
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found.add(node.module or "")
    return found


MODULES = [path for package in ALLOWED for path in sorted((ROOT / package).rglob("*.py"))]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_dependencies_point_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    may = set(ALLOWED) if path == ROOT / "ui" / "cli.py" else ALLOWED[package]
    ours = {name.split(".")[0] for name in imports(path)} & (set(ALLOWED) | {"tests", "training"})
    assert ours <= may


@pytest.mark.parametrize("library", HEAVY)
def test_a_heavy_library_lives_in_one_file(library: str) -> None:
    users = {
        path.relative_to(ROOT).as_posix()
        for path in MODULES
        if any(name.split(".")[0] == library for name in imports(path))
    }
    assert users == HEAVY[library]


def test_no_other_distribution_owns_our_packages() -> None:
    owners = metadata.packages_distributions()
    for package in ALLOWED:
        assert set(owners.get(package, [])) <= {"onrecord"}


def test_help_imports_nothing_heavy() -> None:
    heavy = ("torch", "faiss", "gradio", "sentence_transformers", "transformers", "numpy", "bm25s")
    program = (
        "import sys, ui.cli\n"
        "try: ui.cli.app(['--help'])\n"
        f"except SystemExit: pass\nprint([m for m in {heavy!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert "transcript" in done.stdout
