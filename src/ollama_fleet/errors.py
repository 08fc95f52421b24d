"""The one way this project says that something is wrong."""


class FleetError(Exception):
    """A problem that its reader can act on.

    what:   what did not work, with the host, variable or file by name
    why:    the cause, as far as it was seen
    remedy: what to do about it, as an instruction
    """

    def __init__(self, what: str, why: str, remedy: str) -> None:
        super().__init__(what, why, remedy)
        self.what = what
        self.why = why
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}: {self.why}\n  remedy: {self.remedy}"
