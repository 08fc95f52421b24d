# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Which of two package versions is newer, as dpkg and rpm order them, without asking either."""

from __future__ import annotations

import functools
import re

PIECE = re.compile(r"(\D*)(\d*)(.*)", re.DOTALL)


def split(version):
    """Return (epoch, upstream, revision) of [EPOCH:]UPSTREAM[-REVISION]."""
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, dash, revision = rest.rpartition("-")
    if not dash:
        upstream, revision = rest, ""
    return int(epoch) if epoch.isdigit() else 0, upstream, revision


def compare(one, other):
    return (one > other) - (one < other)


def debian_text(one, other):
    """Compare two parts of a Debian version: text and numbers by turns; ~ before the end, letters before the rest."""

    def weights(text):
        return [-1 if char == "~" else ord(char) if char.isalpha() else ord(char) + 256 for char in text] + [0]

    while one or other:
        (text, number, one), (text2, number2, other) = (PIECE.match(part).groups() for part in (one, other))
        result = compare(weights(text), weights(text2)) or compare(int(number or 0), int(number2 or 0))
        if result:
            return result
    return 0


def debian(one, other):
    """Return -1, 0 or 1 as dpkg --compare-versions would order them."""
    (epoch, upstream, revision), (epoch2, upstream2, revision2) = split(one), split(other)
    return compare(epoch, epoch2) or debian_text(upstream, upstream2) or debian_text(revision, revision2)


def rpm_text(one, other):
    """Compare two parts of an rpm version, as rpmvercmp does."""
    pieces = [re.findall(r"\d+|[A-Za-z]+|~|\^", part) for part in (one, other)]
    for index in range(max(len(part) for part in pieces)):
        mine, theirs = (part[index] if index < len(part) else None for part in pieces)
        if mine == theirs:
            continue
        for mark, result in (("~", -1), ("^", 1)):
            if mark in (mine, theirs):
                # A tilde is before everything, the end too; a caret is after the end and before everything else.
                other_side = theirs if mine == mark else mine
                sign = result if mark == "~" or other_side is None else -result
                return sign if mine == mark else -sign
        if mine is None or theirs is None:
            return 1 if theirs is None else -1
        if mine.isdigit() != theirs.isdigit():
            return 1 if mine.isdigit() else -1
        result = compare(int(mine), int(theirs)) if mine.isdigit() else compare(mine, theirs)
        if result:
            return result
    return 0


def rpm(one, other):
    """Return -1, 0 or 1 as rpm orders two [EPOCH:]VERSION-RELEASE."""
    (epoch, upstream, revision), (epoch2, upstream2, revision2) = split(one), split(other)
    return compare(epoch, epoch2) or rpm_text(upstream, upstream2) or rpm_text(revision, revision2)


def newest_first(versions, order):
    """Return each version once, newest first. order: debian or rpm."""
    return sorted(set(versions), key=functools.cmp_to_key(order), reverse=True)
