"""A folder of one process's, and files that are whole or not there."""

import pytest

from tf_mamlpp.errors import UserError
from tf_mamlpp.files import claimed, write_json


def test_one_process_at_a_time(tmp_path):
    with (
        claimed(tmp_path / "study", "busy"),
        pytest.raises(UserError, match="busy"),
        claimed(tmp_path / "study", "busy"),
    ):
        pass
    with claimed(tmp_path / "study", "busy"):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"), claimed(tmp_path / "file" / "study", "busy"):
        pass


def test_write_json_replaces_whole_files(tmp_path):
    file = tmp_path / "a.json"
    write_json(file, {"a": 1})
    with pytest.raises(TypeError):
        write_json(file, {"a": object()})
    assert file.read_text() == '{\n  "a": 1\n}\n'
