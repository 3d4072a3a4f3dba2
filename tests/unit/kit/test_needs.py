import pytest

from kit import needs


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(needs, "CACHE", tmp_path)
    return tmp_path


def test_a_folder_appears_only_when_it_is_complete(cache):
    def half(part):
        (part / "a").touch()
        return "the line went dead"

    assert needs._fill(cache / "x", half) == "the line went dead"
    assert list(cache.iterdir()) == []
    assert needs._fill(cache / "x", lambda part: (part / "a").touch()) is None
    assert [path.name for path in cache.rglob("*")] == ["x", "a"]


def test_what_is_missing_is_skipped_by_name(monkeypatch):
    need = needs.Need("a moon", "tests/e2e/test_moon.py", lambda: None)
    monkeypatch.setattr(needs, "NEEDS", (need,))
    with pytest.raises(pytest.skip.Exception, match="a moon is missing"):
        needs.require("a moon")
    said = []
    assert needs.install_missing(said.append) == [need]


@pytest.mark.parametrize("present", [True, False])
def test_debian_starts_no_server_while_we_install(tmp_path, monkeypatch, present):
    policy = tmp_path / "policy-rc.d"
    if present:
        policy.write_text("theirs")
    seen = []

    def run(*command, cwd=None):
        seen.append((command[1], policy.read_text()))
        if command[1] == "install" and len(seen) == 1:
            return "no lists"
        return None

    monkeypatch.setattr(needs, "_POLICY", policy)
    monkeypatch.setattr(needs, "_run", run)
    monkeypatch.setattr(needs.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(needs.os, "geteuid", lambda: 0)
    need = needs.Need("a server", "x", lambda: None, debian=("a-server",))
    needs._install_debian([need], print)
    expected = "theirs" if present else "#!/bin/sh\nexit 101\n"
    assert seen == [(step, expected) for step in ("install", "update", "install")]
    assert policy.exists() == present


def test_without_root_it_says_what_to_install(monkeypatch):
    said = []
    monkeypatch.setattr(needs.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(needs.os, "geteuid", lambda: 1000)
    needs._install_debian([needs.Need("a", "x", lambda: None, debian=("p1", "p2"))], said.append)
    assert said == ["not root, so not installed: apt-get install p1 p2"]
