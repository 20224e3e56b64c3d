"""README is true: what it shows is what the program prints, and its Python runs."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from ui.cli import main

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"```console\n\$ onrecord (ask \"[^\n]*\")\n(.+?)\n```", README, re.S)


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
    makefile = (Path(__file__).parent.parent / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make (\w+)`|^\$ make (\w+)", README, re.M):
        assert f"\n{''.join(target)}: " in makefile
