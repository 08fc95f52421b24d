#!/usr/bin/python
# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Proves that a container can compute on the GPUs, and still can after systemd was reloaded."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cuda_check
short_description: Prove that containers can use CUDA, and keep it
version_added: "0.2.0"
author: The ollama-fleet authors
description:
  - Starts a container that gets the host's NVIDIA GPUs, initialises CUDA in it, counts the GPUs and makes a context on
    each. Then runs C(systemctl daemon-reload) on the host and does the same again in the same container.
  - C(nvidia-smi) is not asked. It answers in containers in which CUDA does not start (toolkit issue 1967).
  - No image is pulled. The container runs the host's own Python, out of an image that is made of it and removed after.
  - A GPU whose memory is full, or which one program keeps for itself, passes and is called busy.
options:
  injection:
    description: V(cdi) asks for the devices by CDI, V(runtime) with C(--gpus).
    type: str
    choices: [cdi, runtime]
    required: true
  devices:
    description: For V(cdi) names of CDI devices; for V(runtime) V(all), or UUIDs.
    type: list
    elements: str
    default: [nvidia.com/gpu=all]
  timeout:
    description: Seconds that one initialisation may take.
    type: int
    default: 60
requirements:
  - Docker, and a Python of the host's own
attributes:
  check_mode:
    description: Does nothing.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Prove that containers can compute
  ollama_fleet.stack.cuda_check:
    injection: cdi
"""

RETURN = r"""
cuda_version:
  description: Version of CUDA that the driver speaks.
  type: str
  returned: success
gpus:
  description: What CUDA sees, each with index, name, uuid, memory_bytes and busy (the error's name, or empty).
  type: list
  elements: dict
  returned: success
reason:
  description: Why it did not work. An error of CUDA's by its name.
  type: str
  returned: failure
remedy:
  description: What to do about it.
  type: str
  returned: failure
"""

import inspect
import json
import os
import sys

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ollama_fleet.stack.plugins.module_utils import cuda_probe, cuda_words, python_image
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError

NAME = "ollama-fleet-cuda-check"


# Ends the probe from within: a driver that hangs must not hold the run for ever.
CLOCK = "import faulthandler; faulthandler.dump_traceback_later({}, exit=True)\n"
FIRST = "from __future__ import annotations\n"


def probe_source(timeout):
    """The text of cuda_probe, with a clock of this many seconds."""
    return inspect.getsource(cuda_probe).replace(FIRST, FIRST + CLOCK.format(timeout), 1)


class Container:
    """One container of the host's own Python, with the GPUs."""

    def __init__(self, module, image):
        self.module, self.image = module, image
        self.python = os.path.realpath(sys.executable)
        self.timeout = module.params["timeout"]

    def docker(self, *args, data=None, binary=False):
        return self.module.run_command(["docker", *args], data=data, binary_data=binary)

    def start(self):
        self.remove()
        devices = self.module.params["devices"]
        if self.module.params["injection"] == "cdi":
            gpus = [word for name in devices for word in ("--device", name)]
        else:
            ids = "all" if devices in ([], ["all"], ["nvidia.com/gpu=all"]) else '"device=' + ",".join(devices) + '"'
            gpus = ["--gpus", ids, "--env", "NVIDIA_DRIVER_CAPABILITIES=compute,utility"]
        wait = [self.python, "-I", "-S", "-c", f"import time; time.sleep({10 * self.timeout})"]
        limits = ["--network", "none", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
        code, _out, err = self.docker("run", "--detach", "--name", NAME, *limits, *gpus, self.image, *wait)
        if code:
            raise FleetError(
                "No container with the GPUs could be started",
                last_line(err),
                "see nvidia-ctk cdi list, docker info, and that the docker and nvidia_container_toolkit roles have run",
            )

    def probe(self, when):
        """The result of cuda_probe in the container."""
        command = ["exec", "--interactive", NAME, self.python, "-I", "-S", "-"]
        code, out, err = self.docker(*command, data=probe_source(self.timeout))
        try:
            return json.loads(out)
        except ValueError:
            why = f"Timeout after {self.timeout} s" if "Timeout" in err else last_line(err) or f"exit {code}"
            raise FleetError(
                f"CUDA does not start {when}", why, "see dmesg for NVRM and Xid, and reboot the host", err.strip()
            ) from None

    def remove(self):
        self.docker("rm", "--force", NAME)


def last_line(text):
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def check_in_container(module):
    """Return the probe's result after the daemon-reload; FleetError when either failed."""
    container = Container(module, f"{NAME}:{os.getpid()}")
    archive = python_image.archive(python_image.files(inspect.getsource(cuda_probe)))
    code, _out, err = container.docker("import", "-", container.image, data=archive, binary=True)
    if code:
        raise FleetError("The check's image was not made", last_line(err), "see that Docker runs and has room")
    try:
        container.start()
        before = container.probe("in a container")
        if not before["ok"]:
            raise cuda_words.failed(before["error"], "in a container")
        module.run_command(["systemctl", "daemon-reload"], check_rc=True)
        after = container.probe("in a container after systemctl daemon-reload")
        if not after["ok"]:
            raise cuda_words.lost(before, after["error"])
        missing = [gpu["name"] for gpu in before["gpus"] if gpu["uuid"] not in {one["uuid"] for one in after["gpus"]}]
        if missing:
            raise cuda_words.lost({"gpus": [{"name": name} for name in missing]}, gone(len(missing)))
        return after
    finally:
        container.remove()
        container.docker("rmi", "--force", container.image)


def gone(count):
    return {"call": "cuDeviceGetCount", "code": -1, "name": f"cuDeviceGetCount answers {count} fewer than before"}


def main():
    module = AnsibleModule(
        argument_spec={
            "injection": {"type": "str", "choices": ["cdi", "runtime"], "required": True},
            "devices": {"type": "list", "elements": "str", "default": ["nvidia.com/gpu=all"]},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=False)
    try:
        result = check_in_container(module)
    except FleetError as error:
        module.fail_json(**error.as_result())
    module.exit_json(changed=False, gpus=result["gpus"], cuda_version=result["cuda_version"])


if __name__ == "__main__":
    main()
