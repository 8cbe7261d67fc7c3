# SPDX-License-Identifier: Apache-2.0
"""Keys and files for SSH, as ssh-keygen, ssh and paramiko take them."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import paramiko
import pytest

from zclab.backends.virtual import ports
from zclab.base.errors import LabError
from zclab.host import ssh_keys


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_key_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "keys/id_ed25519"
    public = ssh_keys.ensure_key(path, "zclab")
    assert public.startswith("ssh-ed25519 ") and public.endswith(" zclab")
    assert mode(path) == 0o600 and mode(path.parent) == 0o700
    path.chmod(0o644)
    assert ssh_keys.ensure_key(path, "zclab") == public
    assert mode(path) == 0o600
    assert sorted(one.name for one in path.parent.iterdir()) == ["id_ed25519", "id_ed25519.pub"]


def test_key_without_its_public_half_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "key"
    public = ssh_keys.ensure_key(path, "zclab")
    path.with_name("key.pub").unlink()
    assert ssh_keys.ensure_key(path, "zclab") != public


def test_both_ssh_and_paramiko_read_the_files(tmp_path: Path) -> None:
    lab = tmp_path / "a lab"
    at = ssh_keys.Endpoint(ports.LOOPBACK, 2201)
    public = ssh_keys.ensure_key(lab / "key", "zclab")
    known = lab / "known_hosts"
    ssh_keys.write_private(known, ssh_keys.known_hosts({"sender1": (at, public)}))
    config = lab / "ssh_config"
    ssh_keys.write_private(config, ssh_keys.ssh_config({"sender1": at}, known, lab / "key"))

    done = subprocess.run(
        ["ssh", "-F", str(config), "-G", "sender1"], capture_output=True, text=True, check=True
    )
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert said["hostname"] == "127.0.0.1" and said["port"] == "2201" and said["user"] == "root"
    assert said["stricthostkeychecking"] in ("yes", "true")
    assert str(known) in said["userknownhostsfile"] and str(lab / "key") in said["identityfile"]

    found = paramiko.SSHConfig.from_path(str(config)).lookup("sender1")
    assert found["port"] == "2201"
    assert paramiko.HostKeys(str(known)).lookup("[127.0.0.1]:2201") is not None
    assert paramiko.HostKeys(str(known)).lookup("sender1") is not None


def test_ssh_reads_the_file_of_hosts_that_the_lab_did_not_make(tmp_path: Path) -> None:
    known = tmp_path / "a lab/known_hosts"
    ends = {"host1": ssh_keys.Endpoint("192.0.2.7", 2222, user="admin"), "host2": ssh_keys.Endpoint("host2")}
    config = tmp_path / "ssh_config"
    config.write_text(ssh_keys.ssh_config(ends, known), encoding="utf-8")
    places = {"host1": "192.0.2.7 2222 admin", "192.0.2.7": "192.0.2.7 2222 admin", "host2": "host2 22 root"}
    for name, place in places.items():
        done = subprocess.run(["ssh", "-F", config, "-G", name], capture_output=True, text=True, check=True)
        said = dict(line.split(" ", 1) for line in done.stdout.splitlines())
        assert f"{said['hostname']} {said['port']} {said['user']}" == place
        assert said["stricthostkeychecking"] in ("yes", "true")
        assert str(known) in said["userknownhostsfile"]
        assert said["identitiesonly"] == "no" and "hostkeyalias" not in said


def test_missing_ssh_keygen_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LabError, match="ssh-keygen is not installed"):
        ssh_keys.ensure_key(tmp_path / "key", "zclab")


def test_private_file_changes_only_when_its_text_does(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert ssh_keys.write_private(path, "a")
    assert not ssh_keys.write_private(path, "a")
    assert ssh_keys.write_private(path, "b")
    assert path.read_text() == "b" and mode(path) == 0o600
