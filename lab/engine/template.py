"""The part of Go's templates that a plain Ollama chat template uses: fields, if, else, end, and trim marks."""

import re
from collections.abc import Iterator, Mapping, Sequence

from .wire import ApiError

_ACTION = re.compile(r"\{\{(-\s)?\s*(.*?)\s*(\s-)?\}\}", re.DOTALL)
_FIELD = re.compile(r"\.(System|Prompt|Response|Suffix)")
_Node = str | tuple[str, Sequence["_Node"], Sequence["_Node"]]


def render(template: str, turns: Sequence[Mapping[str, str]]) -> str:
    """TEMPLATE for each turn {System, Prompt, Response}, one after the other.

    The last turn ends where its response begins, so that the model goes on from there. Raises ApiError on a template
    that is beyond this subset.
    """
    nodes = _parse(template)
    texts = ["".join(_render(nodes, turn)) for turn in turns[:-1]]
    last = "".join(_render(nodes, {**turns[-1], "Response": "\0"})).partition("\0")[0]
    return "".join([*texts, last, turns[-1].get("Response", "")])


def check(template: str) -> None:
    """Raises ApiError on a template that is beyond this subset."""
    _parse(template)


def turns_of(messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Chat messages {role, content} as turns; a turn ends with the assistant's response."""
    turns: list[dict[str, str]] = []
    for message in messages:
        field = {"system": "System", "assistant": "Response"}.get(message["role"], "Prompt")
        is_new = not turns or "Response" in turns[-1] or (field == "System" and "Prompt" in turns[-1])
        if is_new:
            turns.append({})
        before = turns[-1].get(field)
        turns[-1][field] = message["content"] if before is None else f"{before}\n\n{message['content']}"
    return turns


def _render(nodes: Sequence[_Node], turn: Mapping[str, str]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, str):
            yield turn.get(node[1:], "") if node.startswith("\1") else node
        else:
            field, then, otherwise = node
            yield from _render(then if turn.get(field) else otherwise, turn)


def _parse(template: str) -> list[_Node]:
    root: list[_Node] = []
    # Each open block: the list that gets its nodes, and the two branches of its "if".
    stack: list[tuple[list[_Node], str, list[_Node], list[_Node]]] = []
    current = root
    for text, action in _tokens(template):
        if text:
            current.append(text)
        if action is None:
            break
        word, _, rest = action.partition(" ")
        field = _FIELD.fullmatch(rest.strip() if word == "if" else action)
        if word == "if" and field:
            stack.append((current, field.group(1), [], []))
            current = stack[-1][2]
        elif action == "else" and stack:
            current = stack[-1][3]
        elif action == "end" and stack:
            outer, name, then, otherwise = stack.pop()
            outer.append((name, then, otherwise))
            current = outer
        elif field:
            current.append(f"\1{field.group(1)}")
        else:
            raise ApiError(400, f"template: the llama.cpp stand-in does not know {{{{ {action} }}}}")
    if stack:
        raise ApiError(400, "template: unexpected EOF")
    return root


def _tokens(template: str) -> Iterator[tuple[str, str | None]]:
    """Pairs of a text and the action after it; None after the last text."""
    position, trim = 0, False
    for match in _ACTION.finditer(template):
        text = template[position : match.start()]
        text = text.lstrip() if trim else text
        yield text.rstrip() if match.group(1) else text, match.group(2)
        position, trim = match.end(), bool(match.group(3))
    rest = template[position:]
    yield rest.lstrip() if trim else rest, None
