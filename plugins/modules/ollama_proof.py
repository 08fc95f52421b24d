#!/usr/bin/python
# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Proves that an Ollama server answers, and from the hardware that it should."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ollama_proof
short_description: Prove that an Ollama server answers, from the GPU or from the CPU as it should
version_added: "0.4.0"
author: The ollama-fleet authors
description:
  - Has a model answer, and then looks at three signals, because each alone can lie. How much of the model the server
    says to have in a GPU's memory (C(/api/ps)); whether a process of the server's own container or unit computes on a
    GPU of the host (C(nvidia-smi)); and whether the tokens come faster than a floor for this card and model.
  - Any signal that disagrees or cannot be read fails the host, with what was seen of all three, the likely reason and
    what to do. docs/proof.md has the rules and the floors.
  - Loads a model, which may push another out of memory. One that was not loaded before is unloaded afterwards.
options:
  base_url:
    description: Where the server listens, as seen from the host that the module runs on.
    type: str
    default: http://127.0.0.1:11434
  container:
    description: Name of the server's container. Either this or O(unit).
    type: str
  unit:
    description: Name of the server's unit of systemd, with its suffix.
    type: str
  expect:
    description: From what the server is to answer.
    type: str
    choices: [gpu, cpu]
    required: true
  gpus:
    description: UUIDs of the GPUs that it may use; none means all.
    type: list
    elements: str
    default: []
  model:
    description: The model to ask. By default the smallest that the server has and that can answer.
    type: str
    default: ""
  floor:
    description: Tokens per second that the model must reach; 0 has it computed from the card and the model.
    type: float
    default: 0
  tokens:
    description: Tokens to ask for.
    type: int
    default: 64
  attempts:
    description: How often to ask, as long as nothing but the rate disagrees. The best counts.
    type: int
    default: 3
  timeout:
    description: Seconds that an answer may take, loading included.
    type: int
    default: 300
  required:
    description: Whether a server without a model that can answer is a failure.
    type: bool
    default: true
  docker_socket:
    description: Socket of Docker's engine.
    type: path
    default: /var/run/docker.sock
  proc_root:
    description: Where the host's processes are seen.
    type: path
    default: /proc
attributes:
  check_mode:
    support: full
    description: Asks nothing and proves nothing.
  diff_mode:
    support: none
    description: There is nothing to show.
"""

EXAMPLES = r"""
- name: Prove that the GPU does the work
  ollama_fleet.stack.ollama_proof:
    container: ollama
    expect: gpu

- name: Prove a server that runs as a service, with a model of some size
  ollama_fleet.stack.ollama_proof:
    unit: ollama.service
    expect: gpu
    model: llama3.1:8b
"""

RETURN = r"""
proof:
  description: What was proved, or why not. C(null) in check mode.
  returned: always, but for servers that could not be asked
  type: dict
  contains:
    proved:
      description: Whether all three signals agree.
      type: bool
    expected:
      description: C(gpu) or C(cpu).
      type: str
    model:
      description: The model that was asked, name and size in bytes; null where there is none.
      type: dict
    answer:
      description: The first words of the answer, and its tokens.
      type: dict
    signals:
      description: >-
        memory, process and rate, each with agrees (null where it could not be read) and seen, in words; besides size
        and size_vram, processes, tokens_per_second with its floor and the source of that.
      type: dict
    notes:
      description: What is to be known besides.
      type: list
      elements: str
    words:
      description: All of it as a sentence.
      type: str
reason:
  description: What was seen, and the likely reason.
  type: str
  returned: failure
remedy:
  description: What to do about it.
  type: str
  returned: failure
