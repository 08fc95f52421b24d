"""Model names, and what the lines of a pull mean. The lines are real servers' (tests/data/ollama_pull)."""

import json
import os
from itertools import pairwise
from pathlib import Path

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.ollama_api import (
    Manifest,
    ModelName,
    PullProgress,
    free_bytes,
    remedy_for,
)

RECORDED = Path(__file__).resolve().parents[2] / "data" / "ollama_pull"
VERSIONS = ["v0.24.0", "v0.32.15"]
# Seconds between two lines of a real stream.
TICK = 0.06


def replay(version: str, case: str, stall_timeout: float = 180) -> PullProgress:
    progress = PullProgress("gemma3:270m", stall_timeout, now=0)
    for number, line in enumerate((RECORDED / version / f"{case}.ndjson").read_text().splitlines()):
        progress.feed(json.loads(line), now=number * TICK)
    return progress


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("smollm2:135m", ("registry.ollama.ai", "library", "smollm2", "135m")),
        ("smollm2", ("registry.ollama.ai", "library", "smollm2", "latest")),
        ("me/smollm2:135m", ("registry.ollama.ai", "me", "smollm2", "135m")),
        ("models.lab:5001/library/smollm2:135m", ("models.lab:5001", "library", "smollm2", "135m")),
        ("models.lab:5001/library/smollm2", ("models.lab:5001", "library", "smollm2", "latest")),
        ("hf.co/owner/Model-GGUF:Q4_K_M", ("hf.co", "owner", "Model-GGUF", "Q4_K_M")),
        ("_x:y.z-1", ("registry.ollama.ai", "library", "_x", "y.z-1")),
    ],
)
def test_name_is_read_in_its_parts(text: str, parts: tuple[str, ...]) -> None:
    assert tuple(ModelName.parse(text)) == parts


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "model:",
        ":tag",
        "-model:tag",
        "model:-tag",
        "bad name!!/../x",
        "a b:c",
        "name.space/model:tag",
        "/model:tag",
        "host//model:tag",
        "too/many/parts/here:tag",
        "http://models.lab/library/model:tag",
        "user:pw@host/library/model:tag",
        "model:tag\n",
        "x" * 81,
    ],
)
def test_what_is_no_name_is_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(FleetError) as refused:
        ModelName.parse(text)
    assert "is no model name" in refused.value.what
    assert "[host/][namespace/]model[:tag]" in refused.value.remedy


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("registry.ollama.ai/library/smollm2:135m", "smollm2:135m"),
        ("smollm2", "smollm2:latest"),
        ("me/smollm2:135m", "me/smollm2:135m"),
        ("localhost:5005/library/gemma3:270m", "localhost:5005/library/gemma3:270m"),
    ],
)
def test_short_name_is_the_one_that_the_server_lists(text: str, short: str) -> None:
    assert ModelName.parse(text).short == short


def test_names_compare_without_case_and_with_defaults() -> None:
    name = ModelName.parse("smollm2")
    assert name.is_called("SmolLM2:Latest")
    assert name.is_called("registry.ollama.ai/library/smollm2:latest")
    assert not name.is_called("smollm2:135m")
    assert not name.is_called("no model name")


def test_manifest_address_is_plain_http_only_when_asked() -> None:
    name = ModelName.parse("models.lab:5001/library/smollm2:135m")
    assert name.manifest_url(insecure=True) == "http://models.lab:5001/v2/library/smollm2/manifests/135m"
    assert name.manifest_url(insecure=False) == "https://models.lab:5001/v2/library/smollm2/manifests/135m"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", ["success", "second_pull", "link_stalled_then_reset"])
def test_stream_that_ends_in_success_succeeds(version: str, case: str) -> None:
    progress = replay(version, case)
    assert progress.succeeded
    # The last line about bytes can come before the last byte.
    assert 250_000_000 < progress.completed <= progress.total


@pytest.mark.parametrize("version", VERSIONS)
def test_completed_really_goes_backwards_in_the_recording(version: str) -> None:
    lines = (RECORDED / version / "link_stalled_then_reset.ndjson").read_text().splitlines()
    counts = [json.loads(line).get("completed", 0) for line in lines]
    assert any(later < earlier for earlier, later in pairwise(counts[2:-3]))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("case", "words", "remedy"),
    [
        ("unknown_tag", "file does not exist", "spelling"),
        ("no_location", "no Location header", "no source for Ollama"),
        ("registry_speaks_http", "server gave HTTP response to HTTPS client", "insecure: true"),
        ("link_gone", "max retries exceeded", "goes on where it stopped"),
    ],
)
def test_error_line_fails_with_the_servers_words_and_a_remedy(version: str, case: str, words: str, remedy: str) -> None:
    with pytest.raises(FleetError) as failed:
        replay(version, case)
    assert "gemma3:270m" in failed.value.what
    assert words in failed.value.why
    assert remedy in failed.value.remedy


@pytest.mark.parametrize("version", VERSIONS)
def test_stream_that_was_cut_has_not_succeeded(version: str) -> None:
    progress = replay(version, "client_left")
    assert not progress.succeeded
    assert "60." in progress.seen
    assert "253.1 MB" in progress.seen


@pytest.mark.parametrize("version", VERSIONS)
def test_lines_without_movement_are_a_stall(version: str) -> None:
    # The recorded link stood still for minutes of this test's clock: a short limit must name it.
    with pytest.raises(FleetError, match="nothing moved for") as stalled:
        replay(version, "link_gone", stall_timeout=0.5)
    assert "MB of 253.1 MB" in stalled.value.why


def test_checking_digests_may_be_silent_for_as_long_as_reading_takes() -> None:
    progress = PullProgress("big:70b", stall_timeout=10, now=0)
    progress.feed({"status": "pulling abc", "digest": "sha256:abc", "total": 50_000_000_000, "completed": 1}, now=0)
    assert progress.silence_allowed == 10
    progress.feed({"status": "verifying sha256 digest"}, now=1)
    assert progress.silence_allowed == pytest.approx(1010)


def test_success_in_the_middle_does_not_count_at_the_end() -> None:
    progress = PullProgress("m:t", 10, now=0)
    progress.feed({"status": "success"}, now=0)
    progress.feed({"status": "pulling manifest"}, now=1)
    assert not progress.succeeded


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("tls: failed to verify certificate: x509: certificate signed by unknown authority", "ollama_ca_certificate"),
        ("write /root/.ollama/models/blobs/x: no space left on device", "disk"),
        ("412: The model you are attempting to pull requires a newer version of Ollama", "ollama_image"),
        ("something never heard of", "docker logs ollama"),
    ],
)
def test_each_reason_has_its_remedy(words: str, remedy: str) -> None:
    assert remedy in remedy_for(words)


def test_what_is_on_disk_already_is_not_needed_again(tmp_path: Path) -> None:
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    (blobs / "sha256-aa").write_bytes(b"whole")
    with (blobs / "sha256-bb-partial").open("wb") as partial:
        partial.write(os.urandom(8192))
        partial.flush()
        os.fsync(partial.fileno())
        partial.truncate(1_000_000)
    manifest = Manifest({"sha256:aa": 5, "sha256:bb": 1_000_000, "sha256:cc": 300})
    missing = manifest.missing_bytes(str(tmp_path))
    assert 300 + 1_000_000 - 65_536 <= missing <= 300 + 1_000_000 - 8192


def test_free_space_is_that_of_the_nearest_folder_that_exists(tmp_path: Path) -> None:
    assert free_bytes(str(tmp_path / "not" / "yet")) == pytest.approx(free_bytes(str(tmp_path)), rel=0.1)
