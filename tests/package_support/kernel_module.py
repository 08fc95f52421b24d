"""A kernel module that modinfo can read and no kernel would load: an ELF file with a .modinfo section."""

import struct

_HEADER, _SECTION = 64, 64
_MACHINES = {"amd64": 62, "arm64": 183}


def build(fields: dict[str, str], architecture: str) -> bytes:
    """The module file. fields: what modinfo shows, such as version and license."""
    modinfo = b"".join(f"{name}={value}\0".encode() for name, value in fields.items())
    # modinfo wants to find a module's own structure, too.
    this_module = bytes(64)
    names = b"\0.modinfo\0.gnu.linkonce.this_module\0.shstrtab\0"
    contents = [modinfo, this_module, names]
    offsets, position = [], _HEADER
    for content in contents:
        offsets.append(position)
        position += len(content) + -len(content) % 8
    table = position
    elf = struct.pack(
        "<4sBBBB8xHHIQQQIHHHHHH",
        *(b"\x7fELF", 2, 1, 1, 0),
        *(1, _MACHINES[architecture], 1, 0, 0, table, 0, _HEADER, 0, 0, _SECTION, 4, 3),
    )
    body = b"".join(content + bytes(-len(content) % 8) for content in contents)
    sections = [struct.pack("<IIQQQQIIQQ", *[0] * 10)]
    for name, kind, flags, offset, content in (
        (b".modinfo", 1, 2, offsets[0], modinfo),
        (b".gnu.linkonce.this_module", 1, 3, offsets[1], this_module),
        (b".shstrtab", 3, 0, offsets[2], names),
    ):
        at = names.index(name + b"\0")
        sections.append(struct.pack("<IIQQQQIIQQ", at, kind, flags, 0, offset, len(content), 0, 0, 8, 0))
    return elf + body + b"".join(sections)
