"""What the publishers' own scripts give their embedders to read, written down piece by piece.

A special token is a piece of its own; IMAGE stands for all tokens of the picture. The texts follow
from reading these scripts, not from ``configs/embedders.toml``:

* qwen3-vl-embedding: QwenLM/Qwen3-VL-Embedding, src/models/qwen3_vl_embedding.py
  (``format_model_input``; a system turn with the instruction, then the user's turn with the
  picture before the text, and the opening of the answer).
* gme: gme_inference.py of Alibaba-NLP/gme-Qwen2-VL-2B-Instruct (``embed``).
* vlm2vec-v2: TIGER-AI-Lab/VLM2Vec, src/data/eval_dataset/image_t2i_eval.py for texts and pictures,
  image_i2i_vg_dataset.py for both, src/model/processor.py for the mark of a picture.
* e5-v: kongds/E5-V, retrieval.py, with ``llama3_template``.
* mme5: haon-chen/mmE5, demo.py.
* lamra: Code-kunkun/LamRA, dataset/datasets_circo.py and datasets_genecis.py; the prompt goes on
  with "<emb>.", and the state before <emb> is the vector.
* unime: deepglint/UniME, self_evaluate/retrieval_self.py.
* bge-vl-mllm: the model's ``prepare_text_input``, with the instruction of the README of
  VectorSpaceLab/MegaPairs.
"""

from __future__ import annotations

from dataclasses import dataclass

IMAGE = object()

#: The words of the user in these prompts.
WORDS = "a {Red} heart, 2x"

START, END, TEXT_END = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
SEES = ["<|vision_start|>", IMAGE, "<|vision_end|>"]


@dataclass(frozen=True)
class PublishedPrompt:
    """One prompt of a publisher.

    Attributes:
        preset: the name of the preset.
        kind: ``picture``, ``words`` or ``composed``.
        pieces: texts, special tokens, and IMAGE.
        condition: the condition that the publisher's prompt is under; empty for none.
    """

    preset: str
    kind: str
    pieces: tuple[object, ...]
    condition: str = ""


def _qwen(system: str, user: list[object], last: tuple[str, ...] = ()) -> tuple[object, ...]:
    opening = [START, f"system\n{system}", END, "\n", START, "user\n"]
    return (*opening, *user, END, "\n", START, "assistant\n", *last)


def _llama3(user: list[object]) -> tuple[object, ...]:
    opening = ["<s>", "<|start_header_id|>", "user", "<|end_header_id|>", "\n\n"]
    closing = ["<|eot_id|>", "<|start_header_id|>", "assistant", "<|end_header_id|>", "\n\n \n"]
    return (*opening, *user, *closing)


HELPFUL = "You are a helpful assistant."
CHANGES = "Given an image, find a similar everyday image with the described changes:"
CAPTION = "Find me an everyday image that matches the given caption:"
BEGIN = "<|begin_of_text|>"
SUMMARY = "\nSummarize above image in one word: "
BOTH = "\nSummarize above image and sentence in one word: "
LOOKING = "I'm looking for a similar everyday image with the described changes. "
SAME = "I'm looking for an image with the same attributes as described. color"
CRITERIA = (
    " Retrieve the target image that best meets the combined criteria by using both the provided "
    "image and the image retrieval instructions:  "
)

PUBLISHED = [
    PublishedPrompt("qwen3-vl-embedding", "picture", _qwen("Represent the user's input.", SEES)),
    PublishedPrompt(
        "qwen3-vl-embedding",
        "words",
        _qwen("Retrieve images or text relevant to the user's query.", [WORDS]),
    ),
    PublishedPrompt("qwen3-vl-embedding", "composed", _qwen(CHANGES, [*SEES, WORDS])),
    PublishedPrompt("gme", "picture", _qwen(HELPFUL, SEES, (TEXT_END,))),
    PublishedPrompt(
        "gme", "words", _qwen("Find an image that matches the given text.", [WORDS], (TEXT_END,))
    ),
    PublishedPrompt("vlm2vec-v2", "picture", (IMAGE, "\nRepresent the given image.\n")),
    PublishedPrompt("vlm2vec-v2", "words", (f"{CAPTION} {WORDS}\n",)),
    PublishedPrompt("vlm2vec-v2", "composed", (IMAGE, f"\n{CHANGES} {WORDS}\n")),
    PublishedPrompt("e5-v", "picture", _llama3([IMAGE, "\nSummary above image in one word: "])),
    PublishedPrompt("e5-v", "words", _llama3([f"{WORDS}\nSummary above sentence in one word: "])),
    PublishedPrompt(
        "e5-v",
        "composed",
        _llama3([IMAGE, f'Modify this image with "{WORDS}", desribe modified image in one word:']),
    ),
    PublishedPrompt("mme5", "picture", (BEGIN, IMAGE, BEGIN, "Represent the given image.\n")),
    PublishedPrompt("mme5", "words", (BEGIN, BEGIN, f"{CAPTION} {WORDS}\n")),
    PublishedPrompt("mme5", "composed", (BEGIN, IMAGE, BEGIN, f"{CHANGES} {WORDS}\n")),
    PublishedPrompt("lamra", "picture", _qwen(HELPFUL, [*SEES, SUMMARY])),
    PublishedPrompt("lamra", "picture", _qwen(HELPFUL, [*SEES, SAME + BOTH]), "color"),
    PublishedPrompt(
        "lamra", "words", _qwen(HELPFUL, [f"{WORDS}\nSummarize above sentence in one word: "])
    ),
    PublishedPrompt("lamra", "composed", _qwen(HELPFUL, [*SEES, LOOKING + WORDS + BOTH])),
    PublishedPrompt(
        "unime",
        "picture",
        ("<s>", "[INST] ", IMAGE, "\nSummary above image in one word: [/INST]"),
    ),
    PublishedPrompt(
        "unime", "words", ("<s>", f"[INST] {WORDS}\nSummary above sentence in one word: [/INST]")
    ),
    PublishedPrompt("bge-vl-mllm", "picture", ("<s>", "[INST]  ", IMAGE, " [/INST]")),
    PublishedPrompt(
        "bge-vl-mllm",
        "words",
        ("<s>", "[INST] \n ", "<instruct>", f" {CAPTION} ", "<query>", f"  {WORDS} \n [/INST]"),
    ),
    PublishedPrompt(
        "bge-vl-mllm",
        "composed",
        (
            "<s>",
            "[INST] \n ",
            "<instruct>",
            CRITERIA,
            "<query>",
            f"  {WORDS} \n ",
            IMAGE,
            " [/INST]",
        ),
    ),
]
