"""The one way our modules say that something is wrong."""

from __future__ import annotations


class FleetError(Exception):
    """A problem that its reader can act on.

    what:   what did not work, with the model, service or file by name
    why:    the cause, as far as it was seen
    remedy: what to do about it, as an instruction
    log:    lines that a program left behind, for who wants to know more
    """

    def __init__(self, what: str, why: str, remedy: str, log: str = "") -> None:
        super().__init__(what, why, remedy)
        self.what = what
        self.why = why
        self.remedy = remedy
        self.log = log

    def __str__(self) -> str:
        return "{}: {}. Remedy: {}".format(self.what, self.why.rstrip(". "), self.remedy)

    def as_result(self) -> dict[str, str]:
        """What a module hands to fail_json."""
        result = {"msg": str(self), "what": self.what, "reason": self.why, "remedy": self.remedy}
        return {**result, "log": self.log} if self.log else result
