"""What a launcher tells, and what is said where a companion is gone."""

import pytest

from ssmith.core.errors import EndpointError, InputError, UnsupportedError
from ssmith.core.launch import is_main_process, launched, refuse_processes, together


def test_without_a_launcher_there_is_one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("RANK", raising=False)
    assert (launched(), is_main_process()) == (1, True)
    refuse_processes("anything")
    # Of a launcher that started one, or of something else.
    monkeypatch.setenv("RANK", "3")
    assert is_main_process()


def test_what_a_launcher_says_is_read(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "3")
    assert (launched(), is_main_process()) == (4, False)
    with pytest.raises(UnsupportedError, match="a pilot in 4 processes; allowed: one process"):
        refuse_processes("a pilot")
    monkeypatch.setenv("RANK", "-1")
    with pytest.raises(InputError, match="the environment says RANK=-1"):
        is_main_process()


def test_a_companion_that_is_gone_is_said_and_no_bug(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")

    def broken(given):
        raise RuntimeError(
            "[/gloo/pair.cc:537] Connection closed by peer. This is typically caused by …"
        )

    with pytest.raises(EndpointError, match=r"another of the 2 .*\(Connection closed by peer\)"):
        together(broken, 1)
