"""Chat templates as they come: hostile ones end in one sentence, odd ones are used as they want."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.tiny_families import BUILDERS, build
from support.tiny_reference import Tiny

from indexes.errors import ModelError, UsageError
from ingest.conditions import Condition
from ingest.encoders.chat import template_renderer
from ingest.encoders.chat.chat_template import DEFAULT_SYSTEM, ChatTemplate
from ingest.encoders.chat.template_renderer import render_chat
from ingest.encoders.factory import make_encoder, remake_encoder
from ingest.encoders.methods.dior import DiorEncoder
from ingest.encoders.options import EncoderChoice, EncoderOptions

COLOR = Condition.parse("color")

#: Parts of templates: the turns of most models, and how the answer is opened.
PARTS = (
    "{% for m in messages %}{{ m['role'] }} : {% for part in m['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %} {{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}"
)
OPENING = "{% if add_generation_prompt %} assistant : {% endif %}"


# -- rendering -----------------------------------------------------------------------------------

USED = {
    "trimmed blocks": "{% if true %}\n  {% for m in messages %}\n{{ m.role }}\n{% endfor %}\n"
    "{% endif %}",
    "json": "{{ messages | tojson }} {{ messages[0] | tojson(indent=2) }} {{ 'ü<' | tojson }}",
    "loop controls": "{% for n in range(9) %}{% if n == 3 %}{% break %}{% endif %}{{ n }}"
    "{% endfor %}",
    "generation blocks": "{% generation %}{{ bos_token }}{% endgeneration %}"
    "{% set x = namespace(a=1) %}{% set x.a = 5 %}{{ x.a }}{{ tools is none }}",
    "macros": "{% macro f(a) %}[{{ a }}]{% endmacro %}{{ f(messages[0].content[1].text) }}",
    "undefined": "{{ nothing }}{% if nothing is defined %}x{% endif %}{{ add_generation_prompt }}",
}


@pytest.mark.parametrize("what", list(USED))
def test_rendering_is_that_of_transformers(what: str) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": " a\n b "}]}
    variables = {"bos_token": "<s>", "add_generation_prompt": True}
    theirs, _ = render_jinja_template([[turn]], chat_template=USED[what], **variables)
    more = {"messages": [turn], "tools": None, "documents": None}
    assert render_chat(USED[what], {**variables, **more}) == theirs[0]


@pytest.mark.parametrize("tiny", list(BUILDERS), indirect=True)
def test_prompts_are_those_of_transformers(tiny: Tiny) -> None:
    question = 'What of\n this, in "one" word\'s length? '
    parts = [{"type": "image"}, {"type": "text", "text": question}]
    processor = tiny.encoder.processor
    own = processor.apply_chat_template(
        [{"role": "user", "content": parts}], add_generation_prompt=True
    )
    assert tiny.encoder.chat.render(question) == own
    assert tiny.encoder.chat.settings() == {}


HOSTILE = {
    "a long loop": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a loop without end": "{% macro f(n) %}{% for a in [1, 1, 1, 1, 1, 1, 1, 1, 1, 1] %}"
    "{% if n %}{{ f(n - 1) }}{% endif %}{% endfor %}{% endmacro %}{{ f(12) }}",
    "endless text": "{% for a in range(99999) %}{{ 'x' * 1000 }}{% endfor %}",
    "one long text": "{{ 'x' * 10 ** 10 }}",
    "a long number": "{{ 10 ** (10 ** 10) }}",
    "a wide text": "{{ '%1000000000000d' % 1 }}",
    "deep calls": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "python's insides": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "half a block": "{% for m in messages %}",
    "an unknown filter": "{{ messages | system }}",
    "a file": "{% include '/etc/passwd' %}",
    "its own error": "{{ raise_exception('no\x1b[31m\n\nway') }}",
    "division": "{{ 1 / 0 }}",
}


@pytest.mark.parametrize("what", list(HOSTILE))
def test_hostile_templates_end_in_one_sentence(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_renderer, "SECONDS", 1)
    started = time.monotonic()
    with pytest.raises(ModelError) as refused:
        render_chat(HOSTILE[what], {"messages": [], "case": what})
    assert time.monotonic() - started < 50
    said = str(refused.value)
    assert said.endswith("name another model.") and all(c.isprintable() for c in said)
    # The next chat is rendered all the same.
    assert render_chat("{{ messages[0] }}", {"messages": [what]}) == what


def test_the_date_is_always_the_same() -> None:
    """A prompt with today's date would give every day other vectors."""
    assert render_chat("{{ strftime_now('%d %b %Y') }}", {}) == "26 Jul 2024"


