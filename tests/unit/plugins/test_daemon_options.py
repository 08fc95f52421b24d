"""Docker's daemon.json with all the contents that it may start with: the result, the second run, and the way back."""

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils.daemon_options import in_words, shown
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.modules.docker_daemon import DaemonFile

CDI = {"features": {"cdi": True}}
FALLBACK = {
    "runtimes": {"nvidia": {"path": "nvidia-container-runtime"}},
    "exec-opts": ["native.cgroupdriver=cgroupfs"],
}
SITE = {"registry-mirrors": ["http://registry.lab:5000"], "insecure-registries": ["registry.lab:5000"]}
# As nvidia-ctk runtime configure --runtime=docker --cdi.enabled writes it.
NVIDIA_CTK = (
    '{\n    "features": {\n        "cdi": true\n    },\n    "runtimes": {\n        "nvidia": {\n'
    '            "args": [],\n            "path": "nvidia-container-runtime"\n        }\n    }\n}'
)
# As the role geerlingguy.docker writes docker_daemon_options, here with its README's example.
GEERLINGGUY = '{\n    "storage-driver": "overlay2",\n    "log-opts": {\n        "max-size": "100m"\n    }\n}'
# What DGX OS puts there, and its override, which asks for systemd's cgroups.
DGX = (
    '{"runtimes": {"nvidia": {"path": "/usr/bin/nvidia-container-runtime"}}, "default-runtime": "nvidia", '
    '"exec-opts": ["native.cgroupdriver=systemd"], "bip": "172.26.0.1/24"}'
)
PROXY = '{"proxies": {"http-proxy": "http://user:secret@proxy:3128", "no-proxy": "localhost"}}\n'

# Starting content (None: no file), what we want, what the file says then.
CONTENTS: dict[str, tuple[str | None, dict[str, Any], dict[str, Any]]] = {
    "no file": (None, CDI, CDI),
    "empty": ("", CDI, CDI),
    "whitespace": (" \n\t\n", CDI, CDI),
    "empty object": ("{}\n", CDI, CDI),
    "geerlingguy.docker's": (GEERLINGGUY, CDI, {**json.loads(GEERLINGGUY), **CDI}),
    "nvidia-ctk's, and it has all": (NVIDIA_CTK, CDI, json.loads(NVIDIA_CTK)),
    "nvidia-ctk's, and ours beside it": (NVIDIA_CTK, {**CDI, **SITE}, {**json.loads(NVIDIA_CTK), **SITE}),
    "nvidia-ctk's, for the fallback": (
        NVIDIA_CTK,
        FALLBACK,
        {**json.loads(NVIDIA_CTK), "exec-opts": ["native.cgroupdriver=cgroupfs"]},
    ),
    "a proxy": (PROXY, CDI, {**json.loads(PROXY), **CDI}),
    "a log driver": ('{"log-driver": "journald"}', CDI, {"log-driver": "journald", **CDI}),
    "a log driver, and ours": ('{"log-driver": "journald"}', {"log-driver": "local"}, {"log-driver": "local"}),
    "mirrors and insecure registries": (
        '{"registry-mirrors": ["https://mirror"], "insecure-registries": ["theirs:5000"]}',
        SITE,
        {
            "registry-mirrors": ["https://mirror", "http://registry.lab:5000"],
            "insecure-registries": ["theirs:5000", "registry.lab:5000"],
        },
    ),
    "DGX's override": (
        DGX,
        FALLBACK,
        {
            **json.loads(DGX),
            "runtimes": {"nvidia": {"path": "nvidia-container-runtime"}},
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
        },
    ),
    "a byte order mark": ('\ufeff{"debug": true}', CDI, {"debug": True, **CDI}),
    "our options already, in other words": ('{ "features" :{"cdi":true} }', CDI, CDI),
    "features of others": ('{"features": {"buildkit": true}}', CDI, {"features": {"buildkit": True, "cdi": True}}),
    "our feature switched off": ('{"features": {"cdi": false}}', CDI, CDI),
    "another runtime": (
        '{"runtimes": {"kata": {"path": "kata"}}}',
        FALLBACK,
        {"runtimes": {"kata": {"path": "kata"}, **FALLBACK["runtimes"]}, "exec-opts": FALLBACK["exec-opts"]},
    ),
    "a value where we want a list": ('{"dns": "10.0.0.1"}', {"dns": ["10.0.0.2"]}, {"dns": ["10.0.0.2"]}),
    "windows line ends": ('{\r\n  "debug": true\r\n}\r\n', CDI, {"debug": True, **CDI}),
}


