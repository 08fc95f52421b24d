"""What the lab's hosts show to others: nothing but their own doors, and a port that somebody opened is named."""

import pytest

from tests.system.conftest import Session


def test_the_lab_shows_nothing_but_its_own_doors(lab: Session) -> None:
    done = lab.inv("doors", check=False)
    assert done.returncode == 0, done.stdout[-4000:]


def test_a_port_that_a_container_publishes_is_named_though_ufw_would_refuse_it(lab: Session) -> None:
    image = lab.ssh("gpu1", "sudo docker inspect --format '{{.Image}}' ollama").strip()
    run = f"sudo docker run --detach --name opened --publish 9999:9999 --entrypoint sleep {image} 600"
    # An INPUT rule, as ufw's, refuses the port. What Docker publishes does not pass INPUT.
    rule = "INPUT -p tcp --dport 9999 -j REJECT"
    lab.ssh("gpu1", f"sudo iptables -I {rule} && {run}")
    try:
        done = lab.inv("doors", "--limit", "gpu1,gpu2", check=False)
    finally:
        lab.ssh("gpu1", f"sudo docker rm --force opened; sudo iptables -D {rule}")
    assert done.returncode == 2, done.stdout[-4000:]
    assert "port 9999: container opened, published by Docker" in done.stdout
    assert "gpu2: port" not in done.stdout


@pytest.mark.parametrize("tell", [False, True])
def test_a_program_on_all_addresses_is_named_until_it_is_allowed(lab: Session, tell: bool) -> None:
    program = "python3 -m http.server 9998 --bind 0.0.0.0 --directory /var/empty"
    lab.ssh("gpu1", f"sudo mkdir -p /var/empty && sudo systemd-run --unit=opened {program}")
    allowed = lab.inventory / "host_vars" / "gpu1" / "doors.yml"
    if tell:
        allowed.parent.mkdir(parents=True, exist_ok=True)
        allowed.write_text("fleet_doors_allowed: [9998]\n")
    try:
        done = lab.inv("doors", "--limit", "gpu1,gpu2", check=False)
    finally:
        allowed.unlink(missing_ok=True)
        lab.ssh("gpu1", "sudo systemctl stop opened")
    assert done.returncode == (0 if tell else 2), done.stdout[-4000:]
    assert (
        "port 9998: process python3, listens on 0.0.0.0, answers gpu2 and the controller" in done.stdout
    ) is not tell
