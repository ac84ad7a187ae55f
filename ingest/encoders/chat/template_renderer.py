"""Renders chat templates in a process with limits; every failure is one :class:`ModelError`."""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

from indexes.errors import CiesError, ModelError
from ingest.read.decoder_pool import child_environment

#: Bytes of address space and seconds of processor time that a template may use.
MEMORY = 512 * 2**20
SECONDS = 5

#: Seconds by the clock after which the process is ended, while it starts or renders.
_LONGEST = 60

#: Rendered chats that are kept; an ingest asks the same questions about every picture.
_KEPT = 4096

#: Longest reply, in bytes.
_MAX_REPLY = 16 * 2**20


class TemplateRefusal(ModelError):
    """A chat template is wrong, or does not take a conversation in this form."""


class _RenderingProcess:
    """One process for all templates. It is started when it is needed, and again after a kill."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False

    def ask(self, request: bytes) -> bytes:
        """Send a line and return the reply; empty if the process was killed or has died."""
        with self._lock:
            process = self._started()
            assert process.stdin is not None and process.stdout is not None
            watch = threading.Timer(_LONGEST, process.kill)
            watch.start()
            try:
                process.stdin.write(request)
                process.stdin.flush()
                if not self._ready:
                    self._ready = process.stdout.readline(_MAX_REPLY) == b"{}\n"
                reply = process.stdout.readline(_MAX_REPLY)
            except OSError:
                reply = b""
            finally:
                watch.cancel()
            if not reply.endswith(b"\n"):
                self._end()
                return b""
            return reply

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            if not sys.executable:
                raise CiesError(
                    "sys.executable is not set, so no process for chat templates can be started; "
                    "run Python from its own program."
                )
            self._end()
            # -P: files in the current folder must not be imported in place of our modules. In a
            # session of its own, so that only the parent process handles Ctrl-C.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ingest.encoders.chat.template_process",
                 str(MEMORY)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=child_environment(),
                start_new_session=True,
            )  # fmt: skip
        return self._process

    def _end(self) -> None:
        process, self._process, self._ready = self._process, None, False
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):  # unsent bytes of a process that has died
                    pipe.close()

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()


_process = _RenderingProcess()
atexit.register(_process.close)


def render_chat(template: str, variables: Mapping[str, Any]) -> str:
    """Render a chat template of a model.

    Args:
        template: in jinja2's language.
        variables: JSON values, ``messages`` among them.

    Raises:
        TemplateRefusal: if the template is wrong or refuses the conversation.
        ModelError: if it needs too much time or memory.
    """
    request = {"template": template, "variables": dict(variables), "seconds": SECONDS}
    return _rendered(json.dumps(request))


@lru_cache(maxsize=_KEPT)
def _rendered(request: str) -> str:
    line = _process.ask(request.encode() + b"\n")
    if not line:
        raise ModelError(
            f"The model's chat template was stopped, because it needs more than {SECONDS} seconds "
            "or too much memory; restore it, or name another model."
        )
    reply = json.loads(line)
    if "text" not in reply:
        said = "".join(c if c.isprintable() else " " for c in str(reply.get("error")))
        said = " ".join(said.split()).partition(". ")[0].rstrip(".")[:200]
        raise TemplateRefusal(
            f"The model's chat template cannot be used here ({said}); restore it, or name another "
            "model."
        )
    return str(reply["text"])
