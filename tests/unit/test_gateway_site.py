"""The gateway's site as it is rendered: which requests its rules let through, and what fail2ban sees in its log."""

import re
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment, FileSystemLoader, pass_context

ROLE = Path(__file__).resolve().parents[2] / "roles" / "ollama_gateway"
TOKEN, OLD, OTHER = "n" * 43, "o" * 43, "x" * 43


def render(template: str, **variables: Any) -> str:
    environment = Environment(loader=FileSystemLoader(ROLE / "templates"), trim_blocks=True, autoescape=False)  # noqa: S701
    # Ansible's own filters, as far as the templates use them.
    environment.filters["comment"] = lambda text: f"# {text}"
    # Ansible makes lists of what Jinja leaves as generators.
    choose = environment.filters["selectattr"]
    environment.filters["selectattr"] = pass_context(lambda *given, **named: list(choose(*given, **named)))
    given = {
        "ansible_managed": "managed",
        "__ollama_gateway_dir": "/etc/ollama-fleet/gateway",
        "__ollama_gateway_sources": ["127.0.0.1", "10.0.0.5", "10.0.0.9"],
        "__ollama_gateway_itself": ["127.0.0.1", "::1"],
        "ollama_gateway_allowed_sources": ["10.0.0.5"],
        "ollama_gateway_clients": [{"name": "web", "token": TOKEN}, {"name": "note", "token": OTHER}],
        "ollama_gateway_token_aliases": [],
    }
    return environment.get_template(template).render({**given, **variables})


def site(**variables: Any) -> str:
    return render("etc/nginx/conf.d/ollama-fleet-gateway.conf.j2", **variables)


def tokens(**variables: Any) -> list[str]:
    text = render("etc/ollama-fleet/gateway/clients.conf.j2", **variables)
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def need(request: str) -> str:
    """What nginx's map would say: the first expression that fits."""
    rules = re.search(r"map [^\n]*\$ollama_gateway_need \{\n(.*?)\n\}", site(), re.DOTALL)
    assert rules
    for expression, value in re.findall(r'"~(.*?)" (\w+);', rules[1]):
        if re.search(expression, request):
            return str(value)
    return "nobody"


@pytest.mark.parametrize(
    "request_line",
    [
        "GET /",
        "HEAD /",
        "GET /api/tags",
        "GET /api/ps",
        "GET /api/version?x=1",
        "POST /api/chat",
        "POST /api/generate",
        "POST /api/show",
        "POST /api/embed",
        "GET /v1/models",
        "GET /v1/models/llama3.2:3b",
        "POST /v1/chat/completions",
        "POST /v1/embeddings",
        "POST /v1/responses",
        "POST /v1/messages",
    ],
)
def test_a_client_may_use_models(request_line: str) -> None:
    assert need(request_line) == "use"


@pytest.mark.parametrize("path", ["pull", "push", "create", "copy", "pull?stream=false"])
def test_changing_models_takes_more_rights(path: str) -> None:
    assert need(f"POST /api/{path}") == "manage"
    assert need("DELETE /api/delete") == "manage"
    assert need("POST /api/blobs/sha256:" + "0" * 64) == "manage"


@pytest.mark.parametrize(
    "request_line",
    [
        "GET /api/chat",
        "POST /api/tags",
        "PUT /api/pull",
        "POST /api//pull",
        "POST /api/%70ull",
        "POST /api/tags/../pull",
        "POST /API/PULL",
        "POST /api/pull/",
        "POST /api/blobs/nowhere",
        "DELETE /v1/models/x",
        "GET /v1/models/../../api/tags%00",
        "CONNECT /",
        "POST http://127.0.0.1:11434/api/pull",
        "GET /metrics",
    ],
)
def test_nobody_may_do_what_is_not_listed(request_line: str) -> None:
    assert need(request_line) == "nobody"


def test_a_client_is_known_by_its_token_and_while_both_are_in_use_by_the_other() -> None:
    assert tokens() == [f'"~^Bearer {TOKEN}$" web;', f'"~^Bearer {OTHER}$" note;']
    aliases = [{"token": OLD, "same_as": TOKEN}, {"token": "y" * 43, "same_as": "of nobody here"}]
    assert tokens(ollama_gateway_token_aliases=aliases) == [
        f'"~^Bearer {TOKEN}$" web;',
        f'"~^Bearer {OLD}$" web;',
        f'"~^Bearer {OTHER}$" note;',
    ]


def test_no_token_is_in_the_file_that_everybody_may_read() -> None:
    text = site(ollama_gateway_token_aliases=[{"token": OLD, "same_as": TOKEN}])
    assert not [token for token in (TOKEN, OLD, OTHER) if token in text]


def test_clients_with_sources_of_their_own_come_from_nowhere_else() -> None:
    clients = [
        {"name": "web", "token": TOKEN},
        {"name": "note", "token": OTHER, "sources": ["10.0.0.9"]},
        {"name": "desk", "token": OLD, "sources": ["10.0.1.0/24"]},
    ]
    text = site(ollama_gateway_clients=clients)
    assert re.findall(r"^    (\w+) \$(ollama_gateway_source_of_\w+);", text, re.MULTILINE) == [
        ("default", "ollama_gateway_source_of_all"),
        ("note", "ollama_gateway_source_of_1"),
        ("desk", "ollama_gateway_source_of_2"),
    ]
    own = re.search(r"geo \$ollama_gateway_source_of_2 \{\n(.*?)\n\}", text, re.DOTALL)
    assert own
    assert [line.strip() for line in own[1].splitlines()] == ["default 0;", "127.0.0.1 1;", "::1 1;", "10.0.1.0/24 1;"]


def test_the_log_has_neither_token_nor_query_and_fail2ban_finds_the_address() -> None:
    text = site()
    written = "".join(re.findall(r"'([^']*)'", text[text.index("log_format") : text.index("server {")]))
    assert not {"$http_authorization", "$request ", "$request_uri", "$args"} & set(written.split())
    line = written
    for name, value in {
        "$remote_addr": "192.0.2.7",
        "$ollama_gateway_who": "-",
        "$time_local": "23/Nov/2026:07:00:00 +0000",
        "$request_method": "GET",
        "$ollama_gateway_path": "/api/tags",
        "$server_protocol": "HTTP/1.1",
        "$status": "401",
        "$body_bytes_sent": "52",
        "$request_time": "0.000",
    }.items():
        line = line.replace(name, value)
    assert "$" not in line
    expression = re.search(r"failregex = (.*)", (ROLE / "README.md").read_text())
    assert expression
    ours = re.compile(expression[1].replace("<HOST>", r"(?P<host>\S+)"))
    # fail2ban takes the time out of a line before it looks.
    for seen in (line, line.replace("23/Nov/2026:07:00:00 +0000", "")):
        found = ours.search(seen)
        assert found
        assert found["host"] == "192.0.2.7"
        assert not ours.search(seen.replace(" 401 ", " 200 "))