# -- templates as they come ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("llava", tmp_path_factory.mktemp("llava"))


def with_template(llava: Path, folder: Path, template: str) -> Path:
    shutil.copytree(llava, folder)
    (folder / "chat_template.jinja").write_text(template)
    return folder


def vector_of(encoder: DiorEncoder, chat: str, picture: Image.Image) -> np.ndarray:
    """The state that transformers alone computes at the end of a prompt: a unit vector."""
    inputs = encoder.processor(text=[chat], images=[picture], return_tensors="pt")
    with torch.inference_mode():
        state = encoder.lvlm.model.model(**inputs).last_hidden_state[0, -1].numpy()
    unit: np.ndarray = state / np.linalg.norm(state)
    return unit


#: Name to a template and to the prompt that it has to give; Q is the question.
AS_THEY_COME = {
    "no mark": (
        "{% for m in messages %}{{ m.role }} : {% for part in m.content %}{{ part.text }}"
        "{% endfor %}{% endfor %}" + OPENING,
        "user : <image>\nQ assistant : ",
    ),
    "only other marks": (
        PARTS.replace("'image'", "'picture'") + OPENING,
        "user :  <image>\nQ assistant : ",
    ),
    "an address": (
        PARTS.replace("'image'", "'image_url'") + OPENING,
        "user : <image> Q assistant : ",
    ),
    "content as text": (
        "{% for m in messages %}{{ m.role + ' : ' + m.content }}{% endfor %}" + OPENING,
        "user : <image>\nQ assistant : ",
    ),
    "content as text, printed": (
        "{% for m in messages %}{{ m.role }} : {{ m.content | trim }}{% endfor %}" + OPENING,
        "user : <image>\nQ assistant : ",
    ),
    "a system turn of text": (
        "{% if messages[0].role != 'system' %}{{ raise_exception('system first') }}{% endif %}"
        "{{ messages[0].content.strip() }}"
        + PARTS.replace("in messages", "in messages[1:]") + OPENING,
        f"{DEFAULT_SYSTEM}user : <image> Q assistant : ",
    ),
    "a system turn of parts": (
        "{% if messages[0].role != 'system' %}{{ messages[9].role.x }}{% endif %}"
        + PARTS + OPENING,
        f"system :  {DEFAULT_SYSTEM}user : <image> Q assistant : ",
    ),
    "a thought": (
        PARTS + " assistant : <think>{{ '\n' }}",
        "user : <image> Q assistant : <think>\n\n</think>\n\n",
    ),
    "a thought in a line": (
        PARTS + " assistant : <think>", "user : <image> Q assistant : <think>\n\n</think>\n\n"
    ),
    "a begun thought": (PARTS + " [THINK] Well", "user : <image> Q [THINK] Well\n\n[/THINK]\n\n"),
    "a switch": (
        PARTS + " assistant : {% if enable_thinking is defined and not enable_thinking %}"
        "<think></think>{% else %}<think>{% endif %}",
        "user : <image> Q assistant : <think></think>",
    ),
    "a switch that is on unless told": (
        PARTS + " assistant : {% if thinking is defined and not thinking %}no {% endif %}",
        "user : <image> Q assistant : no ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", list(AS_THEY_COME))
def test_templates_as_they_come(
    what: str, llava: Path, tmp_path: Path, pictures: list[Image.Image]
) -> None:
    template, prompt = AS_THEY_COME[what]
    encoder = make_encoder("dior", str(with_template(llava, tmp_path / "model", template)))
    assert isinstance(encoder, DiorEncoder)
    chat = prompt.replace("Q", encoder.template.text(COLOR))
    known = vector_of(encoder, chat, pictures[0])
    assert np.abs(encoder.encode(pictures[:1], [COLOR])[0, 0] - known).max() < 2e-5
    thought = {"a switch": "off", "a switch that is on unless told": "off"}
    said = thought.get(what, "closed" if "thought" in what else None)
    assert encoder.spec.settings.get("thought") == said


def test_a_template_in_the_tokenizer_alone(
    llava: Path, tmp_path: Path, pictures: list[Image.Image]
) -> None:
    import json

    folder = tmp_path / "model"
    shutil.copytree(llava, folder)
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**settings, "chat_template": template})
    )
    encoder = make_encoder("dior", str(folder))
    assert getattr(encoder.processor, "chat_template", None) is None  # type: ignore[attr-defined]
    before = make_encoder("dior", str(llava))
    some = pictures[:2]
    assert np.array_equal(encoder.encode(some, [COLOR]), before.encode(some, [COLOR]))


