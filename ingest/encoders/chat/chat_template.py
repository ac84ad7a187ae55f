"""A model's chat template as it comes: in which form it takes a question about a picture.

Templates differ. Most take a turn's content as a list of parts, some as one text; some write no
mark where the picture belongs; some want a system turn; some open a thought at the end of the
prompt, which has to be closed before the answer's state can be read. All of this is found out by
rendering short conversations once, when a model is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from PIL import Image

from indexes.errors import ModelError
from ingest.encoders.chat.template_renderer import TemplateRefusal, render_chat

#: Two questions that differ; a template that drops the question renders both alike.
_PROBES = ("What is this, in one word?", "Which color has this, in one word?")

#: The system turn of models whose template demands one, if the user gives none.
DEFAULT_SYSTEM = "You are a helpful assistant."

#: How a picture may be named in a list of parts; the first is that of transformers.
_PICTURE_PARTS: tuple[Mapping[str, Any], ...] = (
    {"type": "image"},
    {"type": "image", "image": "picture"},
    {"type": "image_url", "image_url": {"url": "picture"}},
)

#: What opens and closes a thought.
_THOUGHTS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("<mm:think>", "</mm:think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|channel>thought", "<channel|>"),
    ("◁think▷", "◁/think▷"),
)
#: Others, the channel for analysis of gpt-oss included, which a mark alone does not close.
_UNKNOWN_THOUGHT = re.compile(
    r"(?:[<\[][^<>\[\]/]*(?:think|thought|reason)[^<>\[\]]*[>\]]"
    r"|<\|channel\|>analysis<\|message\|>)\s*\Z",
    re.I,
)

#: Variables of templates that switch off the thoughts of a model.
_NO_THINKING = ("enable_thinking", "thinking")


@dataclass(frozen=True)
class _Form:
    """How a conversation is written for a template.

    Attributes:
        parts: whether a turn's content is a list of parts; else it is one text.
        picture: the part that stands for a picture; ``None`` if ``mark`` does.
        mark: the text that stands for a picture, before the question.
        system: the system turn; empty for none.
        system_parts: whether the content of the system turn is a list too.
    """

    parts: bool = True
    picture: Mapping[str, Any] | None = None
    mark: str = ""
    system: str = ""
    system_parts: bool = False

    def messages(self, question: str, picture: bool) -> list[dict[str, Any]]:
        """The turns of a question about a picture, or about none."""
        before: list[Any] = []
        if picture and self.picture is not None:
            before = [dict(self.picture)]
        elif picture and self.mark:
            question = f"{self.mark}\n{question}"
        content = [*before, {"type": "text", "text": question}] if self.parts else question
        return self._turns(content)

    def mixed(self, parts: Sequence[str | None]) -> list[dict[str, Any]]:
        """The turns of a question with pictures among its words; ``None`` is a picture."""
        if self.parts and self.picture is not None:
            texts = [
                dict(self.picture) if part is None else {"type": "text", "text": part}
                for part in parts
                if part is None or part
            ]
            return self._turns(texts)
        text = "".join(self.mark if part is None else part for part in parts)
        return self._turns([{"type": "text", "text": text}] if self.parts else text)

    def _turns(self, content: Any) -> list[dict[str, Any]]:
        turns = [{"role": "user", "content": content}]
        if not self.system:
            return turns
        system = [{"type": "text", "text": self.system}] if self.system_parts else self.system
        return [{"role": "system", "content": system}, *turns]


class PromptRenderer(Protocol):
    """Writes the whole prompt of a question.

    Attributes:
        thought: as in :class:`ChatTemplate`.
    """

    thought: str

    def render(self, question: str, picture: bool = True) -> str:
        """See :meth:`ChatTemplate.render`."""
        ...

    def render_mixed(self, parts: Sequence[str | None]) -> str:
        """See :meth:`ChatTemplate.render_mixed`."""
        ...

    def settings(self) -> dict[str, str]:
        """See :meth:`ChatTemplate.settings`."""
        ...


class ChatTemplate:
    """Renders questions about a picture, or about no picture, as a model was trained to read them.

    Attributes:
        thought: ``off`` if the model's own switch keeps it from thinking, ``closed`` if the
            thought that its template opens is closed here, ``open`` if it stays open, else empty.
    """

    def __init__(
        self,
        processor: Any,
        config: Any = None,
        system: str = "",
        closes_thoughts: bool = True,
    ):
        """Find out what the template takes.

        Args:
            processor: the model's.
            config: the model's configuration, to check that a picture reaches the prompt; without
                it that is not checked.
            system: a system turn of one's own.
            closes_thoughts: whether a thought that the template opens is closed.

        Raises:
            ModelError: if the template takes no such conversation, or no system turn.
        """
        self._template = _template_text(processor)
        tokens = processor.tokenizer.special_tokens_map
        self._tokens = {
            name: value if isinstance(value, list) else str(value) for name, value in tokens.items()
        }
        self._switch: dict[str, bool] = {}
        self._closing = ""
        self.thought = ""
        self._form = self._find_form(processor, config, system)
        if closes_thoughts:
            self._close_thought(processor)

    def render(self, question: str, picture: bool = True) -> str:
        """The prompt of a question: all turns, and the opening of the answer.

        Args:
            question: may have several lines.
            picture: whether it is about a picture, which stands before it.

        Raises:
            ModelError: if the template refuses it, or needs too much time.
        """
        return self._render(self._form, question, picture) + self._closing

    def render_mixed(self, parts: Sequence[str | None]) -> str:
        """The prompt of a question with pictures among its words.

        Args:
            parts: texts, and ``None`` for each picture.

        Raises:
            ModelError: as :meth:`render`.
        """
        return self._render_turns(self._form.mixed(parts)) + self._closing

    def settings(self) -> dict[str, str]:
        """What changes a vector, for a gallery to store; empty for most models."""
        return {"thought": self.thought} if self.thought in ("off", "closed") else {}

    def _render(self, form: _Form, question: str, picture: bool, **switch: bool) -> str:
        return self._render_turns(form.messages(question, picture), **switch)

    def _render_turns(self, messages: list[dict[str, Any]], **switch: bool) -> str:
        variables = {
            **self._tokens,
            **self._switch,
            **switch,
            "messages": messages,
            "tools": None,
            "documents": None,
            "add_generation_prompt": True,
        }
        return render_chat(self._template, variables)

    # -- the form of a conversation --------------------------------------------------------

    def _find_form(self, processor: Any, config: Any, system: str) -> _Form:
        """The first form in which question, picture and system turn reach the prompt."""
        refusal: TemplateRefusal | None = None
        unseen: _Form | None = None
        for form in _forms(_picture_marks(processor, config), system):
            try:
                chats = [self._render(form, probe, picture=True) for probe in _PROBES]
                bare = self._render(form, _PROBES[0], picture=False)
            except TemplateRefusal as error:
                refusal = refusal or error
                continue
            if chats[0] == chats[1] or _shows_parts(chats[0]):
                continue
            if form.system.strip() not in chats[0]:
                # The template drops the system turn, or takes it in another form.
                unseen = unseen if system else unseen or form
                continue
            if config is None and bare != chats[0]:
                return form
            if config is not None and _picture_is_seen(processor, config, chats[0]):
                return form
            unseen = unseen or form
        if unseen is not None:
            return unseen
        if system:
            raise ModelError(
                "This model's chat template takes no system turn; leave --system out, or name "
                "another model."
            )
        if refusal is not None:
            raise refusal
        raise ModelError(
            "This model's chat template writes no question about a picture; restore it, or name "
            "another model."
        )

    # -- thoughts --------------------------------------------------------------------------

    def _close_thought(self, processor: Any) -> None:
        usual = self.render(_PROBES[0])
        for variable in _NO_THINKING:
            if variable not in self._template:
                continue
            off = self._render(self._form, _PROBES[0], True, **{variable: False})
            if off != usual and _opened(off) is None:
                self._switch[variable] = False
                self.thought = "off"
                return
        opened = _opened(usual)
        if opened is None:
            return
        closing = next((close for open_, close in _THOUGHTS if open_ == opened), "")
        if not closing:
            closing = f"{opened[0]}/{opened[1:]}"
            known = closing in processor.tokenizer.get_added_vocab() or closing in self._template
            if not known:
                self.thought = "open"
                return
        line = "\n" if usual.endswith("\n") else "\n\n"
        self._closing = f"{line}{closing}\n\n"
        self.thought = "closed"


def _forms(marks: Sequence[str], system: str) -> Iterator[_Form]:
    """Forms of a conversation, the usual ones first."""
    systems = [(system, False), (system, True)]
    if not system:
        systems = [("", False), (DEFAULT_SYSTEM, False), (DEFAULT_SYSTEM, True)]
    for text, parts in systems:
        for picture in _PICTURE_PARTS:
            yield _Form(picture=picture, system=text, system_parts=parts)
        for mark in marks:
            yield _Form(mark=mark, system=text, system_parts=parts)
        if not parts:
            for mark in marks:
                yield _Form(parts=False, mark=mark, system=text)


def _template_text(processor: Any) -> str:
    """The template of a processor, or else of its tokenizer.

    Raises:
        ModelError: if there are several and none is the default, or it is no text.
    """
    template = getattr(processor, "chat_template", None) or processor.tokenizer.chat_template
    if isinstance(template, Mapping):
        template = template.get("default")
    if not isinstance(template, str):
        raise ModelError(
            "This model has several chat templates, none of which is named default; name another "
            "model."
        )
    return template


def _picture_marks(processor: Any, config: Any) -> list[str]:
    """Texts that may stand for a picture in a prompt of this processor, the most likely first."""
    tokenizer = processor.tokenizer

    def token(name: str) -> str:
        number = getattr(config, name, None)
        return str(tokenizer.convert_ids_to_tokens(number) or "") if number is not None else ""

    named = [getattr(processor, "boi_token", None), getattr(processor, "image_token", None)]
    named += [getattr(tokenizer, "context_image_token", None)]
    plain = [str(mark) for mark in (*named, token("image_token_id")) if mark]
    around = [
        (token(f"{kind}_start_token_id"), token(f"{kind}_end_token_id"))
        for kind in ("vision", "image")
    ]
    wrapped = [f"{begin}{mark}{end}" for begin, end in around if begin and end for mark in plain]
    return list(dict.fromkeys([*wrapped, *plain]))


def _picture_is_seen(processor: Any, config: Any, chat: str) -> bool:
    """Whether the processor puts a picture into a prompt."""
    token = getattr(config, "image_token_id", None)
    try:
        inputs = processor(
            text=[chat], images=[Image.new("RGB", (64, 48), "gray")], return_tensors="pt"
        )
        return token is None or bool((inputs["input_ids"] == token).any())
    except Exception:  # noqa: BLE001 - whatever a processor raises about such a prompt
        return False


def _shows_parts(chat: str) -> bool:
    """Whether a template printed a list of parts as Python or JSON writes it."""
    return "'type':" in chat or '"type":' in chat


def _opened(chat: str) -> str | None:
    """The mark of the thought that a prompt leaves open at its end, or ``None``."""
    tail = chat[max(chat.rfind(probe) for probe in _PROBES) :]
    for opening, closing in _THOUGHTS:
        if tail.rfind(opening) > tail.rfind(closing):
            return opening
    unknown = _UNKNOWN_THOUGHT.search(tail)
    return unknown.group().strip() if unknown else None
