"""The process that renders chat templates: ``python -m ingest.encoders.chat.template_process``.

A chat template is a program that comes with a model. It runs in jinja2's sandbox, in a process of
its own with limits of memory and time, so that a template that never ends or fills the memory costs
one error message. Requests and replies go through pipes, a line of JSON each. The parent process
(:mod:`ingest.encoders.chat.chat_template`) executes nothing that it receives.

What a template finds here is what transformers gives it: the variables, the filter ``tojson`` and
the functions ``raise_exception`` and ``strftime_now``. The date is always the same one, because a
prompt with today's date would give every day other vectors.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from datetime import datetime
from functools import lru_cache
from typing import Any, BinaryIO, NoReturn

from jinja2 import Environment, Template, TemplateError, nodes
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

#: Most characters of a rendered chat.
MAX_CHARACTERS = 1_000_000

#: The day that templates take for today.
_TODAY = datetime(2024, 7, 26)


class _GenerationBlock(Extension):
    """Lets templates mark the assistant's words by ``{% generation %}``, which changes nothing."""

    tags = {"generation"}  # noqa: RUF012 - as the base class declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise_exception(message: object) -> NoReturn:
    raise TemplateError(str(message))


def _to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    # The filter of jinja2 escapes the characters of HTML.
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _environment() -> Environment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, LoopControlExtension]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _TODAY.strftime
    return environment


@lru_cache(maxsize=32)
def _compiled(template: str) -> Template:
    return _environment().from_string(template)


def render(template: str, variables: dict[str, Any]) -> str:
    """Render a template.

    Raises:
        TemplateError: if it is wrong, refuses the conversation, or writes too much.
    """
    pieces, length = [], 0
    for piece in _compiled(template).generate(**variables):
        length += len(piece)
        if length > MAX_CHARACTERS:
            raise TemplateError(f"it writes more than {MAX_CHARACTERS} characters")
        pieces.append(piece)
    return "".join(pieces)


def _answer(request: dict[str, Any]) -> dict[str, str]:
    try:
        return {"text": render(request["template"], request["variables"])}
    except MemoryError:
        return {"error": "it needs too much memory"}
    except Exception as error:  # noqa: BLE001 - a template may raise anything
        return {"error": f"{error}" or type(error).__name__}


def _limit_memory(limit: int) -> None:
    """Limit the address space to this many bytes, where the operating system supports that."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _limit_time(seconds: float) -> None:
    """End this process after so much processor time, where the operating system supports that.

    Processor time, because on a busy machine a good template may have to wait. Zero for no limit.
    """
    if hasattr(signal, "setitimer"):  # not on Windows
        signal.setitimer(signal.ITIMER_PROF, seconds)


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """Render templates until the stream of requests ends.

    Args:
        requests: for each chat a line of JSON with ``template``, ``variables`` and ``seconds``.
        replies: a line ``{}`` at the start; then for each chat a line of JSON with ``text`` or
            ``error``.
    """
    replies.write(b"{}\n")
    replies.flush()
    while line := requests.readline():
        request = json.loads(line)
        _limit_time(request["seconds"])
        reply = _answer(request)
        _limit_time(0)
        replies.write(json.dumps(reply).encode() + b"\n")
        replies.flush()


def main() -> None:
    """Serve on stdin and stdout; command-line argument: bytes of memory."""
    # Ctrl-C is sent to every process of the terminal; the parent process decides what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    _limit_memory(int(sys.argv[1]))
    try:
        serve(requests, replies)
    except BrokenPipeError:
        os._exit(0)  # the parent process has ended


if __name__ == "__main__":
    main()
