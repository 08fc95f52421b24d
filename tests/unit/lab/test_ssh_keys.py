"""SSH identities are real ones, made once, readable by their owner alone."""

import subprocess

from lab import ssh_keys


def test_ssh_keygen_agrees_with_the_pair(tmp_path) -> None:
    pair = ssh_keys.key_pair(tmp_path / "ssh/id")
    done = subprocess.run(["ssh-keygen", "-y", "-f", pair.private_file], capture_output=True, text=True, check=True)
    assert done.stdout.split()[:2] == pair.public.split()
    assert pair.private_file.stat().st_mode & 0o777 == 0o600
    assert pair.private_file.parent.stat().st_mode & 0o777 == 0o700


def test_a_pair_that_is_there_stays(tmp_path) -> None:
    assert ssh_keys.key_pair(tmp_path / "id") == ssh_keys.key_pair(tmp_path / "id")
    assert ssh_keys.key_pair(tmp_path / "id").public != ssh_keys.key_pair(tmp_path / "other").public


def test_ssh_knows_the_host_by_the_file(tmp_path) -> None:
    pair = ssh_keys.key_pair(tmp_path / "host")
    known = tmp_path / "known_hosts"
    known.write_text(ssh_keys.known_hosts({"10.213.0.12": "ssh-ed25519 AAAA", "10.213.0.11": pair.public}))
    done = subprocess.run(["ssh-keygen", "-F", "10.213.0.11", "-f", known], capture_output=True, text=True, check=True)
    assert pair.public in done.stdout