"""

import glob
import os
import subprocess
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ollama_fleet.stack.plugins.module_utils import docker_state, gpu_bandwidth, gpu_proof
from ansible_collections.ollama_fleet.stack.plugins.module_utils.compose_files import hidden
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.ollama_api import ModelName, OllamaServer
from ansible_collections.ollama_fleet.stack.plugins.module_utils.reading import PATHS, fetch_from_socket, read

PROMPT = "Tell the long story of a lighthouse and of the people who kept it, from the first winter on."
# Fewer tokens are too few for a rate.
ENOUGH = 8
# The model has to be in memory while it is looked at, also where the server's own setting is to drop it at once.
KEPT = "2m"
LOOKS, LOOK_PAUSE = 10, 0.1
# What /api/tags and /api/ps both tell of a model's weights.
KIND = ("format", "family", "parameter_size", "quantization_level")
SMI_SECONDS = 20
APPS = "pid,process_name,gpu_uuid,used_memory"
CARDS = "uuid,name,clocks.max.memory,mig.mode.current"
LOG_LINES = "2000"
# What computes on a GPU that Windows lends has this open. There nvidia-smi lists no processes.
LENT = "/dev/dxg"
TOO_SMALL = "the model is so small for this card that its rate says little: name a bigger one in ollama_proof_model"
NOTHING = {
    "proved": False,
    "model": None,
    "answer": None,
    "signals": {},
    "notes": [],
    "words": "nothing is proved, because the server has no model that can answer",
    "remedy": "put a model on the host's list of models",
}


def ask(command, timeout=SMI_SECONDS):
    """Return (whether a program ended well, what it printed). One that hangs in a driver is left behind."""
    environment = dict(os.environ, LC_ALL="C", PATH=os.environ.get("PATH", "") + PATHS)
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
        )
    except OSError as error:
        return False, f"{command[0]}: {error.strerror}"
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.stdout.close()
        return False, f"{command[0]} did not answer within {timeout} s"
    return process.returncode == 0, output.decode("utf-8", "replace").strip()


class Container:
    """The server's container."""

    def __init__(self, name, socket):
        self.name, self.words = name, f"container {name}"
        inside = fetch_from_socket(socket, f"/containers/{name}/json")
        self.identity = inside["Id"] if inside else None
        default = (fetch_from_socket(socket, "/info") or {}).get("DefaultRuntime", "") if inside else ""
        self.made_with_gpu = docker_state.asks_for_gpu(inside, default) if inside else None

    def missing(self):
        return "" if self.identity else f"Docker knows no {self.words}, or does not answer"

    def has(self, cgroups):
        return gpu_proof.of_container(cgroups, self.identity)

    def log(self):
        return ask(["docker", "logs", "--tail", LOG_LINES, self.name])[1]

    def complaint(self):
        """What nvidia-smi says in the container when it does not work there, else ""."""
        well, said = ask(["docker", "exec", self.name, "nvidia-smi", "-L"])
        return "" if well or "executable file not found" in said else first_line(said)


class Unit:
    """The server's unit of systemd."""

    made_with_gpu = None

    def __init__(self, name):
        self.name, self.words = name, name

    def missing(self):
        return ""

    def has(self, cgroups):
        return gpu_proof.of_unit(cgroups, self.name)

    def log(self):
        return ask(["journalctl", "--unit", self.name, "--lines", LOG_LINES, "--no-pager", "--output=cat"])[1]

    def complaint(self):
        return ""


class Cards:
    """The host's GPUs as nvidia-smi tells them. wanted: UUIDs of those that may be used, empty for all."""

    def __init__(self, wanted):
        well, said = ask(["nvidia-smi", f"--query-gpu={CARDS}", "--format=csv,noheader,nounits"])
        self.complaint = "" if well else first_line(said)
        found = gpu_proof.gpus_of(said) if well else []
        # Of an index or a part of a card (MIG) nvidia-smi's list of processes has no UUID.
        chosen = [gpu for gpu in found if gpu["uuid"] in wanted]
        self.usable = chosen or found
        self._widths = gpu_bandwidth.bus_widths() if found else {}

    def floor(self, model_bytes):
        """The slowest of the cards counts: layers on several cards are computed one after the other."""
        slowest, source = None, ""
        for gpu in self.usable:
            if gpu["mig"]:
                return no_floor(f"no floor, because {gpu['name']} is divided into instances (MIG)")
            speed, told_by = gpu_bandwidth.of_gpu(gpu["name"], gpu["clock"], self._widths.get(gpu["uuid"]))
            if speed is None:
                return no_floor(f"no floor, because the memory bandwidth of {gpu['name']} is not known")
            if slowest is None or speed < slowest:
                slowest, source = speed, f"{gpu['name']}: {speed / 1e9:.0f} GB/s by {told_by}"
        if slowest is None:
            return no_floor("no floor, because no GPU was seen")
        return {
            "tokens_per_second": gpu_proof.floor_of(model_bytes, slowest),
            "source": source,
            "why": "",
            "says_little": gpu_proof.says_little(model_bytes, slowest),
        }


def no_floor(why):
    return {"tokens_per_second": None, "source": "", "why": why, "says_little": False}


def first_line(text):
    return next((line.strip() for line in text.splitlines() if line.strip()), "nothing")


def can_answer(server, entry):
    """Whether a model of the server's list can answer, and does so here. Older servers tell only when asked."""
    if entry.get("remote_host") or entry.get("remote_model"):
        return False
    told = entry.get("capabilities")
    if told is None:
        told = (server.call("POST", "/api/show", {"model": entry["name"]}) or {}).get("capabilities")
    return told is None or "completion" in told


