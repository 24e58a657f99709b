"""doh.files: at once or not at all."""

from __future__ import annotations

import os
import resource
import signal
import stat
from pathlib import Path

import pytest

from doh import files


def test_writes_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "a.doh"
    files.write_atomic(path, b"one")
    files.write_atomic(path, memoryview(b"second"))
    assert files.read_bytes(path) == b"second"
    assert os.listdir(tmp_path) == ["a.doh"]


@pytest.mark.parametrize("name", ["a" * 251 + ".doh", "ä" * 120 + ".doh", "漢" * 83 + ".doh"], ids=["1", "2", "3"])  # by bytes a letter
def test_a_name_as_long_as_the_disk_allows(tmp_path, name):
    """The limit is one of bytes, and the temporary name has to keep to it as well."""
    assert 240 < len(os.fsencode(name)) <= 255
    files.write_atomic(tmp_path / name, b"one")
    files.write_atomic(tmp_path / name, b"two")
    assert os.listdir(tmp_path) == [name] and (tmp_path / name).read_bytes() == b"two"


def test_permissions_follow_the_umask_and_then_the_old_file(tmp_path):
    path = tmp_path / "a.doh"
    old = os.umask(0o027)
    try:
        files.write_atomic(path, b"1")
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o600)
    files.write_atomic(path, b"2")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.doh"
    link.symlink_to(tmp_path / "real" / "file.doh")
    files.write_atomic(link, b"x")
    assert link.is_symlink() and (tmp_path / "real" / "file.doh").read_bytes() == b"x"


def test_full_disk_keeps_the_old_file(tmp_path):
    """A limit on the size of files stands in for a full disk: the write fails half-way."""
    path = tmp_path / "a.doh"
    path.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(files.FileError, match=r"^cannot write .*a\.doh: File too large$"):
            files.write_atomic(path, bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert os.listdir(tmp_path) == ["a.doh"] and path.read_bytes() == b"old"


def test_interrupt_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(handle):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.write_atomic(tmp_path / "a.doh", b"x")
    assert os.listdir(tmp_path) == []


def test_an_interrupt_right_after_it_is_made_leaves_nothing(tmp_path, monkeypatch):
    def opening(*arguments, do=os.open):
        os.close(do(*arguments))
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "open", opening)
    with pytest.raises(KeyboardInterrupt):
        files.write_atomic(tmp_path / "a.doh", b"x")
    assert os.listdir(tmp_path) == []


def test_devices_are_written_straight():
    files.write_atomic("/dev/null", b"x")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(files.FileError, match=r"^cannot write /dev/full: No space left on device$"):
        files.write_atomic("/dev/full", b"x")


@pytest.mark.parametrize("ask", [files.check_target, lambda path: files.write_atomic(path, b"x")])
def test_bad_targets(tmp_path, ask):
    with pytest.raises(files.FileError, match=r"the folder .*none does not exist"):
        ask(tmp_path / "none" / "a.doh")
    link = tmp_path / "link.doh"
    link.symlink_to(tmp_path / "gone" / "a.doh")
    with pytest.raises(files.FileError, match=r"^cannot write .*link\.doh: the folder .*gone does not exist$"):
        ask(link)
    link.unlink()
    with pytest.raises(files.FileError, match="it is a folder"):
        ask(tmp_path)
    with pytest.raises(files.FileError, match="File name too long"):
        ask(tmp_path / ("a" * 300))
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder in which root may not write either")
def test_folder_that_is_not_writable():
    with pytest.raises(files.FileError, match=r"^cannot write /proc/a.doh: "):
        files.write_atomic("/proc/a.doh", b"x")


def test_check_target_writes_nothing(tmp_path):
    files.check_target(tmp_path / "a.doh")
    files.check_target("/dev/full")
    assert os.listdir(tmp_path) == []


def test_read_bytes_names_the_file(tmp_path):
    with pytest.raises(files.FileError, match=r"^cannot read .*a.png: No such file or directory$"):
        files.read_bytes(tmp_path / "a.png")
    with pytest.raises(files.FileError, match="Is a directory"):
        files.read_bytes(tmp_path)


def test_an_interrupt_right_after_the_rename_is_passed_on(tmp_path, monkeypatch):
    def replacing(source, target, do=os.replace):
        do(source, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", replacing)
    with pytest.raises(KeyboardInterrupt):
        files.write_atomic(tmp_path / "a.doh", b"x")
    assert os.listdir(tmp_path) == ["a.doh"] and (tmp_path / "a.doh").read_bytes() == b"x"


def test_what_lies_where_a_state_is_to_be_is_renamed_and_never_lost(tmp_path):
    state = files.StateFile.at(tmp_path / "s")
    assert files.StateFile.at(state) is state and os.fspath(state) == str(state) == str(tmp_path / "s")
    assert state.make_room() is None and list(state.set_aside()) == []
    for number, name in enumerate(("s.old", "s.old2", "s.old3")):
        state.path.write_text(str(number))
        assert state.make_room() == tmp_path / name and not state.path.exists()
        assert (tmp_path / name).read_text() == str(number)
    assert [path.name for path in state.set_aside()] == ["s.old", "s.old2", "s.old3"]
    state.path.write_text("of this run")
    state.mine = True
    assert state.make_room() is None and state.path.read_text() == "of this run"


def test_no_room_for_a_state(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "s").touch()
    (tmp_path / "link").symlink_to(tmp_path / "s")
    link = files.StateFile(tmp_path / "link")
    assert link.make_room() == tmp_path / "link.old" and (tmp_path / "s").exists()  # what it points to stays where it is
    assert files.StateFile("/dev/null").make_room() is None
    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(files.FileError, match=r"^cannot rename .*/s to .*/s\.old: Permission denied$"):
        files.StateFile(tmp_path / "s").make_room()
