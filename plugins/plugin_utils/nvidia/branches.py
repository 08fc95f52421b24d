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
LATE_BLACKWELL_FLOOR = 580
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
# From the 620 edition on, NVIDIA's installation guide has open modules only.
OPEN_ONLY_SINCE = 620
# Ubuntu empties a branch that ended and lets it pull the next one in, also where the version still says the old number.
UBUNTU_MOVED = {535: 580, 550: 580, 560: 580, 565: 580, 570: 580, 575: 580, 590: 595}
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
    if cards.late_blackwell(gpu):
        return LATE_BLACKWELL_FLOOR, f"{LATE_BLACKWELL_FLOOR} is the first branch for Blackwell Ultra and GB10"
    if gpu["architecture"] == "blackwell":
        return BLACKWELL_FLOOR, f"{BLACKWELL_FLOOR} is the first branch for Blackwell"
    return OLLAMA_FLOOR, f"Ollama needs {OLLAMA_FLOOR}"


def check_age(gpus):
    """Refuse cards that no branch serves which Ollama can use."""
    ancient = [gpu for gpu in gpus if cards.before_maxwell(gpu)]
    if ancient:
        raise RefusalError(
            f"{LAST_FOR_KEPLER} is the last branch for Kepler, older cards have earlier ones, and Ollama needs"
            f" {OLLAMA_FLOOR}",
            "Take the host out of the inventory, or the card out of the host",
            cards.listed(ancient),
        )


def check(gpus, branch, flavor=""):
    """Refuse a branch that a card or Ollama cannot use."""
    old = [gpu for gpu in gpus if cards.before_turing(gpu)]
    if old and branch > LAST_BEFORE_TURING:
        raise RefusalError(
            f"{LAST_BEFORE_TURING} is the last branch for {cards.architectures(old)}, and nvidia_driver_branch is"
            f" {branch}",
            f"Set nvidia_driver_branch to {LAST_BEFORE_TURING} for this host",
            cards.listed(old),
        )
    if flavor == "proprietary" and branch >= OPEN_ONLY_SINCE:
        raise RefusalError(
            f"from branch {OPEN_ONLY_SINCE} on NVIDIA ships open modules only, nvidia_driver_branch is {branch}, and"
            " nvidia_driver_flavor is proprietary",
            "Set nvidia_driver_flavor to auto or open for this host, or nvidia_driver_branch to an earlier one",
            cards.listed(gpus),
        )
    for gpu in gpus:
        lowest, why = floor(gpu)
        if branch < lowest:
            raise RefusalError(
                f"{why}, and nvidia_driver_branch is {branch}",
                f"Set nvidia_driver_branch to {DEFAULT} for this host",
                cards.listed([gpu]),
            )


def check_ubuntu(gpus, branch):
    """Refuse a branch that Ubuntu's archive has in name only."""
    if branch in UBUNTU_MOVED:
        raise RefusalError(
            f"branch {branch} has ended in Ubuntu's archive: its packages are empty and pull {UBUNTU_MOVED[branch]} in,"
            f" and nvidia_driver_branch is {branch}",
            f"Set nvidia_driver_branch to {UBUNTU_MOVED[branch]}, or nvidia_driver_source to cuda where NVIDIA's"
            f" repository still has {branch}",
            cards.listed(gpus),
        )


def support(branch, today=None):
    """Return how long a branch is kept up, as a clause; today is (year, month), or None where nobody knows."""
    if branch in LIFE:
        kind, (year, month) = LIFE[branch]
        return f"{kind}, {'ended in' if ended(branch, today) else 'until'} {MONTHS[month - 1]} {year}"
    if branch > NEWEST_KNOWN:
        return f"newer than what is known here ({NEWEST_KNOWN}): look up how long NVIDIA supports it"
    return "no longer among the branches that NVIDIA supports"


def ended(branch, today):
    """Whether NVIDIA no longer keeps a branch up."""
    if branch in LIFE:
        return today is not None and tuple(today) > LIFE[branch][1]
    return branch < NEWEST_KNOWN


def note(gpus, branch, today=None):
    """Return the sentence about a branch."""
    text = f"{support(branch, today)}; {max(floor(gpu) for gpu in gpus)[1]}"
    old = [gpu for gpu in gpus if cards.before_turing(gpu)]
    if old and branch == LAST_BEFORE_TURING:
        text += f", and {LAST_BEFORE_TURING} is the last for {cards.architectures(old)}"
    if ended(branch, today):
        text += f". Plan the move to {DEFAULT}" if branch < DEFAULT else ". Plan the move to a supported branch"
    return text