class Box:
    """The file and what is remembered, in a folder."""

    def __init__(self, folder: Path, text: str | None) -> None:
        self.path, self.state = folder / "daemon.json", folder / "state.json"
        if text is not None:
            self.path.write_bytes(text.encode())

    def run(self, wanted: dict[str, Any]) -> bool:
        """What the module does to both, and whether the file changed."""
        file = DaemonFile(str(self.path), str(self.state))
        text, state, _options = file.plan(wanted)
        for path, content in ((self.path, text), (self.state, None if state is None else json.dumps(state))):
            if content is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(content.encode())
        return text != file.text

    def text(self) -> str | None:
        return self.path.read_bytes().decode() if self.path.exists() else None

    def options(self) -> Any:
        return json.loads((self.text() or "{}").removeprefix("\ufeff"))


@pytest.fixture(params=CONTENTS)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Box, str | None, dict[str, Any], dict[str, Any]]:
    text, wanted, expected = CONTENTS[request.param]
    return Box(tmp_path, text), text, wanted, expected


def test_result_second_run_and_the_way_back(case: Any) -> None:
    box, text, wanted, expected = case
    box.run(wanted)
    assert box.options() == expected
    assert not box.run(wanted), "the second run changes nothing"
    box.run({})
    assert box.text() == text, "without us the file is as it was found, to the byte"
    assert not box.state.exists()


def test_what_others_wrote_meanwhile_survives_our_leaving(tmp_path: Path) -> None:
    box = Box(tmp_path, '{"log-driver": "journald"}')
    box.run({"log-driver": "local", **SITE, **CDI})
    options = box.options()
    options["insecure-registries"].append("later:5000")
    options["features"]["cdi"] = False  # ours no more
    options["bip"] = "10.1.0.1/24"
    box.path.write_text(json.dumps(options))
    box.run({})
    assert box.options() == {
        "log-driver": "journald",
        "insecure-registries": ["later:5000"],
        "features": {"cdi": False},
        "bip": "10.1.0.1/24",
    }


def test_an_option_that_is_dropped_leaves_and_the_others_stay(tmp_path: Path) -> None:
    box = Box(tmp_path, '{"debug": true}')
    box.run({**CDI, **SITE})
    box.run(CDI)
    assert box.options() == {"debug": True, **CDI}


def test_the_order_of_a_list_that_others_extended_is_no_change(tmp_path: Path) -> None:
    box = Box(tmp_path, '{"dns": ["10.0.0.1"]}')
    box.run({"dns": ["10.0.0.2"]})
    box.path.write_text('{"dns": ["10.0.0.1", "10.0.0.2", "10.0.0.3"]}')
    assert not box.run({"dns": ["10.0.0.2"]})


def test_a_value_of_others_that_is_replaced_is_named(tmp_path: Path) -> None:
    file = Box(tmp_path, DGX)
    _text, state, options = DaemonFile(str(file.path), str(file.state)).plan(FALLBACK)
    assert state is not None
    assert in_words(state["replaced"], options) == [
        'exec-opts was ["native.cgroupdriver=systemd"] and is ["native.cgroupdriver=cgroupfs"]',
        'runtimes.nvidia.path was "/usr/bin/nvidia-container-runtime" and is "nvidia-container-runtime"',
    ]


@pytest.mark.parametrize("text", ["{", '{"debug": true,}', "[]", '"x"', "# none\n{}"])
def test_broken_file_is_refused_with_the_remedy(tmp_path: Path, text: str) -> None:
    box = Box(tmp_path, text)
    with pytest.raises(FleetError, match=rf"{box.path} .*repair it, or move it away \(mv "):
        box.run(CDI)
    assert box.text() == text


def test_passwords_of_proxies_and_mirrors_are_not_shown() -> None:
    assert shown(PROXY) == PROXY.replace("user:secret@", "***@")
