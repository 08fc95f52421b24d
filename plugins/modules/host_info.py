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
    lacks is C(unknown). What only a driver knows (memory, MIG, processes) is asked of C(nvidia-smi), if one is loaded.
  - The driver has three versions, the loaded module's, that of the module on disk for each kernel that can boot, and
    that of the libraries in user space.
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
    description: Where to read C(os-release), package sources, groups, C(modprobe.d) and CDI specifications.
    type: path
    default: /etc
  usr_root:
    description: Where to look for os-release, for the libraries that Windows lends, and for the container toolkit.
    type: path
    default: /usr
  var_root:
    description: Where to look for dpkg's database, DKMS, and the keys that kernel modules are signed with.
    type: path
    default: /var
  boot_root:
    description: Where to look for kernels.
    type: path
    default: /boot
  modules_root:
    description: Where to look for the modules of kernels.
    type: path
    default: /lib/modules
  run_root:
    description: Where to look for what programs wrote since the last boot (CDI specifications).
    type: path
    default: /run
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
  - Files are read before programs are asked. C(systemctl) is started where a record names services; C(rpm),
    C(ldconfig), C(modinfo), C(nvidia-smi), C(nvidia-ctk) and C(docker) only where no file says it. They ask the running
    host, whatever the roots are, and none is waited for longer than five seconds (C(nvidia-smi), two).
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
            From os-release.
          type: dict
          contains:
            id:
              description: >-
                C(ubuntu), C(debian), C(rhel), ...
              type: str
            version_id:
              description: >-
                Such as C(24.04).
              type: str
            codename:
              description: >-
                Such as C(noble); empty where there is none.
              type: str
            name:
              description: >-
                As people call it.
              type: str
            family:
              description: >-
                C(debian), C(redhat) or empty: how packages come.
              type: str
            architecture:
              description: >-
                As the kernel names it (C(x86_64), C(aarch64)).
              type: str
        kernel:
          description: >-
            Release of the running kernel.
          type: str
        kernels:
          description: >-
            Kernels that have an image (where none has, those that have modules), and before them the running one.
          type: list
          elements: dict
          contains:
            release:
              description: >-
                The kernel's release.
              type: str
            running:
              description: >-
                Whether it is the running one.
              type: bool
            headers:
              description: >-
                Whether its headers are there, so that modules can be built for it.
              type: bool
            module:
              description: >-
                The NVIDIA module that it would load; null where it has none.
              type: dict
              contains:
                version:
                  description: >-
                    The driver's version.
                  type: str
                flavor:
                  description: >-
                    C(open) or C(proprietary), by its licence.
                  type: str
                path:
                  description: >-
                    Its file.
                  type: str
        systemd:
          description: >-
            Whether process 1 is systemd.
          type: bool
        secure_boot:
          description: >-
            Whether Secure Boot is on; null on a machine without UEFI.
          type: bool
        mok_enrolled:
          description: >-
            Whether the firmware's shim trusts the key that DKMS signs with; null without UEFI or where it cannot tell.
          type: bool
        wsl:
          description: >-
            Whether this is the Windows Subsystem for Linux.
          type: bool
        wsl_gpu:
          description: >-
            Whether Windows lends the subsystem an NVIDIA GPU.
          type: bool
        gpus:
          description: >-
            NVIDIA GPUs on the PCI bus, by address.
          type: list
          elements: dict
          contains:
            pci_address:
              description: >-
                Such as C(0000:01:00.0).
              type: str
            vendor_id:
              description: >-
                Hexadecimal, four digits.
              type: str
            device_id:
              description: >-
                Hexadecimal, four digits.
              type: str
            architecture:
              description: >-
                C(hopper), ..., or C(unknown) for an id that the table lacks, whatever its neighbours are.
              type: str
            model:
              description: >-
                The card's name in the PCI ID database (C(H100 SXM5 80GB)), which needs no driver; null for an id that
                has none there.
              type: str
            name:
              description: >-
                As the driver calls it; null until one is loaded.
              type: str
            uuid:
              description: >-
                As CUDA and Ollama name it (C(GPU-...)); null until a driver is loaded.
              type: str
            driver_in_use:
              description: >-
                C(nvidia), C(nouveau), C(vfio-pci), ...; null when nothing holds the card.
              type: str
            state:
              description: >-
                C(ok), or C(lost): the card is listed, but has fallen off the bus, or the driver gave it up.
              type: str
            memory_bytes:
              description: >-
                Memory of the card in bytes; null until a driver is loaded.
              type: int
            mig:
              description: >-
                Whether it is divided into instances (MIG); null for a card that cannot be, or until a driver is
                loaded.
              type: bool
        nvswitches:
          description: >-
            PCI addresses of NVSwitches.
          type: list
          elements: str
        nvswitch_bridges:
          description: >-
            PCI addresses of the ConnectX functions through which NVSwitches of Blackwell servers are managed.
          type: list
          elements: str
        driver:
          description: >-
            NVIDIA's driver.
          type: dict
          contains:
            loaded:
              description: >-
                Version of the loaded module; null when none is.
              type: str
            flavor:
              description: >-
                C(open) or C(proprietary): the loaded module's; null when none is.
              type: str
            on_disk:
              description: >-
                Version of the module on disk for the running kernel; null when it has none.
              type: str
            user_space:
              description: >-
                Version of the libraries (NVML's); null when there are none.
              type: str
            nouveau:
              description: >-
                Whether nouveau is loaded.
              type: bool
            nouveau_blocked:
              description: >-
                Whether a file in modprobe.d or the kernel's command line keeps nouveau from being loaded.
              type: bool
            nvswitch_devices:
              description: >-
                PCI addresses of the NVSwitches that the loaded driver has.
              type: list
              elements: str
            fabric_manager:
              description: >-
                The fabric manager; null when none is installed.
              type: dict
              contains:
                version:
                  description: >-
                    Version of its package.
                  type: str
                active:
                  description: >-
                    Whether its service runs.
                  type: bool
            processes:
              description: >-
                Processes that compute on a GPU, NVIDIA's own services left out.
              type: list
              elements: dict
              contains:
                pid:
                  description: >-
                    Its number.
                  type: int
                name:
                  description: >-
                    Its short name.
                  type: str
                container:
                  description: >-
                    Name of its container, else the id; null outside of containers.
                  type: str
            packages:
              description: >-
                Its packages, by name.
              type: dict
              contains:
                version:
                  description: >-
                    Version as the package manager writes it.
                  type: str
                installed:
                  description: >-
                    Whether it is installed whole.
                  type: bool
                held:
                  description: >-
                    Whether it is kept at this version (dpkg's hold, dnf's versionlock).
                  type: bool
        toolkit:
          description: >-
            NVIDIA's container toolkit.
          type: dict
          contains:
            packages:
              description: >-
                Its packages, by name.
              type: dict
              contains:
                version:
                  description: >-
                    Version as the package manager writes it.
                  type: str
                installed:
                  description: >-
                    Whether it is installed whole.
                  type: bool
                held:
                  description: >-
                    Whether it is kept at this version (dpkg's hold, dnf's versionlock).
                  type: bool
            version:
              description: >-
                Version of C(nvidia-ctk); null when it is not there.
              type: str
            cdi_devices:
              description: >-
                Names of all devices that CDI specifications on the host offer (C(nvidia.com/gpu=0)).
              type: list
              elements: str
        docker:
          description: >-
            Docker.
          type: dict
          contains:
            present:
              description: >-
                Whether a client is installed.
              type: bool
            version:
              description: >-
                The engine's; null when it does not answer.
              type: str
            compose:
              description: >-
                Version of the plug-in; null when it is not there.
              type: str
            snap:
              description: >-
                Whether snap's Docker is there.
              type: bool
            cgroup_driver:
              description: >-
                C(systemd) or C(cgroupfs); null when the engine does not answer.
              type: str
            runtimes:
              description: >-
                Names of its runtimes.
              type: list
              elements: str
            cdi:
              description: >-
                Whether the engine hands out devices by CDI.
              type: bool
            cdi_spec_dirs:
              description: >-
                Folders in which the engine looks for CDI specifications.
              type: list
              elements: str
            packages:
              description: >-
                Packages of engines and clients, by name.
              type: dict
              contains:
                version:
                  description: >-
                    Version as the package manager writes it.
                  type: str
                installed:
                  description: >-
                    Whether it is installed whole.
                  type: bool
                held:
                  description: >-
                    Whether it is kept at this version (dpkg's hold, dnf's versionlock).
                  type: bool
            containers:
              description: >-
                All containers.
              type: list
              elements: dict
              contains:
                id:
                  description: >-
                    Its id.
                  type: str
                name:
                  description: >-
                    Its name.
                  type: str
                image:
                  description: >-
                    The image as it was asked for.
                  type: str
                image_id:
                  description: >-
                    Digest of the image.
                  type: str
                state:
                  description: >-
                    C(running), C(exited), ...
                  type: str
                health:
                  description: >-
                    C(healthy), C(starting), C(unhealthy); null without a health check.
                  type: str
                gpu:
                  description: >-
                    Whether it asks for an NVIDIA GPU; false on a host without one.
                  type: bool
                restart:
                  description: >-
                    Restart policy; null on a host without an NVIDIA GPU.
                  type: str
                project_dir:
                  description: >-
                    Folder of its Compose project; null without one.
                  type: str
                config_hash:
                  description: >-
                    Compose's digest of its settings; null without.
                  type: str
                ports:
                  description: >-
                    Published ports.
                  type: list
                  elements: dict
                  contains:
                    address:
                      description: >-
                        Address on the host.
                      type: str
                    port:
                      description: >-
                        Port on the host.
                      type: int
        ollama:
          description: >-
            What answers at ollama_url.
          type: dict
          contains:
            reachable:
              description: >-
                Whether Ollama answers.
              type: bool
            version:
              description: >-
                Its version; null when it does not answer.
              type: str
            models:
              description: >-
                Its models.
              type: list
              elements: dict
              contains:
                name:
                  description: >-
                    Name with tag.
                  type: str
                digest:
                  description: >-
                    SHA-256 of the manifest.
                  type: str
                size:
                  description: >-
                    Bytes.
                  type: int
        packages:
          description: >-
            The package manager's own state.
          type: dict
          contains:
            manager:
              description: >-
                C(apt), C(dnf) or empty.
              type: str
            broken:
              description: >-
                Names of packages that are half installed.
              type: list
              elements: str
            held:
              description: >-
                Names of packages that are kept at their version.
              type: list
              elements: str
        repositories:
          description: >-
            Enabled package sources.
          type: list
          elements: dict
          contains:
            file:
              description: >-
                The file that names it.
              type: str
            uris:
              description: >-
                Addresses, without credentials.
              type: list
              elements: str
            suites:
              description: >-
                Suites; of dnf the repository's id.
              type: list
              elements: str
            components:
              description: >-
                Components; none of dnf.
              type: list
              elements: str
            signed_by:
              description: >-
                Path or address of the key with its fingerprint if one is named, C(embedded), or empty.
              type: str
            credentials:
              description: >-
                Whether an address in the file has credentials.
              type: bool
        ports:
          description: >-
            Listening TCP sockets.
          type: list
          elements: dict
          contains:
            address:
              description: >-
                Address.
              type: str
            port:
              description: >-
                Port.
              type: int
            protocol:
              description: >-
                C(tcp) or C(tcp6).
              type: str
            pid:
              description: >-
                Process that holds it; null when it cannot be seen.
              type: int
            process:
              description: >-
                That process's short name; null when it cannot be seen.
              type: str
        disk:
          description: >-
            Of each of disk_paths, its file system.
          type: list
          elements: dict
          contains:
            path:
              description: >-
                As it was asked for.
              type: str
            mount_point:
              description: >-
                Where its file system is mounted.
              type: str
            free_bytes:
              description: >-
                Bytes that ordinary users can still write.
              type: int
            total_bytes:
              description: >-
                Size in bytes.
              type: int
        memory:
          description: >-
            Main memory.
          type: dict
          contains:
            total_bytes:
              description: >-
                Bytes.
              type: int
            available_bytes:
              description: >-
                Bytes that programs could still take.
              type: int
        cpus:
          description: >-
            Logical processors.
          type: int
        records:
          description: >-
            What roles recorded, by role.
          type: dict
          contains:
            complete:
              description: >-
                Whether the role's last run reached its end.
              type: bool
            inputs:
              description: >-
                SHA-256 by variable.
              type: dict
            role_digest:
              description: >-
                SHA-256 of the role's files.
              type: str
            keep:
              description: >-
                What the role wants to find again.
              type: dict
            drift:
              description: >-
                A sentence for each managed thing that is no longer as the role left it.
              type: list
              elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ollama_fleet.stack.plugins.module_utils import observe

ARGUMENTS = {
    "sys_root": {"type": "path", "default": "/sys"},
    "proc_root": {"type": "path", "default": "/proc"},
    "etc_root": {"type": "path", "default": "/etc"},
    "usr_root": {"type": "path", "default": "/usr"},
    "var_root": {"type": "path", "default": "/var"},
    "boot_root": {"type": "path", "default": "/boot"},
    "modules_root": {"type": "path", "default": "/lib/modules"},
    "run_root": {"type": "path", "default": "/run"},
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
