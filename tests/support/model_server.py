"""A server with an OpenAI-compatible interface that runs transformers, in place of vLLM."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch
from PIL import Image

from ingest.encoders.vlm.processors import untiled


class StandIn:
    """One loaded model behind HTTP.

    Attributes:
        paths: what it offers below its address.
        keys: the values of the header Authorization that it accepts; any if empty.
        seen: the paths of the requests, in order.
        faults: statuses that the next requests are refused with.
        seconds: how long it waits before each answer.
        cut: numbers of a vector that are sent; all by default.
        noise: what vectors are changed by: another value is another model.
        refuses_width: the width of pictures that are refused with HTTP 400.
        dies_after: requests until the connection breaks without an answer.
    """

    def __init__(self, model: Any, processor: Any, name: str):
        self.model, self.processor, self.name = model, processor, name
        self.paths = {"/v1/models", "/v1/embeddings", "/v1/chat/completions"}
        self.keys: list[str] = []
        self.seen: list[str] = []
        self.authorizations: set[str] = set()
        self.faults: list[int] = []
        self.seconds = 0.0
        self.cut: int | None = None
        self.noise = 0.0
        self.dies_after = -1
        self.refuses_width = 0
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()
        self.port = 0

    @property
    def address(self) -> str:
        """The name of the model for ``--model``."""
        return f"openai:http://127.0.0.1:{self.port}/v1#{self.name}"

    @contextmanager
    def running(self) -> Iterator[StandIn]:
        """Serve at a free port, or at the one of before."""
        standin = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                standin.respond(self, None)

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                standin.respond(self, json.loads(self.rfile.read(length)))

            def log_message(self, *_: Any) -> None:
                """Print nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        server.daemon_threads = True
        self.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def respond(self, handler: BaseHTTPRequestHandler, body: dict[str, Any] | None) -> None:
        """Answer one request."""
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            status, document = self._answer(handler, body)
        finally:
            self._now -= 1
        if status == 0:
            handler.close_connection = True
            return
        data = json.dumps(document).encode()
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    def _answer(
        self, handler: BaseHTTPRequestHandler, body: dict[str, Any] | None
    ) -> tuple[int, Any]:
        self.seen.append(handler.path)
        given = handler.headers.get("Authorization", "")
        self.authorizations.add(given)
        if self.keys and given not in self.keys:
            return 401, {"error": {"message": f"wrong key {given}"}}
        if self.dies_after == 0:
            return 0, None
        self.dies_after -= 1
        time.sleep(self.seconds)
        if self.faults:
            return self.faults.pop(0), {"message": f"overloaded; you sent {given}"}
        if handler.path not in self.paths:
            return 404, {"detail": "Not Found"}
        if handler.path == "/v1/models":
            return 200, {"object": "list", "data": [{"id": self.name, "object": "model"}]}
        assert body is not None
        if body["model"] != self.name:
            return 404, {"error": {"message": "no such model"}}
        inputs = self._inputs(body)
        if inputs is None:
            return 400, {"error": {"message": "the picture is too wide"}}
        with self._lock, torch.inference_mode():
            if handler.path == "/v1/chat/completions":
                return 200, self._chat(inputs, body["max_tokens"])
            states = self.model(**inputs, output_hidden_states=True).hidden_states[-1][0]
        if handler.path == "/pooling":
            return 200, {"data": [{"data": states.float().tolist()}]}
        vector = (states[-1].float() + self.noise * torch.arange(states.shape[-1])).tolist()
        return 200, {"data": [{"index": 0, "embedding": vector[: self.cut]}]}

    def _inputs(self, body: dict[str, Any]) -> dict[str, Any] | None:
        """The processor's output for the messages, or ``None`` for a picture that is too wide."""
        turns, pictures = [], []
        for message in body["messages"]:
            parts = message["content"]
            parts = [{"type": "text", "text": parts}] if isinstance(parts, str) else parts
            content: list[dict[str, Any]] = []
            for part in parts:
                if part["type"] != "image_url":
                    content.append(part)
                    continue
                _, _, data = part["image_url"]["url"].partition("base64,")
                pictures.append(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
                content.append({"type": "image"})
            turns.append({"role": message["role"], "content": content})
        if self.refuses_width and any(one.width == self.refuses_width for one in pictures):
            return None
        # As vLLM: messages that are embedded get no opening of the answer unless it is asked for.
        opening = body.get("add_generation_prompt", "max_tokens" in body)
        chat = self.processor.apply_chat_template(turns, add_generation_prompt=opening)
        options = {"return_tensors": "pt", **untiled(self.processor)}
        return dict(self.processor(text=[chat], images=pictures or None, **options))

    def _chat(self, inputs: dict[str, Any], tokens: int) -> dict[str, Any]:
        made = self.model.generate(
            **inputs,
            max_new_tokens=tokens,
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
        )
        new = made.sequences[0, inputs["input_ids"].shape[1] :].tolist()
        tokenizer = self.processor.tokenizer
        ends = self.model.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends])
        kept = [n for n, token in enumerate(new) if token not in ends]
        content = [
            {
                "token": tokenizer.decode([new[n]]),
                "logprob": made.logits[n][0].float().log_softmax(-1)[new[n]].item(),
            }
            for n in kept
        ]
        text = tokenizer.decode([new[n] for n in kept], skip_special_tokens=True)
        reason = "length" if len(kept) == len(new) else "stop"
        choice = {"message": {"content": text}, "logprobs": {"content": content}}
        return {"choices": [{**choice, "finish_reason": reason}]}