def choose(server, wanted):
    """Return the entry of the model that is asked, None where the server has none."""
    listed = sorted((server.call("GET", "/api/tags") or {}).get("models") or [], key=lambda entry: entry["size"])
    if wanted:
        name = ModelName.parse(wanted)
        found = next((entry for entry in listed if name.is_called(entry["name"])), None)
        if found is None:
            raise FleetError(
                f"Model {wanted} cannot be asked",
                "the server does not have it",
                "put it on the host's list of models, or name another in ollama_proof_model",
            )
        return found
    return next((entry for entry in listed if can_answer(server, entry)), None)


def in_memory(server):
    """Return what the server has in memory, as its API tells it."""
    return (server.call("GET", "/api/ps") or {}).get("models") or []


def is_named(entry, name):
    return name in (entry.get("name"), entry.get("model"))


def same_kind(entry, other):
    """Whether two entries of the API's lists may be of the same weights, which the API does not tell."""
    kinds = [[(one.get("details") or {}).get(key) for key in KIND] for one in (entry, other)]
    return any(kinds[0]) and kinds[0] == kinds[1]


def who_answered(server, listed, before):
    """Return the entry of /api/ps that the answer of a model came from, else None.

    listed: the model's entry in the server's list. before: the entries of /api/ps before the answer

    A server has weights in memory once, under the name that was asked for first, and answers to all of their names with
    them (Ollama, server/sched.go: by the path of the file). So it may be an entry of another name: the one whose time
    was put off by the answer. Somebody else's, of other weights, may be put off at the same time.
    """
    times = {entry.get("name"): entry.get("expires_at") for entry in before}
    for _look in range(LOOKS):
        entries = in_memory(server)
        named = [entry for entry in entries if is_named(entry, listed["name"])]
        alike = [entry for entry in entries if same_kind(entry, listed)]
        put_off = [entry for entry in alike if entry.get("expires_at") != times.get(entry.get("name"))]
        found = named or put_off
        if len(found) == 1 or not entries:
            break
        # The time is put off a moment after the answer.
        time.sleep(LOOK_PAUSE)
    return found[0] if len(found) == 1 else None


def generate(server, name, tokens, keep):
    """Return {text, tokens, nanoseconds} of an answer."""
    body = {"model": name, "prompt": PROMPT, "stream": False, "options": {"num_predict": tokens}}
    told = server.call("POST", "/api/generate", {**body, **({"keep_alive": KEPT} if keep else {})}) or {}
    text = (told.get("response") or "") + (told.get("thinking") or "")
    count, duration = told.get("eval_count") or 0, told.get("eval_duration") or 0
    return {"text": " ".join(text.split())[:80], "tokens": count, "nanoseconds": duration}


def rate_of(answers):
    """Return the tokens per second of the fastest answer, or of all together where each is too short, else None."""
    whole = [rate for rate in map(rate_of_one, answers) if rate]
    together = {key: sum(answer[key] for answer in answers) for key in ("tokens", "nanoseconds")}
    return max(whole, default=None) or rate_of_one(together)


def rate_of_one(answer):
    if answer["tokens"] < ENOUGH or not answer["nanoseconds"]:
        return None
    return answer["tokens"] * 1e9 / answer["nanoseconds"]


def computing(holder, cards, expected, proc_root):
    """Return what gpu_proof.judge wants to know of the processes on the GPUs."""
    told = {
        "holder": holder.words,
        "why": "",
        "found": [],
        "gpus": {gpu["uuid"]: gpu["name"] for gpu in cards.usable},
    }
    if cards.complaint and expected == gpu_proof.CPU:
        # Without a driver nobody computes on a GPU.
        return told
    told["why"] = f"nvidia-smi on the host says: {cards.complaint}" if cards.complaint else holder.missing()
    if told["why"]:
        return told
    well, said = ask(["nvidia-smi", f"--query-compute-apps={APPS}", "--format=csv,noheader,nounits"])
    if not well:
        told["why"] = f"nvidia-smi on the host says: {first_line(said)}"
        return told
    for process in gpu_proof.compute_apps(said) or users_of_lent(proc_root, cards):
        cgroups = read(f"{proc_root}/{process['pid']}/cgroup") or ""
        told["found"].append({**process, "ours": holder.has(cgroups)})
    return told


def users_of_lent(proc_root, cards):
    """Return the processes that have a GPU of Windows open, in the form of gpu_proof.compute_apps."""
    found = []
    for path in glob.glob(f"{proc_root}/[0-9]*") if cards.usable and os.path.exists(LENT) else []:
        # A process may end while it is looked at, and its files with it.
        if LENT in {os.path.realpath(link) for link in glob.glob(f"{path}/fd/*")}:
            name = read(f"{path}/comm") or "?"
            gpu = cards.usable[0]["uuid"]
            found.append({"pid": int(os.path.basename(path)), "name": name, "gpu": gpu, "memory_bytes": None})
    return found


