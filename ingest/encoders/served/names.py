"""Names of served models: ``openai:URL#NAME``."""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass

from indexes.errors import UsageError
from indexes.printable import printable
from ingest.encoders.options import SERVED
from ingest.encoders.served.http_client import holds_password, is_address

#: The environment variable with the key of the server.
KEY_VARIABLE = "MODEL_API_KEY"

_EXAMPLE = "openai:http://localhost:8000/v1#Qwen/Qwen3-VL-8B-Instruct"


@dataclass(frozen=True)
class ServedName:
    """A model and the server that runs it.

    Attributes:
        url: the address of the interface, without a slash at the end, such as
            ``http://localhost:8000/v1``.
        model: as the server names it.
    """

    url: str
    model: str

    @classmethod
    def parse(cls, text: str) -> ServedName:
        """Read what the user typed.

        Raises:
            UsageError: if it is no such name; the message repeats no address that may hold a
                password.
        """
        url, _, model = text.removeprefix(SERVED).partition("#")
        if not is_address(url) or not model.strip() or printable(model) != model:
            raise UsageError(
                f"A served model is named {SERVED}URL#NAME, such as {_EXAMPLE}; correct --model."
            )
        parts = urllib.parse.urlsplit(url)
        if holds_password(url) or parts.query:
            raise UsageError(
                "The address of the served model holds a password or a query; leave it out, and "
                f"set the key in the environment variable {KEY_VARIABLE}."
            )
        plain = url.rstrip("/")
        return cls(plain if parts.path.strip("/") else f"{plain}/v1", model.strip())

    def __str__(self) -> str:
        return f"{SERVED}{self.url}#{self.model}"
