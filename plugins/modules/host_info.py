#!/usr/bin/python
# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Reads everything that the fleet's roles and plans need to know about a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_info
short_description: Observe a host, once, for every role and plan
description:
  - Reads all that the roles of this collection need to know about a host, in one run, and changes nothing.
  - GPUs are found by their PCI ids, so no driver is needed. Their architecture comes from a table; an id that the table
    lacks is C(unknown).
  - Every record that M(ollama_fleet.stack.record) left is compared with the host as it is now.
  - The result is the fact C(ansible_facts['ollama_fleet']).
options:
  sys_root:
    description: Where to read what the kernel shows in C(/sys).
    type: path
    default: /sys
  proc_root:
    description: Where to read what the kernel shows in C(/proc).
    type: path
    default: /proc
  etc_root:
    description: Where to read C(os-release).
    type: path
    default: /etc
  usr_root:
    description: Where to look for os-release and for the libraries that Windows lends.
    type: path
    default: /usr
  state_dir:
    description: Folder of the records.
    type: path
    default: /var/lib/ollama-fleet
  docker_socket:
    description: Socket of Docker's engine.
    type: path
    default: /var/run/docker.sock
  ollama_url:
    description: Where the host's own Ollama would answer.
    type: str
    default: http://127.0.0.1:11434
  disk_paths:
    description: Paths whose file systems are measured. A path that is not there yet counts as its nearest parent.
    type: list
    elements: path
    default: [/, /var/lib/docker, /var/lib/ollama]
attributes:
  check_mode:
    description: Reads in check mode as well.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
  platform:
    description: Linux.
    platforms: linux
    support: full
notes:
  - Run it with become. Without it records cannot be read, and the processes behind open ports stay unnamed.
  - C(modinfo), C(ldconfig), C(dpkg-query), C(systemctl) and C(docker) always ask the running host,
    whatever the roots are.
author:
  - The ollama-fleet authors
"""

EXAMPLES = r"""
- name: Observe the host
  ollama_fleet.stack.host_info:
  when: "'ollama_fleet' not in ansible_facts"

- name: Show the GPUs
  ansible.builtin.debug:
    var: ansible_facts['ollama_fleet'].gpus
"""

RETURN = r"""
ansible_facts:
  description: The observation.
  returned: always
  type: dict
  contains:
    ollama_fleet:
      description: All parts of the observation.
      type: dict
      contains:
        os:
          description: >-
            From os-release: id, version_id, codename, name, family (C(debian), C(redhat) or empty), and architecture
            as the kernel names it (C(x86_64), C(aarch64)).
          type: dict
        kernel:
          description: Release of the running kernel.
          type: str
        systemd:
          description: Whether process 1 is systemd.
          type: bool
        secure_boot:
          description: Whether Secure Boot is on. None on a machine without UEFI.
          type: bool
        wsl:
          description: Whether this is the Windows Subsystem for Linux.
          type: bool
        wsl_gpu:
          description: Whether Windows lends the subsystem an NVIDIA GPU.
          type: bool
        gpus:
          description: >-
            NVIDIA GPUs on the PCI bus, by address: pci_address, vendor_id and device_id (hexadecimal), architecture
            (C(hopper), ..., C(unknown)), name (None until the driver is loaded), driver_in_use (C(nvidia),
            C(vfio-pci), ... or None).
          type: list
          elements: dict
        nvswitches:
          description: PCI addresses of NVSwitches.
          type: list
          elements: str
        driver:
          description: >-
            NVIDIA's driver by version: loaded (with flavor C(open) or C(proprietary)), on_disk for the running kernel,
            user_space (NVML's library), each None when there is none; and packages by name, each with version,
            installed, held.
          type: dict
        toolkit:
          description: The packages of NVIDIA's container toolkit by name, each with version, installed, held.
          type: dict
        docker:
          description: >-
            present (a client is installed), version (None when the engine does not answer), compose (version of the
            plug-in), snap (whether snap's Docker is there), packages, and containers: name, image, image_id,
            state, health, project_dir and config_hash (of Compose), published ports with address and port.
          type: dict
        ollama:
          description: >-
            Whether it is reachable at ollama_url, its version, its models with name, digest and size in bytes.
          type: dict
        ports:
          description: Listening TCP sockets by address, port, protocol (C(tcp) or C(tcp6)), pid and process.
          type: list
          elements: dict
        disk:
          description: >-
            For each of disk_paths, path, and of its file system mount_point, free_bytes (for ordinary users) and
            total_bytes.
          type: list
          elements: dict
        memory:
          description: total_bytes and available_bytes.
          type: dict
        cpus:
          description: Logical processors.
          type: int
        records:
          description: >-
            By role: complete (its last run reached its end), inputs (SHA-256 by variable), role_digest, keep (what the
            role wants to find again), and drift (a sentence for each managed thing that is no longer as the role
            left it).
          type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ollama_fleet.stack.plugins.module_utils import observe

ARGUMENTS = {
    "sys_root": {"type": "path", "default": "/sys"},
    "proc_root": {"type": "path", "default": "/proc"},
    "etc_root": {"type": "path", "default": "/etc"},
    "usr_root": {"type": "path", "default": "/usr"},
    "state_dir": {"type": "path", "default": "/var/lib/ollama-fleet"},
    "docker_socket": {"type": "path", "default": "/var/run/docker.sock"},
    "ollama_url": {"type": "str", "default": "http://127.0.0.1:11434"},
    "disk_paths": {"type": "list", "elements": "path", "default": ["/", "/var/lib/docker", "/var/lib/ollama"]},
}


def main():
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    try:
        facts = observe.Host(**module.params).everything()
    except observe.UnreadableRecordError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, ansible_facts={"ollama_fleet": facts})


if __name__ == "__main__":
    main()