def floor_for(cards, model, params):
    """Return what gpu_proof.judge wants to know of the least rate, and whether that says little of the card."""
    if params["floor"]:
        return {**no_floor(""), "tokens_per_second": params["floor"], "source": "as ollama_proof_floor says"}
    if params["expect"] == gpu_proof.CPU:
        return no_floor("a CPU has no floor: any answer counts")
    return cards.floor(model["size"])


def answers(server, holder, cards, listed, params):
    """Have the model answer until all signals agree, or one does that asking again cannot mend. Return the record.

    listed: the model's entry in the server's list
    """
    model = {"name": listed["name"], "size": int(listed["size"])}
    floor = floor_for(cards, model, params)
    before = in_memory(server)
    # What is in memory is somebody's, under whatever name: it stays there as it is.
    was_loaded = any(is_named(entry, model["name"]) or same_kind(entry, listed) for entry in before)
    taken = []
    for _attempt in range(max(1, params["attempts"])):
        taken.append(generate(server, model["name"], params["tokens"], keep=not was_loaded))
        entry = who_answered(server, listed, before)
        seen = {
            "loaded": entry and {key: int(entry.get(key) or 0) for key in ("size", "size_vram")},
            "processes": computing(holder, cards, params["expect"], params["proc_root"]),
            "rate": rate_of(taken),
            "floor": floor,
        }
        record = gpu_proof.judge(params["expect"], model, seen)
        if record["proved"] or not (record["signals"]["memory"]["agrees"] and record["signals"]["process"]["agrees"]):
            break
        before = in_memory(server)
    if not was_loaded:
        server.call("POST", "/api/generate", {"model": model["name"], "stream": False, "keep_alive": 0})
    best = max(taken, key=lambda answer: (rate_of_one(answer) or 0, answer["tokens"]))
    record["answer"] = {"text": best["text"], "tokens": best["tokens"]}
    record["notes"] = [TOO_SMALL] if floor["says_little"] else []
    return record


def look(server, holder, params):
    """Return the record of a proof, with words and a remedy; its model is None where the server has none to ask."""
    entry = choose(server, params["model"])
    if entry is None:
        return {**NOTHING, "expected": params["expect"]}
    cards = Cards(params["gpus"])
    record = answers(server, holder, cards, entry, params)
    if record["proved"]:
        return {**record, "words": gpu_proof.verdict(record), "remedy": ""}
    on_gpu = params["expect"] == gpu_proof.GPU
    clues = {
        "host": cards.complaint,
        "inside": holder.complaint() if on_gpu and not cards.complaint else "",
        "made_with_gpu": holder.made_with_gpu,
        "log": gpu_proof.telling(hidden(holder.log(), [])),
    }
    reason, remedy = gpu_proof.cause(record, clues)
    return {**record, "words": f"{gpu_proof.in_words(record)}. Likely: {reason}", "remedy": remedy}


def main():
    module = AnsibleModule(
        argument_spec={
            "base_url": {"type": "str", "default": "http://127.0.0.1:11434"},
            "container": {"type": "str"},
            "unit": {"type": "str"},
            "expect": {"type": "str", "choices": [gpu_proof.GPU, gpu_proof.CPU], "required": True},
            "gpus": {"type": "list", "elements": "str", "default": []},
            "model": {"type": "str", "default": ""},
            "floor": {"type": "float", "default": 0},
            "tokens": {"type": "int", "default": 64},
            "attempts": {"type": "int", "default": 3},
            "timeout": {"type": "int", "default": 300},
            "required": {"type": "bool", "default": True},
            "docker_socket": {"type": "path", "default": "/var/run/docker.sock"},
            "proc_root": {"type": "path", "default": "/proc"},
        },
        mutually_exclusive=[["container", "unit"]],
        required_one_of=[["container", "unit"]],
        supports_check_mode=True,
    )
    params = module.params
    if module.check_mode:
        module.exit_json(changed=False, proof=None)
    try:
        holder = Unit(params["unit"]) if params["unit"] else Container(params["container"], params["docker_socket"])
        record = look(OllamaServer(params["base_url"], params["timeout"]), holder, params)
    except FleetError as problem:
        module.fail_json(**problem.as_result())
    if not record["proved"] and (record["model"] or params["required"]):
        place = "GPU" if params["expect"] == gpu_proof.GPU else "CPU"
        problem = FleetError(f"Ollama is not proved to answer from the {place}", record["words"], record["remedy"])
        module.fail_json(proof=record, **problem.as_result())
    module.exit_json(changed=False, proof=record)


if __name__ == "__main__":
    main()
