# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""What one decision works on: the host, the wishes, and what is known so far."""

from __future__ import annotations

from dataclasses import dataclass, field

EMPTY = {
    "flavor": "",
    "branch": 0,
    "version": "",
    "platform": "",
    "source": "",
    "repository": "",
    "module_stream": "",
    "packages": {},
    "extra": [],
    "services": [],
    "block_nouveau": False,
    "initramfs": False,
    "reboot": False,
    "stop": [],
    "refusal": None,
}


@dataclass
class Case:
    """gpus are those that a driver on this host shall drive: not the ones handed to virtual machines."""

    host: dict
    wants: dict
    gpus: list
    known: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)

    @property
    def driver(self):
        return self.host["driver"]

    def note(self, topic, choice, reason=""):
        """Add a line to the specialist's note: what was chosen, and why; or say anew what was said of a topic."""
        line = {"topic": topic, "choice": choice, "reason": reason}
        places = [place for place, note in enumerate(self.notes) if note["topic"] == topic]
        if places:
            self.notes[places[0]] = line
        else:
            self.notes.append(line)

    def decision(self, action, *reasons):
        return {**EMPTY, **self.known, "action": action, "reasons": list(reasons), "notes": self.notes}

    def refusal(self, error):
        # What was found out before stays in the note; nothing of it is to be done.
        return {
            **EMPTY,
            "action": "refuse",
            "reasons": [str(error)],
            "notes": self.notes,
            "refusal": error.as_result(),
        }
