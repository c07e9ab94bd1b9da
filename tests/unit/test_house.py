"""The house's habits, made executable: names, sizes, READMEs, and rules that have their tests."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
APPS = ("billing", "federation", "sandboxes", "scaling")
FILE_LINES = 500
FUNCTION_LINES = 60
BANNED_FILES = {
    "services", "selectors", "utils", "util", "helpers", "helper", "managers", "mixins", "constants",
    "exceptions", "base", "common", "core", "misc",
}  # fmt: skip
# Sent whole as the code of an execution, so it cannot be several files.
ONE_FILE = {"federation/sample/backtest.py"}


def sources() -> list[Path]:
    found = [path for package in (*APPS, "ntd_site") for path in sorted((ROOT / package).rglob("*.py"))]
    return [path for path in found if "migrations" not in path.parts]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def rules() -> list[str]:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    return next(contract["source_modules"] for contract in contracts if contract["name"] == "Rules are plain Python")


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_a_file_owns_one_thing(path: Path) -> None:
    assert path.stem not in BANNED_FILES
    assert len(path.read_text().splitlines()) <= FILE_LINES or name_of(path) in ONE_FILE


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_a_function_fits_on_a_screen(path: Path) -> None:
    too_long = [
        node.name for node in functions(path) if node.end_lineno and node.end_lineno - node.lineno >= FUNCTION_LINES
    ]

    assert too_long == []


@pytest.mark.parametrize("module", rules())
def test_a_rule_has_a_test_file(module: str) -> None:
    app, *rest = module.split(".")

    assert list((ROOT / "tests" / "unit" / app).glob(f"test_*{rest[-1]}*.py"))


def test_every_module_that_calls_itself_pure_is_in_the_contract() -> None:
    pure = {
        name_of(path).removesuffix(".py").replace("/", ".")
        for path in sources()
        if (ast.get_docstring(ast.parse(path.read_text())) or "").startswith("Pure.")
    }

    assert pure - {module for module in pure if module.startswith("sandboxes.daemon")} <= set(rules())


@pytest.mark.parametrize("app", APPS)
def test_an_app_has_a_readme(app: str) -> None:
    assert "## Decisions" in (ROOT / app / "README.md").read_text()


def test_signals_name_their_receivers() -> None:
    for app in APPS:
        path = ROOT / app / "signals.py"
        if path.exists():
            assert re.search(r"[Rr]eceiver", path.read_text()), f"{name_of(path)} must name its receivers"


def test_no_model_orders_by_default() -> None:
    ordered = [name_of(path) for path in sources() if re.search(r"^        ordering = ", path.read_text(), re.M)]

    assert [name for name in ordered if "/models" in name] == []


def test_templates_carry_no_script_or_style_of_their_own() -> None:
    for path in (ROOT / "templates").rglob("*.html"):
        text = path.read_text()
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*(src=|application/json))", text), name_of(
            path
        )
