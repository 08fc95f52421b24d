"""What an engine leaves in the firewall is found, and nothing of anybody else's."""

from lab.firewall import docker_rules, rules_of

FILTER = """\
-P INPUT ACCEPT
-P FORWARD DROP
-P OUTPUT ACCEPT
-N DOCKER
-N DOCKER-USER
-N mine
-A INPUT -p tcp -m tcp --dport 22 -m comment --comment "ssh, not DOCKER" -j ACCEPT
-A FORWARD -j DOCKER-USER
-A FORWARD -o oflab-1a2b3c -j DOCKER
-A FORWARD -i oflab-1a2b3c ! -o oflab-1a2b3c -j ACCEPT
-A FORWARD -i eth1 -j mine
-A DOCKER-USER -j RETURN
-A DOCKER -i oflab-1a2b3c -j RETURN
""".splitlines()


def test_the_rules_of_one_interface() -> None:
    assert rules_of("oflab-1a2b3c", FILTER) == [
        ["-D", "FORWARD", "-o", "oflab-1a2b3c", "-j", "DOCKER"],
        ["-D", "FORWARD", "-i", "oflab-1a2b3c", "!", "-o", "oflab-1a2b3c", "-j", "ACCEPT"],
        ["-D", "DOCKER", "-i", "oflab-1a2b3c", "-j", "RETURN"],
    ]
    assert rules_of("oflab-1a2b", FILTER) == []


def test_dockers_chains_and_the_way_to_them() -> None:
    assert docker_rules(FILTER) == [
        ["-D", "FORWARD", "-j", "DOCKER-USER"],
        ["-D", "FORWARD", "-o", "oflab-1a2b3c", "-j", "DOCKER"],
        ["-F", "DOCKER"],
        ["-F", "DOCKER-USER"],
        ["-X", "DOCKER"],
        ["-X", "DOCKER-USER"],
    ]


def test_a_firewall_without_docker_is_left_alone() -> None:
    own = [rule for rule in FILTER if "DOCKER" not in rule.split() and "oflab" not in rule and "DOCKER-" not in rule]
    assert docker_rules(own) == []
    assert "-A FORWARD -i eth1 -j mine" in own
