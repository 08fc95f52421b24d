"""What a terminal may be shown."""


def printable(text: str) -> str:
    """Text that cannot steer a terminal: names come from inventories and servers."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
