"""Models on the lab's hosts: planned before they are pulled, refused before a byte moves, named, locked and pruned."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ollama_fleet.playbook import environment
from tests.system.asking import ask
from tests.system.conftest import ROOT, Session

MODELS = {"smollm2:135m", "gemma3:270m"}
STORE = "/var/lib/ollama/models"
API = "http://127.0.0.1:11434"


def models_on(lab: Session, host: str) -> set[str]:
    """The names that a host's server lists."""
    told = json.loads(ask(lab, host, f"{API}/api/tags").text)
    return {model["name"] for model in told["models"]}


def digest_on(lab: Session, host: str, name: str) -> str:
    """The digest of a model's manifest on a host."""
    told = json.loads(ask(lab, host, f"{API}/api/tags").text)
    return str(next(model["digest"] for model in told["models"] if model["name"] == name))


def copy(lab: Session, host: str, name: str, other: str) -> None:
    """Another name for a model, given by hands that are not ours."""
    copied = ask(lab, host, f"{API}/api/copy", body={"source": name, "destination": other})
    assert copied.status == 200, copied.text


def apply(lab: Session, host: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    """Run the role of the models on one host with variables that no inventory has."""
    command = ["ansible-playbook", "-i", str(lab.inventory), str(ROOT / "playbooks" / "site.yml"), "--limit", host]
    # As a person marks Ollama's braces in an inventory.
    told = json.dumps(variables).replace('"{{ .Prompt }}"', '!unsafe "{{ .Prompt }}"')
    command += ["--tags", "ollama_models", "-e", told]
    return subprocess.run(
        command, cwd=ROOT, env=environment(lab.inventory), check=False, capture_output=True, text=True
    )


def applied(lab: Session, host: str, **variables: Any) -> str:
    result = apply(lab, host, **variables)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture
def settled(lab: Session) -> Iterator[Session]:
    """The lab, as its inventory has it also afterwards."""
    yield lab
    for host in ("gpu1", "gpu2"):
        for name in models_on(lab, host) - MODELS:
            ask(lab, host, f"{API}/api/delete", body={"model": name}, method="DELETE")
        applied(lab, host)


def test_the_plan_knows_what_is_there_and_that_it_fits(lab: Session) -> None:
    result = lab.inv("models.plan", "--json", check=False)
    assert result.returncode == 0, result.stdout
    data = json.loads(result.stdout[result.stdout.index("{") :])
    assert data["schema"] == "ollama-fleet/models-plan/1"
    assert [host["host"] for host in data["hosts"]] == ["gpu1", "gpu2"]
    for host in data["hosts"]:
        found = {model["name"]: model for model in host["models"]}
        assert set(found) == MODELS
        assert {model["verdict"] for model in found.values()} == {"cpu"}
        assert host["disk"]["to_pull"] == 0
        # The same file and the same numbers as in tests/unit/plugins/test_model_need.py.
        assert found["gemma3:270m"]["need"]["weights"] == 253113024


def test_the_table_is_for_people(lab: Session) -> None:
    result = lab.inv("models.plan", "--limit", "gpu1")
    assert "smollm2:135m" in result.stdout
    assert "everything fits on 1 host" in result.stdout


def test_what_does_not_fit_is_refused_before_a_byte_moves(settled: Session) -> None:
    lab = settled
    applied(lab, "gpu1", ollama_models_host_list=[{"name": "smollm2:135m", "state": "absent"}])
    before = lab.ssh("gpu1", f"sudo find {STORE} -type f | sort")
    for variables, reason in [
        ({"ollama_models_memory_reserve": "100000G"}, "too big for the memory"),
        ({"ollama_models_disk_reserve": "100000G"}, "too big for the disk"),
    ]:
        result = apply(lab, "gpu1", **variables)
        assert result.returncode == 2
        assert reason in result.stdout + result.stderr
        assert "nothing was pulled" in result.stdout + result.stderr
        assert lab.ssh("gpu1", f"sudo find {STORE} -type f | sort") == before
    assert "smollm2:135m" not in models_on(lab, "gpu1")


def test_another_name_comes_and_goes_and_a_second_run_changes_nothing(settled: Session) -> None:
    lab = settled
    named = {"ollama_models_host_list": [{"name": "chat:1", "alias": "smollm2:135m"}]}
    applied(lab, "gpu1", **named)
    assert models_on(lab, "gpu1") == {*MODELS, "chat:1"}
    assert digest_on(lab, "gpu1", "chat:1") == digest_on(lab, "gpu1", "smollm2:135m")
    said = applied(lab, "gpu1", **named)
    recap = next(line for line in said.splitlines() if line.startswith("gpu1 ") and "changed=" in line)
    assert "changed=0" in recap or "changed=2" in recap, "at most the record is begun and done again"
    applied(lab, "gpu1", ollama_models_host_list=[{"name": "chat:1", "state": "absent"}])
    assert models_on(lab, "gpu1") == MODELS


def weights_of(model: str, tag: str) -> Path:
    """The GGUF file of a model of the lab's own registry, on this machine."""
    store = ROOT / ".lab" / "models" / "v2" / "library" / model
    layers = json.loads((store / "manifests" / tag).read_text())["layers"]
    digest = next(str(layer["digest"]) for layer in layers if layer["mediaType"].endswith("image.model"))
    return store / "blobs" / digest.replace(":", "-")


def length_of_answer(lab: Session, model: str, seed: int) -> int:
    """Tokens that a model of gpu1 says to a story."""
    body = {"model": model, "prompt": "Tell a story.", "stream": False, "options": {"seed": seed}}
    answer = json.loads(ask(lab, "gpu1", f"{API}/api/generate", body=body).text)
    assert answer["done"], answer
    return int(answer.get("eval_count", 0))


def test_models_of_ones_own_are_made_answer_and_a_second_run_changes_nothing(settled: Session) -> None:
    lab, weights = settled, weights_of("smollm2", "135m")
    tutor = {"name": "tutor:1", "from": "smollm2:135m", "system": "You are a tutor.", "parameters": {"num_predict": 5}}
    digest = weights.name.replace("sha256-", "sha256:")
    own = {"name": "own:1", "file": str(weights), "checksum": digest, "template": "{{ .Prompt }}"}
    made = {"ollama_models_host_list": [tutor, own]}
    applied(lab, "gpu1", **made)
    assert models_on(lab, "gpu1") == {*MODELS, "tutor:1", "own:1"}

    shown = {
        name: json.loads(ask(lab, "gpu1", f"{API}/api/show", body={"model": name}).text)
        for name in models_on(lab, "gpu1")
    }
    assert shown["tutor:1"]["system"] == "You are a tutor."
    # What is not given stays as it is in the model that it is made of.
    parameters = [line.split() for line in shown["tutor:1"]["parameters"].splitlines()]
    assert ["num_predict", "5"] in parameters
    assert [two for two in parameters if two[0] == "stop"] == [
        line.split() for line in shown["smollm2:135m"]["parameters"].splitlines() if line.startswith("stop")
    ]
    assert shown["tutor:1"]["template"] == shown["smollm2:135m"]["template"]
    assert shown["own:1"]["template"] == "{{ .Prompt }}"
    # A small model may end at once; another seed then goes on.
    lengths = [length_of_answer(lab, "tutor:1", seed) for seed in range(1, 6)]
    assert max(lengths) == 5, lengths

    digests = {name: digest_on(lab, "gpu1", name) for name in ("tutor:1", "own:1")}
    again = applied(lab, "gpu1", **made)
    assert "changed: [gpu1] => (item=" not in again
    assert {name: digest_on(lab, "gpu1", name) for name in digests} == digests

    # Another system prompt is another model; the one that nobody changed stays.
    applied(lab, "gpu1", ollama_models_host_list=[tutor | {"system": "You ask back."}, own])
    assert json.loads(ask(lab, "gpu1", f"{API}/api/show", body={"model": "tutor:1"}).text)["system"] == "You ask back."
    assert digest_on(lab, "gpu1", "own:1") == digests["own:1"]

    wrong = apply(lab, "gpu1", ollama_models_host_list=[own | {"name": "own:2", "checksum": f"sha256:{'0' * 64}"}])
    assert wrong.returncode == 2
    assert "0000" in wrong.stdout + wrong.stderr
    assert "own:2" not in models_on(lab, "gpu1")

    applied(lab, "gpu1", ollama_models_host_list=[{"name": name, "state": "absent"} for name in digests])
    assert models_on(lab, "gpu1") == MODELS


def test_pruning_says_first_what_it_deletes(lab: Session) -> None:
    copy(lab, "gpu1", "smollm2:135m", "stray:1")
    checked = lab.inv("models.prune", "--check")
    assert "stray:1" in checked.stdout
    assert models_on(lab, "gpu1") == {*MODELS, "stray:1"}
    lab.inv("models.prune")
    assert models_on(lab, "gpu1") == models_on(lab, "gpu2") == MODELS


@pytest.fixture
def lock_file(lab: Session) -> Iterator[Path]:
    path = lab.inventory / "ollama_models_lock.yml"
    assert not path.exists()
    yield path
    path.unlink(missing_ok=True)


def test_lock_drift_and_the_way_back(lab: Session, lock_file: Path) -> None:
    assert "[unlocked]" in lab.inv("models.diff", check=False).stdout
    assert lab.inv("models.lock").returncode == 0
    text = lock_file.read_text()
    assert all(name in text for name in MODELS)
    assert lab.inv("models.diff", check=False).returncode == 0
    lab.inv("models.lock")
    assert lock_file.read_text() == text

    # Somebody puts another model below the name.
    before = digest_on(lab, "gpu1", "smollm2:135m")
    copy(lab, "gpu1", "gemma3:270m", "smollm2:135m")
    found = lab.inv("models.diff", check=False)
    assert found.returncode == 2
    assert "gpu1: smollm2:135m [drift]" in found.stdout
    assert "gpu2" not in found.stdout

    # The record finds it as well, and the lock says what belongs there.
    assert lab.inv("plan", check=False).returncode == 2
    lab.inv("up")
    assert digest_on(lab, "gpu1", "smollm2:135m") == before
    assert lab.inv("models.diff", check=False).returncode == 0


def test_what_is_not_what_is_locked_is_not_pulled(settled: Session, lock_file: Path) -> None:
    lab = settled
    lab.inv("models.lock")
    applied(lab, "gpu1", ollama_models_host_list=[{"name": "smollm2:135m", "state": "absent"}])
    # The lock is of another model, as after an update of the registry that nobody decided for.
    entries = lock_file.read_text().split("  smollm2:135m:")
    assert len(entries) == 2
    layer = next(line for line in entries[1].splitlines() if "sha256:" in line)
    digest = layer.strip().split(":")[1]
    lock_file.write_text(lock_file.read_text().replace(digest, "0" * 64))
    result = apply(lab, "gpu1")
    assert result.returncode == 2
    assert "models are not those that are locked" in result.stdout + result.stderr
    assert "smollm2:135m" not in models_on(lab, "gpu1")
    lock_file.unlink()
