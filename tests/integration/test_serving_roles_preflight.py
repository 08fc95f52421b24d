"""What the serving roles refuse, and what they write, in one check run over hosts that are told rather than had."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ollama_fleet.authority import issue, make_authority
from tests.integration.foundation import Playground, of_host
from tests.unit.plugins.gguf_bytes import gguf
from tests.unit.plugins.host_trees import HostTree

TOKEN = "abcdefghijklmnopqrstuvwxyz-0123456789_AB"
OLD_TOKEN = "old-token-that-is-still-in-use-0123456789"
PROXY_PASSWORD = "p$w-of-the-proxy"
FLEET = make_authority()
PAIR = issue(FLEET, "open", ["10.0.0.7"])
PEM = {"ollama_gateway_certificate": PAIR.certificate, "ollama_gateway_certificate_key": PAIR.key}
CLIENT = {"name": "web", "token": TOKEN}
GATEWAY = {"ollama_gateway_clients": [CLIENT], "ollama_gateway_allowed_sources": ["10.0.0.5"], **PEM}
WEBUI = {"open_webui_admin_password": "pa'ss\"w\\o$r{d}# é", "open_webui_secret_key": "k" * 32}
WEB_PAIR = issue(FLEET, "web1", ["10.0.0.5"])
WEB_TLS = {
    "open_webui_tls_certificate": WEB_PAIR.certificate,
    "open_webui_tls_certificate_key": WEB_PAIR.key,
    "open_webui_public_url": "https://chat.example.org",
}
OIDC = {
    "open_webui_oidc_provider_url": "https://id.example.org/.well-known/openid-configuration",
    "open_webui_oidc_client_id": "chat",
    "open_webui_oidc_client_secret": "oidc-secret-of-the-client",
    "open_webui_public_url": "https://chat.example.org",
}
DATABASE_URL = "postgresql://webui:database-password@10.0.0.9:5432/webui"
REPLICA = {"open_webui_database_url": DATABASE_URL, "open_webui_redis_url": "redis://:redis-password@10.0.0.9:6379/0"}
BACKEND = {"url": "https://10.0.0.7:11435", "token": TOKEN}
AUTHORITY = "-----BEGIN CERTIFICATE-----\nfleet\n-----END CERTIFICATE-----"
H100 = {
    "pci_address": "0000:00:06.0",
    "vendor_id": "10de",
    "device_id": "2330",
    "architecture": "hopper",
    "name": "NVIDIA H100 80GB HBM3",
    "driver_in_use": "nvidia",
}
DOCKER_25 = {"version": "25.0.5", "containers": [], "packages": {}, "present": True, "snap": False, "compose": "2.26.1"}
OTHERS_PORT = [{"address": "0.0.0.0", "port": 11434, "protocol": "tcp", "pid": 7, "process": "ollama"}]  # noqa: S104


NOBODY = {"ollama_models_base_url": "http://127.0.0.1:9"}
ROOMY = {"total_bytes": 64 * 1024**3, "available_bytes": 64 * 1024**3}
OWN = {"name": "own:1", "file": "own.gguf", "checksum": "sha256:" + "a" * 64}
# A small model whose context is what takes memory: 24 layers of 16 heads in full, 192 KiB for each token.
OWN_PAIRS = {
    "general.architecture": "llama",
    "llama.block_count": 24,
    "llama.embedding_length": 2048,
    "llama.feed_forward_length": 5632,
    "llama.context_length": 131072,
    "llama.attention.head_count": 16,
}


def case(role: str, says: list[str], facts: dict[str, Any] | None = None, **variables: Any) -> dict[str, Any]:
    return {"role": role, "says": says, "facts": facts or {}, "variables": variables}


NATIVE = {"ollama_mode": "native", "ollama_release_checksum": "sha256:" + "c" * 64}
NATIVE_RECORD = {
    "complete": True,
    "inputs": {},
    "role_digest": "",
    "keep": {"ports": [11434], "native": {"folder": "/opt/ollama", "user": True}},
    "drift": [],
}


GOOD = {
    "native": case(
        "ollama",
        [
            "ollama.service",
            "+release: 0.32.15",
            "+environment: changed",
            "ExecStart=/opt/ollama/current/bin/ollama serve",
            "/home/.ollama",
            "# Driver: none.",
        ],
        **NATIVE,
        ollama_environment={"HTTPS_PROXY": f"http://u:{PROXY_PASSWORD}@proxy:3128"},
    ),
    "native-gpu": case("ollama", ["nvidia-modprobe -c 0 -u"], {"gpus": [H100]}, **NATIVE),
    "native-in-a-home": case("ollama", ["ProtectHome=read-only"], **NATIVE, ollama_data_dir="/home/models"),
    "docker-after-native": case(
        "ollama",
        ["changed: [docker-after-native]", "/etc/ollama-fleet/ollama.env", "127.0.0.1:11434:11434"],
        {"records": {"ollama": NATIVE_RECORD}},
    ),
    "plain": case("ollama", ["127.0.0.1:11434:11434", 'OLLAMA_CONTEXT_LENGTH: "8192"', 'OLLAMA_NO_CLOUD: "1"']),
    "tuned": case(
        "ollama",
        ['OLLAMA_CONTEXT_LENGTH: "4096"', "127.0.0.1:11500:11434"],
        ollama_context_length=4096,
        ollama_port=11500,
        ollama_environment={"HTTPS_PROXY": f"http://u:{PROXY_PASSWORD}@proxy:3128"},
    ),
    "gpu": case(
        "ollama", ["driver: cdi", 'device_ids: ["nvidia.com/gpu=all"]', "capabilities: [gpu]"], {"gpus": [H100]}
    ),
    "one-gpu": case(
        "ollama", ['device_ids: ["nvidia.com/gpu=GPU-1"]'], {"gpus": [H100]}, ollama_gpu_device_ids=["GPU-1"]
    ),
    # Docker 25 does not read what the toolkit writes.
    "gpu-old-docker": case("ollama", ["driver: nvidia", "count: all"], {"gpus": [H100], "docker": DOCKER_25}),
    "one-gpu-old-docker": case(
        "ollama",
        ["driver: nvidia", 'device_ids: ["GPU-1"]'],
        {"gpus": [H100], "docker": DOCKER_25},
        ollama_gpu_device_ids=["GPU-1"],
    ),
    "proxied": case(
        "ollama",
        ['+      NO_PROXY: "10.0.0.0/24,cache1"', "/ollama.env", "(not shown, changed)"],
        ollama_https_proxy=f"http://u:{PROXY_PASSWORD}@proxy:3128",
        ollama_no_proxy=["10.0.0.0/24", "cache1"],
    ),
    "authority": case(
        "ollama",
        ['SSL_CERT_FILE: "/etc/ollama-fleet/ca.pem"', "/ca.pem", "ollama-fleet.ca: ", "-----BEGIN CERTIFICATE-----"],
        ollama_ca_certificate=FLEET.certificate,
    ),
    "mirrored": case(
        "ollama",
        ['image: "mirror.lab:5000/hub/ollama/ollama:0.32.15"'],
        ollama_image_prefix="mirror.lab:5000/hub",
    ),
    "cpu-on-purpose": case(
        "ollama",
        ['CUDA_VISIBLE_DEVICES: "-1"', 'NVIDIA_VISIBLE_DEVICES: "void"'],
        {"gpus": [H100]},
        ollama_use_gpu=False,
    ),
    "digest": case("ollama", ["@sha256:"], ollama_image="registry.lab:5000/ollama@sha256:" + "a" * 64),
    "no-models": case("ollama_models", []),
    "models-before-ollama": case(
        "ollama_models",
        ["=> (item=a:1)", "=> (item=chat:1)", "changed=3"],
        **NOBODY,
        ollama_models_list=[{"name": "a:1", "source": "127.0.0.1:9/library/a:1"}],
        ollama_models_host_list=[{"name": "chat:1", "alias": "a:1"}],
    ),
    "model-of-a-file": case(
        "ollama_models", ["=> (item=own:1)", "changed=2"], {"memory": ROOMY}, **NOBODY, ollama_models_list=[OWN]
    ),
    "closed": case("ollama_gateway", []),
    "open": case(
        "ollama_gateway",
        ["listen 0.0.0.0:11435 ssl;", "10.0.0.5 1;", "web use;", "proxy_buffering off;"],
        **GATEWAY,
    ),
    "open-on-one-address": case(
        "ollama_gateway",
        ["listen 10.0.0.7:11435 ssl;", "    10.0.0.7 1;"],
        **GATEWAY,
        ollama_gateway_bind_address="10.0.0.7",
    ),
    "open-by-client": case(
        "ollama_gateway",
        ["    10.0.0.5 1;\n+    10.0.0.9 1;", "web $ollama_gateway_source_of_1;", "limit_conn ollama_gateway 7;"],
        **{
            **GATEWAY,
            "ollama_gateway_clients": [{**CLIENT, "sources": ["10.0.0.9"]}],
            "ollama_gateway_token_aliases": [{"token": OLD_TOKEN, "same_as": TOKEN}],
            "ollama_gateway_max_requests": 7,
        },
    ),
    "manager": case(
        "ollama_gateway",
        ["web manage;", "client_max_body_size 0;"],
        **{**GATEWAY, "ollama_gateway_clients": [{**CLIENT, "allow_model_management": True}]},
    ),
    "alone": case("open_webui", ["127.0.0.1:3000:8080"], **WEBUI),
    "wired": case(
        "open_webui",
        ["/ca-bundle.pem", "target: /etc/ollama-fleet/ca-bundle.pem", "ollama-fleet.ca-bundle: ", "ollama-fleet"],
        **WEBUI,
        open_webui_backends=[BACKEND],
        open_webui_ca_certificate=AUTHORITY,
        open_webui_networks=["ollama-fleet"],
    ),
    "behind-tls": case(
        "open_webui",
        [
            "listen 0.0.0.0:443 ssl;",
            "proxy_set_header Upgrade $http_upgrade;",
            "Would install nginx",
            "proxy_pass http://127.0.0.1:3000;",
        ],
        **WEBUI,
        **WEB_TLS,
    ),
    "oidc": case("open_webui", ["127.0.0.1:3000:8080"], **WEBUI, **OIDC),
    "replica": case("open_webui", ["127.0.0.1:3000:8080"], **WEBUI, **REPLICA, open_webui_migrating_host="alone"),
}
REFUSED = {
    "native-unchecked": case("ollama", ["ollama_release_checksum is ''", "sha256sum.txt"], ollama_mode="native"),
    "native-without-systemd": case(
        "ollama", ["process 1 is not systemd", "set ollama_mode"], {"systemd": False}, **NATIVE
    ),
    "native-wsl": case("ollama", ["systemd=true", "/etc/wsl.conf"], {"systemd": False, "wsl": True}, **NATIVE),
    "native-no-file": case("ollama", ["there is no file"], **NATIVE, ollama_release_file="gone.tgz"),
    "native-port": case("ollama", ["port 11434 is taken"], {"ports": OTHERS_PORT}, **NATIVE),
    "unpinned": case("ollama", ["names no version", "ollama_image"], ollama_image="registry.lab:5000/ollama/ollama"),
    "twice": case("ollama", ["OLLAMA_HOST", "ollama_environment"], ollama_environment={"OLLAMA_HOST": "0.0.0.0"}),  # noqa: S104
    "proxy-twice": case(
        "ollama",
        ["sets HTTPS_PROXY, which this role sets itself"],
        ollama_https_proxy="http://proxy:3128",
        ollama_environment={"HTTPS_PROXY": f"http://u:{PROXY_PASSWORD}@proxy:3128"},
    ),
    "odd-proxy": case(
        "ollama",
        ["ollama_https_proxy is no address of a proxy", "%2F"],
        ollama_https_proxy=f"u:{PROXY_PASSWORD}@proxy:3128",
    ),
    "odd-mirror": case(
        "ollama",
        ["ollama_image_prefix is 'http://mirror.lab:5000/'", "without http://"],
        ollama_image_prefix="http://mirror.lab:5000/",
    ),
    "odd-keep-alive": case(
        "ollama", ["ollama_keep_alive is 'five minutes', which is no duration"], ollama_keep_alive="five minutes"
    ),
    "odd-load-timeout": case("ollama", ["ollama_load_timeout is '5 m'"], ollama_load_timeout="5 m"),
    "cache-without-flash": case(
        "ollama",
        ["would silently take f16", "ollama_flash_attention: true"],
        ollama_kv_cache_type="q8_0",
        ollama_flash_attention=False,
    ),
    "key-as-authority": case(
        "ollama", ["ollama_ca_certificate is no certificate"], ollama_ca_certificate=PAIR.certificate + PAIR.key
    ),
    "other-gpu": case(
        "ollama",
        ["ollama_gpu_device_ids names GPU-9, and the host has GPU-1"],
        {"gpus": [{**H100, "uuid": "GPU-1"}]},
        ollama_gpu_device_ids=["GPU-9"],
    ),
    "no-context": case("ollama", ["ollama_context_length is 0", "less than 256"], ollama_context_length=0),
    "wrong-type": case("ollama", ["ollama_context_length", "int"], ollama_context_length="plenty"),
    "wrong-cache": case("ollama", ["ollama_kv_cache_type", "q8_0"], ollama_kv_cache_type="q5"),
    "port-taken": case("ollama", ["port 11434 is taken on 0.0.0.0", "ollama_port"], {"ports": OTHERS_PORT}),
    "untagged": case("ollama_models", ["llama3 names no tag", "llama3.2:3b"], ollama_models_list=[{"name": "llama3"}]),
    "bad-name": case(
        "ollama_models",
        ["'bad name!!/../x:1' is no model name", "[host/][namespace/]model[:tag]"],
        ollama_models_list=[{"name": "bad name!!/../x:1"}],
    ),
    "model-twice": case(
        "ollama_models",
        ["ollama_models_host_list names a model twice"],
        ollama_models_host_list=[{"name": "a:1"}, {"name": "A:1"}],
    ),
    "baseless": case("ollama_models", ["chat:1 needs a:1"], ollama_models_list=[{"name": "chat:1", "alias": "a:1"}]),
    "too-big": case(
        "ollama_models",
        ["own:1 is too big for the memory", "nothing was pulled", "would fit", "ollama_context_length: "],
        {"memory": {"total_bytes": 3 * 1024**3, "available_bytes": 3 * 1024**3}},
        **NOBODY,
        ollama_models_list=[OWN],
        ollama_context_length=131072,
    ),
    "partly-on-gpu": case(
        "ollama_models",
        ["own:1 is partly on the GPU", "ollama_models_fit: memory"],
        {
            "memory": ROOMY,
            "gpus": [{**H100, "uuid": "GPU-1", "state": "ok", "mig": False, "memory_bytes": 2 * 1024**3}],
        },
        **NOBODY,
        ollama_models_list=[OWN],
    ),
    "no-disk": case(
        "ollama_models",
        ["own:1 is too big for the disk", "free disk space"],
        {"memory": ROOMY},
        **NOBODY,
        ollama_models_list=[OWN],
        ollama_models_disk_reserve="1000000G",
    ),
    "no-file": case(
        "ollama_models",
        ["model own:1", "No such file"],
        **NOBODY,
        ollama_models_list=[{**OWN, "file": "gone.gguf"}],
    ),
    "weak-token": case(
        "ollama_gateway",
        ["token of web", "32"],
        **{**GATEWAY, "ollama_gateway_clients": [{"name": "web", "token": "short"}]},
    ),
    "no-source": case(
        "ollama_gateway", ["ollama_gateway_allowed_sources"], **{**GATEWAY, "ollama_gateway_allowed_sources": []}
    ),
    "odd-source": case(
        "ollama_gateway", ["web1 in ollama_gateway"], **{**GATEWAY, "ollama_gateway_allowed_sources": ["web1"]}
    ),
    "no-certificate": case("ollama_gateway", ["must hold PEM"], **{**GATEWAY, "ollama_gateway_certificate": ""}),
    "wrong-key": case(
        "ollama_gateway",
        ["the key is another certificate's", "./inv secrets.init"],
        **{**GATEWAY, "ollama_gateway_certificate_key": issue(FLEET, "other", []).key},
    ),
    "same-client": case(
        "ollama_gateway", ["Give each client its own"], **{**GATEWAY, "ollama_gateway_clients": [CLIENT, CLIENT]}
    ),
    "reserved-client": case(
        "ollama_gateway", ["none of default"], **{**GATEWAY, "ollama_gateway_clients": [{**CLIENT, "name": "Default"}]}
    ),
    "same-token": case(
        "ollama_gateway",
        ["two clients", "the same token"],
        **{**GATEWAY, "ollama_gateway_clients": [CLIENT, {**CLIENT, "name": "other"}]},
    ),
    "weak-alias": case(
        "ollama_gateway",
        ["token of ollama_gateway_token_aliases"],
        **GATEWAY,
        ollama_gateway_token_aliases=[{"token": "short", "same_as": TOKEN}],
    ),
    "upstream-with-path": case(
        "ollama_gateway", ["without a path"], **GATEWAY, ollama_gateway_upstream="http://127.0.0.1:11434/"
    ),
    "weak-password": case(
        "open_webui", ["12 characters", "secrets.init"], **{**WEBUI, "open_webui_admin_password": "x"}
    ),
    "no-secret": case("open_webui", ["open_webui_secret_key"], open_webui_admin_password="long enough to pass"),
    "odd-mail": case("open_webui", ["open_webui_admin_email is 'root'"], **WEBUI, open_webui_admin_email="root"),
    "clear-token": case(
        "open_webui",
        ["http://10.0.0.7:11435", "plain HTTP"],
        **WEBUI,
        open_webui_backends=[{"url": "http://10.0.0.7:11435", "token": TOKEN}],
    ),
    "all-addresses": case(
        "open_webui",
        ["open_webui_public_url is ''", "https://chat.example.org"],
        **WEBUI,
        open_webui_bind_address="0.0.0.0",  # noqa: S104
    ),
    "open-cors": case("open_webui", ["none with a star"], **WEBUI, open_webui_cors_origins=["*"]),
    "tls-and-http": case(
        "open_webui", ["plain HTTP must stay on the host"], **WEBUI, **WEB_TLS, open_webui_bind_address="10.0.0.5"
    ),
    "tls-port-taken": case(
        "open_webui",
        ["port 443 is taken by apache2", "open_webui_tls_port"],
        {"ports": [{**OTHERS_PORT[0], "port": 443, "process": "apache2"}]},
        **WEBUI,
        **WEB_TLS,
    ),
    "tls-wrong-key": case(
        "open_webui",
        ["the key is another certificate's"],
        **{**WEBUI, **WEB_TLS, "open_webui_tls_certificate_key": PAIR.key},
    ),
    "half-oidc": case(
        "open_webui", ["open_webui_oidc_client_secret"], **{**WEBUI, **OIDC, "open_webui_oidc_client_secret": ""}
    ),
    "lonely-redis": case(
        "open_webui",
        ["replicas share a database"],
        **WEBUI,
        open_webui_redis_url="redis://:redis-password@10.0.0.9:6379/0",
    ),
    "nobody-migrates": case(
        "open_webui", ["a host of the inventory"], **WEBUI, **REPLICA, open_webui_migrating_host="web9"
    ),
    "backup-in-reach": case(
        "open_webui",
        ["must not be in open_webui_data_dir"],
        **WEBUI,
        open_webui_backup_dir="/var/lib/open-webui/backups",
    ),
    "taken-setting": case(
        "open_webui", ["DATABASE_URL", "this role sets itself"], **WEBUI, open_webui_environment={"DATABASE_URL": "x"}
    ),
    "no-address": case("open_webui", ["gpu1 in open_webui_backends"], **WEBUI, open_webui_backends=[{"url": "gpu1"}]),
}
SECRETS = [TOKEN, OLD_TOKEN, PROXY_PASSWORD, "pa'ss", "k" * 32, "BEGIN PRIVATE KEY"]
SECRETS += ["oidc-secret", "database-password", "redis-password"]


def fresh_server(folder: Path) -> dict[str, Any]:
    facts = HostTree(folder).system("debian", "13", "6.12.48+deb13-amd64").observe().everything()
    facts["docker"]["containers"] = []
    return {**facts, "ports": []}


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What one check run over all of these hosts said."""
    folder = tmp_path_factory.mktemp("hosts")
    server = fresh_server(folder / "server")
    hosts = {}
    (folder / "own.gguf").write_bytes(gguf(OWN_PAIRS))
    for name, told in {**GOOD, **REFUSED}.items():
        (folder / f"{name}.json").write_text(json.dumps({**server, **told["facts"]}))
        project = {"ollama_project_dir": f"{folder}/{name}", "open_webui_project_dir": f"{folder}/{name}"}
        hosts[name] = {"told_role": told["role"], **project, **told["variables"]}
    file = f"{folder}/{{{{ inventory_hostname }}}}.json"
    facts = f"{{{{ lookup('ansible.builtin.file', '{file}') | from_json }}}}"
    tasks = [
        {"name": "Tell", "ansible.builtin.set_fact": {"ollama_fleet": facts, "cacheable": True}},
        {"name": "Apply", "ansible.builtin.include_role": {"name": "ollama_fleet.stack.{{ told_role }}"}},
    ]
    result = Playground(folder).run_on(hosts, tasks, "--check", "--diff")
    return result.stdout + result.stderr


# One result: its line, or the lines up to its closing brace.
@pytest.mark.parametrize("name", GOOD)
def test_check_run_on_a_fresh_host_passes_and_shows_what_it_would_write(output: str, name: str) -> None:
    said = of_host(output, name)
    assert "failed=0" in said, said
    for words in GOOD[name]["says"]:
        assert words in said


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_by_host_variable_and_remedy(output: str, name: str) -> None:
    said = of_host(output, name)
    assert "failed=1" in said, said
    for words in REFUSED[name]["says"]:
        assert words in said


def test_closed_gateway_changes_nothing(output: str) -> None:
    said = of_host(output, "closed")
    # The record of a role that never ran is all there is to write.
    assert re.search(r"changed=[01] ", said), said
    assert "Would install" not in said


def test_no_secret_is_said(output: str) -> None:
    for secret in SECRETS:
        assert secret not in output