@pytest.mark.parametrize("opening", ["<my_thought>", "<|channel|>analysis<|message|>"])
def test_a_thought_that_cannot_be_closed_is_said(opening: str, llava: Path, tmp_path: Path) -> None:
    template = f"{PARTS} assistant : {opening}"
    encoder = make_encoder("dior", str(with_template(llava, tmp_path / "model", template)))
    assert "inside a thought that cannot be closed" in encoder.description
    assert "thought" not in encoder.spec.settings


def test_earlier_galleries_keep_their_open_thoughts(
    llava: Path, tmp_path: Path, pictures: list[Image.Image]
) -> None:
    folder = with_template(llava, tmp_path / "model", PARTS + " assistant : <think>\n")
    encoder = make_encoder("dior", str(folder))
    settings = {k: v for k, v in encoder.spec.settings.items() if k != "thought"}
    stored = replace(encoder.spec, settings=settings)
    earlier = remake_encoder(stored)
    assert earlier.spec == stored and isinstance(earlier, DiorEncoder)
    chat = f"user : <image> {earlier.template.text(COLOR)} assistant : <think>\n"
    known = vector_of(earlier, chat, pictures[0])
    assert np.abs(earlier.encode(pictures[:1], [COLOR])[0, 0] - known).max() < 2e-5


# -- a system turn of one's own ------------------------------------------------------------------


def test_a_system_turn_of_ones_own(
    llava: Path, tmp_path: Path, pictures: list[Image.Image]
) -> None:
    system = "Look at\nthe red circle."
    options = EncoderOptions(system=system)
    plain = make_encoder("dior", str(llava))
    # This template takes the content of every turn as parts.
    encoder = make_encoder("dior", str(llava), options=options)
    assert isinstance(encoder, DiorEncoder)
    chat = f"system :  {system}user : <image> {encoder.template.text(COLOR)} assistant : "
    known = vector_of(encoder, chat, pictures[0])
    assert np.abs(encoder.encode(pictures[:1], [COLOR])[0, 0] - known).max() < 2e-5
    assert encoder.spec.settings["system"] == system and "system" not in plain.spec.settings
    assert encoder.spec.made_by(COLOR) != plain.spec.made_by(COLOR)
    assert remake_encoder(encoder.spec).spec == encoder.spec
    deaf = "{% for m in messages if m.role == 'user' %}" + PARTS.partition("%}")[2] + OPENING
    with pytest.raises(ModelError, match="takes no system turn; leave --system out"):
        make_encoder("dior", str(with_template(llava, tmp_path / "deaf", deaf)), options=options)
    with pytest.raises(UsageError, match="special token"):
        make_encoder("dior", str(llava), options=EncoderOptions(system="</s>"))


@pytest.mark.parametrize("system", [" ", "a\x1b[31m", "x" * 5000])
def test_system_turns_that_are_none(system: str) -> None:
    with pytest.raises(UsageError, match="--system"):
        EncoderOptions(system=system)


def test_methods_without_questions_have_no_system_turn() -> None:
    with pytest.raises(UsageError, match=r"--system .* does not apply to the method clip"):
        make_encoder("clip", options=EncoderOptions(system="Be brief."))


def test_compat_leaves_the_template_alone(llava: Path, tmp_path: Path) -> None:
    folder = with_template(llava, tmp_path / "model", PARTS + " assistant : <think>\n")
    options = EncoderOptions(compat="reference")
    encoder = DiorEncoder.load(EncoderChoice("dior", str(folder), options=options))
    assert encoder.chat.render("x").endswith("<think>")
    assert isinstance(encoder.chat, ChatTemplate)


def test_a_loop_in_a_folder_as_typed(
    llava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The template is well until a question has a certain word."""
    monkeypatch.setattr(template_renderer, "SECONDS", 1)
    trap = "{% if 'colour' in messages | tojson %}" + HOSTILE["a long loop"] + "{% endif %}"
    encoder: Any = make_encoder(
        "dior", str(with_template(llava, tmp_path / "m", trap + PARTS + OPENING))
    )
    with pytest.raises(ModelError, match="was stopped"):
        encoder.encode([Image.new("RGB", (40, 40))], [Condition.parse("colour")])
