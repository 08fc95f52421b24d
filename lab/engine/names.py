"""Model names: [scheme://][host[:port]/][namespace/]model[:tag]."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")


class BadNameError(ValueError):
    """The text is no model name."""


@dataclass(frozen=True)
class Name:
    """A full model name: every part is there."""

    host: str
    namespace: str
    model: str
    tag: str

    @classmethod
    def parse(cls, text: str) -> "Name":
        """Raises BadNameError."""
        rest = text.rpartition("://")[2]
        path, colon, tag = rest.rpartition(":")
        if not colon or "/" in tag:
            path, tag = rest, DEFAULT_TAG
        parts = path.split("/")
        if len(parts) > 3:
            raise BadNameError(text)
        host, namespace, model = [DEFAULT_HOST, DEFAULT_NAMESPACE, ""][: 3 - len(parts)] + parts
        shapes = ((_HOST, host), (_NAMESPACE, namespace), (_PART, model), (_PART, tag))
        if not all(shape.fullmatch(part) for shape, part in shapes):
            raise BadNameError(text)
        return cls(host, namespace, model, tag)

    @property
    def full(self) -> str:
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    @property
    def short(self) -> str:
        """The name as a person writes it: defaults of host and namespace left out, the tag always there."""
        if self.host != DEFAULT_HOST:
            return self.full
        prefix = "" if self.namespace == DEFAULT_NAMESPACE else f"{self.namespace}/"
        return f"{prefix}{self.model}:{self.tag}"

    @property
    def path(self) -> PurePosixPath:
        """Where the manifest lies, below manifests/."""
        return PurePosixPath(self.host, self.namespace, self.model, self.tag)
