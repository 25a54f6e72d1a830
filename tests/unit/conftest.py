"""What tests of several verbs share."""

from __future__ import annotations

from typing import Any

import pytest

from pthparse.cli import main


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    """The command in this process: (exit code, what it printed, what it complained of)."""

    def call(*words: str) -> tuple[int, str, str]:
        try:
            code = main(list(words))
        except SystemExit as e:
            code = int(e.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return call
