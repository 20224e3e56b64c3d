"""README and docstrings are true: what they show is what the program prints, and their Python runs."""

import doctest
import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest

from ui.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"```console\n\$ onrecord (ask \"[^\n]*\")\n(.+?)\n```", README, re.S)
WITH_EXAMPLES = [
    f"{package}.{path.stem}"
    for package in ("index", "rag", "eval", "ui")
    for path in sorted((ROOT / package).glob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize(("command", "printed"), SHOWN)
def test_answers_in_readme_are_what_is_printed(
    command: str,
    printed: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    monkeypatch.setenv("ONRECORD_HOME", str(tmp_path_factory.getbasetemp() / "cli-home"))
    monkeypatch.setattr(sys, "argv", ["onrecord", *shlex.split(command)])
    with pytest.raises(SystemExit, match=r"^0$"):
        main()
    assert capsys.readouterr().out.split() == printed.split()


def test_readme_begins_with_an_answer_and_an_abstention() -> None:
    assert len(SHOWN) == 2
    assert "[1] Sergey Lavrov" in SHOWN[0][1]
    assert "Nearest passages" in SHOWN[1][1]


def test_the_python_in_readme_runs(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    monkeypatch.setenv("ONRECORD_HOME", str(tmp_path_factory.getbasetemp() / "cli-home"))
    (code,) = re.findall(r"```python\n(.+?)```", README, re.S)
    exec(compile(code, "README.md", "exec"), {})
    assert "will take place in December" in capsys.readouterr().out


def test_every_command_in_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make (\w+)`|^\$ make (\w+)", README, re.M):
        assert f"\n{''.join(target)}: " in makefile


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_in_docstrings_give_what_they_show(
    module: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("ONRECORD_HOME", str(tmp_path_factory.getbasetemp() / "cli-home"))
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted
    assert not result.failed
