# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""What cannot work, said so that a person can act on it."""

from __future__ import annotations


class RefusalError(Exception):
    """What is asked for cannot work on this host.

    rule:   why, as a rule that holds elsewhere too
    cards:  the cards it is about, as people call them; none where no card is to blame
    remedy: what to do
    """

    def __init__(self, rule, remedy, cards=()):
        self.rule, self.remedy, self.cards = rule, remedy, list(cards)
        about = f" ({'; '.join(self.cards)})" if self.cards else ""
        super().__init__(f"{rule}{about}. {remedy}.")

    def as_result(self):
        return {"rule": self.rule, "cards": self.cards, "remedy": self.remedy}
