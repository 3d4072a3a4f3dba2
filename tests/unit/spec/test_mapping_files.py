"""Mappings that are kept in files of their own."""

import pytest

from openmeter_collector.api import MappingText, Message
from openmeter_collector.spec.fields import CodeError


def test_a_mapping_can_be_in_a_file_beside_the_config(tmp_path, monkeypatch):
    (tmp_path / "map.blobl").write_text("root.up = this.a.uppercase()\n")
    monkeypatch.chdir(tmp_path)
    body, _ = MappingText("file://./map.blobl").program.run([Message(b'{"a":"x"}')], 0)
    assert body == {"up": "X"}


def test_a_fault_in_the_file_is_told_with_its_place_there(tmp_path):
    path = tmp_path / "map.blobl"
    path.write_text("root.a = 1\nroot.b = this.nope()\n")
    with pytest.raises(CodeError, match=r"map\.blobl:2:\d+: .*unrecognised method 'nope'"):
        MappingText(f"file://{path}")


def test_a_file_that_is_not_there_is_told_by_name(tmp_path):
    with pytest.raises(CodeError, match=r"missing\.blobl: No such file"):
        MappingText(f"file://{tmp_path}/missing.blobl")
