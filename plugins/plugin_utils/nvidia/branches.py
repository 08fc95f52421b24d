# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Which driver branches a card and Ollama can use, and how long NVIDIA keeps them up."""

from __future__ import annotations

from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia import cards
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia.refusal import RefusalError

DEFAULT = 580
OLLAMA_FLOOR = 550
# Ollama: compute capability 5.0 to 6.2, which is Maxwell and Pascal.
OLLAMA_FLOOR_OLD = 570
BLACKWELL_FLOOR = 570
BLACKWELL_ULTRA_FLOOR = 580
LAST_BEFORE_TURING = 580
LAST_FOR_KEPLER = 470

# NVIDIA, "Supported Drivers and CUDA Toolkit Versions", edition 615: what its table has, and until when (year, month).
LIFE = {
    535: ("long-term support", (2026, 6)),
    580: ("long-term support", (2028, 6)),
    595: ("production", (2027, 3)),
    610: ("new features", (2026, 8)),
}
NEWEST_KNOWN = max(LIFE)
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]


def floor(gpu):
    """Return (lowest branch, why) for a card."""
    if gpu["architecture"] in ("maxwell", "pascal"):
        return OLLAMA_FLOOR_OLD, f"Ollama needs {OLLAMA_FLOOR_OLD} for compute capability 5.0 to 6.2"
    if cards.blackwell_ultra(gpu):
        return BLACKWELL_ULTRA_FLOOR, f"{BLACKWELL_ULTRA_FLOOR} is the first branch for Blackwell Ultra"
    if gpu["architecture"] == "blackwell":
        return BLACKWELL_FLOOR, f"{BLACKWELL_FLOOR} is the first branch for Blackwell"
    return OLLAMA_FLOOR, f"Ollama needs {OLLAMA_FLOOR}"


def check(gpus, branch):
    """Refuse a branch that a card or Ollama cannot use."""
    kepler = [gpu for gpu in gpus if gpu["architecture"] == "kepler"]
    if kepler:
        raise RefusalError(
            f"{LAST_FOR_KEPLER} is the last branch for Kepler, and Ollama needs {OLLAMA_FLOOR}",
            "Take the host out of the inventory, or the card out of the host",
            cards.listed(kepler),
        )
    old = [gpu for gpu in gpus if cards.before_turing(gpu)]
    if old and branch > LAST_BEFORE_TURING:
        raise RefusalError(
            f"{LAST_BEFORE_TURING} is the last branch for {cards.architectures(old)}, and nvidia_driver_branch is"
            f" {branch}",
            f"Set nvidia_driver_branch to {LAST_BEFORE_TURING} for this host",
            cards.listed(old),
        )
    for gpu in gpus:
        lowest, why = floor(gpu)
        if branch < lowest:
            raise RefusalError(
                f"{why}, and nvidia_driver_branch is {branch}",
                f"Set nvidia_driver_branch to {DEFAULT} for this host",
                cards.listed([gpu]),
            )


def usable(gpus, branch):
    """Whether a branch serves all cards."""
    try:
        check(gpus, branch)
    except RefusalError:
        return False
    return True


def support(branch, today=None):
    """Return how long a branch is kept up, as a clause; today is (year, month), or None where nobody knows."""
    if branch in LIFE:
        kind, (year, month) = LIFE[branch]
        ended = today is not None and today > (year, month)
        return f"{kind}, {'ended in' if ended else 'until'} {MONTHS[month - 1]} {year}"
    if branch > NEWEST_KNOWN:
        return f"newer than what is known here ({NEWEST_KNOWN}): look up how long NVIDIA supports it"
    return "no longer among the branches that NVIDIA supports"


def ended(branch, today):
    """Whether NVIDIA no longer keeps a branch up."""
    if branch in LIFE:
        return today is not None and today > LIFE[branch][1]
    return branch < NEWEST_KNOWN


def note(gpus, branch, today=None):
    """Return the sentence about a branch."""
    text = f"{support(branch, today)}; Ollama needs {max(floor(gpu)[0] for gpu in gpus)} or later here"
    old = [gpu for gpu in gpus if cards.before_turing(gpu)]
    if old and branch == LAST_BEFORE_TURING:
        text += f", and {LAST_BEFORE_TURING} is the last for {cards.architectures(old)}"
    if ended(branch, today):
        text += f". Plan the move to {DEFAULT}" if branch < DEFAULT else ". Plan the move to a supported branch"
    return text
