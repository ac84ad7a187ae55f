"""The shipped lists of words, and where a condition's words come from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from eval.world.factors import FACTORS
from indexes.errors import UsageError
from indexes.repair import repair
from indexes.store.gallery import Gallery
from indexes.verify import verify
from ingest.conditions import Condition, fold_name
from ingest.vocabularies import (
    MAX_WORDS,
    Vocabulary,
    checked_template,
    checked_words,
    delete_vocabulary,
    list_name,
    shipped_vocabularies,
    split_words,
    store_vocabulary,
    vocabulary_of,
)

#: Conditions as published benchmarks name them.
BENCHMARKS = {
    "LanZ-DML, DIOR": [
        "car model",
        "car manufacturer",
        "car type",
        "car color",
        "background color",
        "bird species",
        "clothing category",
        "texture type",
        "fabric type",
        "fit type",
        "movie genre",
        "movie's production country",
    ],
    "Clevr4": ["texture", "shape", "color", "count"],
    "cards": ["card number", "card suit", "suits"],
    "Stanford-40": ["action", "location", "mood"],
    "CelebA": ["face attribute", "hair color", "facial hair", "glasses"],
    "WikiArt": ["style", "art style", "art genre"],
    "Zappos": ["shoe type", "heel height", "closure", "toe style"],
    "the rendered world": list(FACTORS),
}

#: Label sets of benchmarks, as far as known; no list may repeat one.
LABELS = {
    "movie posters": "action, adventure, animation, biography, comedy, crime, documentary, drama, "
    "family, fantasy, film-noir, game-show, history, horror, music, musical, mystery, n/a, news, "
    "reality-tv, romance, sci-fi, short, sport, talk-show, thriller, war, western, adult",
    "Clevr4 texture": "rubber, metal, checkered, emojis, wave, brick, star, circles, zigzag, "
    "chessboard",
    "Clevr4 shape": "cube, sphere, monkey, cone, torus, star, teapot, diamond, gear, cylinder",
    "Clevr4 color": "gray, red, blue, green, brown, purple, cyan, yellow, pink, orange",
    "Clevr4 count": "one, two, three, four, five, six, seven, eight, nine, ten",
    "card number": "ace, two, three, four, five, six, seven, eight, nine, ten, jack, queen, king",
    "card suit": "clubs, diamonds, hearts, spades",
    "clothes texture": "floral, graphic, striped, embroidered, pleated, solid, lattice",
    "clothes fabric": "denim, chiffon, cotton, leather, faux, knit",
    "clothes fit": "tight, loose, conventional",
    "car type": "sedan, suv, coupe, convertible, hatchback, wagon, van, pickup, cab, minivan",
    "named colors": "aqua, black, blue, fuchsia, gray, green, lime, maroon, navy, olive, orange, "
    "purple, red, silver, teal, white, yellow",
    "WikiArt": "abstract expressionism, action painting, analytical cubism, art nouveau, baroque, "
    "color field painting, contemporary realism, cubism, early renaissance, expressionism, "
    "fauvism, high renaissance, impressionism, mannerism late renaissance, minimalism, naive art "
    "primitivism, new realism, northern renaissance, pointillism, pop art, post impressionism, "
    "realism, rococo, romanticism, symbolism, synthetic cubism, ukiyo e",
    **{f"the world's {name}": ", ".join(values) for name, values in FACTORS.items()},
}

LISTS = list(shipped_vocabularies())


def words_of(text: str) -> set[str]:
    return {fold_name(word) for word in text.split(",")}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_is_in_order(name: str) -> None:
    vocabulary = shipped_vocabularies()[name].vocabulary
    assert Condition.parse(name).name == name
    assert checked_words(vocabulary.words) == vocabulary.words  # each once, none empty
    assert 8 <= len(vocabulary.words) <= 120
    assert all(len(word.split()) <= 5 for word in vocabulary.words)
    assert checked_template(vocabulary.template) == vocabulary.template
    assert not {"n/a", "unknown", "other", "misc"} & words_of(",".join(vocabulary.words))
    assert len(set(vocabulary.texts)) == len(vocabulary.words)


def test_each_name_and_alias_belongs_to_one_list() -> None:
    seen: dict[str, str] = {}
    for name, one in shipped_vocabularies().items():
        for alias in (name, *one.aliases):
            assert seen.setdefault(fold_name(alias), name) == name, alias
            assert list_name(alias) == list_name(alias.upper()) == name
    assert list_name("Colour") == list_name("hue") == "color"
    assert list_name("object_color") == "color"


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_every_condition_of_a_benchmark_has_a_list(benchmark: str) -> None:
    for condition in BENCHMARKS[benchmark]:
        assert vocabulary_of(condition).source == "shipped"


@pytest.mark.parametrize("labels", LABELS)
def test_no_list_is_a_benchmarks_label_set(labels: str) -> None:
    taken = words_of(LABELS[labels])
    for name, one in shipped_vocabularies().items():
        words = words_of(",".join(one.vocabulary.words))
        shared = len(words & taken) / len(words | taken)
        assert shared < 0.75, f"{name} shares {shared:.2f} of the labels of {labels}"


def test_that_test_can_fail() -> None:
    one = shipped_vocabularies()["card number"].vocabulary
    assert words_of(", ".join(one.words)) > words_of(LABELS["card number"])


def test_texts_have_the_right_article() -> None:
    words = ("red", "orange", "ivory")
    texts = Vocabulary("color", words, "on a {word} thing", "edited").texts
    assert texts == ["on a red thing", "on an orange thing", "on an ivory thing"]
    assert Vocabulary("x", ("orange",), "extra {word}", "edited").texts == ["extra orange"]


def test_a_digest_changes_with_words_order_and_template() -> None:
    one = Vocabulary("mood", ("happy", "sad"), "{word}", "edited")
    others = [
        Vocabulary("mood", ("happy", "sad", "calm"), "{word}", "edited"),
        Vocabulary("mood", ("sad", "happy"), "{word}", "edited"),
        Vocabulary("mood", ("happy", "sad"), "a {word} mood", "edited"),
    ]
    assert len({v.digest for v in (one, *others)}) == 4
    assert one.digest == Vocabulary("feel", ("happy", "sad"), "{word}", "made by x").digest


class Lister:
    """Generates one list, and counts its calls."""

    model = "org/model"

    def __init__(self, *words: str):
        self.words = words
        self.asked: list[str] = []

    def __call__(self, condition: str) -> tuple[str, ...]:
        self.asked.append(condition)
        return self.words


def test_the_gallerys_list_precedes_the_shipped_one_and_a_generated_one(
    gallery: Gallery,
) -> None:
    lister = Lister("fizzy", "flat")
    assert (
        vocabulary_of("hue", gallery, lister).words
        == shipped_vocabularies()["color"].vocabulary.words
    )
    made = vocabulary_of("Fizziness", gallery, lister)
    assert (made.condition, made.words) == ("Fizziness", ("fizzy", "flat"))
    assert made.source == "made by org/model"
    assert made.texts[0] == "a photo, Fizziness: fizzy"
    assert vocabulary_of("fizziness", gallery, lister) == made
    assert lister.asked == ["Fizziness"]
    own = Vocabulary("color", ("red", "blue"), "{word}", "edited")
    store_vocabulary(gallery, own)
    assert vocabulary_of("Colour", gallery) == own
    assert vocabulary_of("color") != own
    assert delete_vocabulary(gallery, "hue") and not delete_vocabulary(gallery, "hue")
    assert vocabulary_of("hue", gallery) == vocabulary_of("color")
    assert delete_vocabulary(gallery, "FIZZINESS")
    assert gallery.words() == {}


def test_without_a_list_the_message_names_the_command(gallery: Gallery) -> None:
    with pytest.raises(UsageError, match='cies conditions edit "fizziness" --words'):
        vocabulary_of("fizziness", gallery)
    with pytest.raises(UsageError, match="whole and has no words"):
        vocabulary_of("unconditional", gallery)
    with pytest.raises(UsageError, match=r"made for 'fizziness' has 1 different words"):
        vocabulary_of("fizziness", gallery, Lister("flat", "Flat"))


def test_a_list_that_cannot_be_stored_now_says_so(gallery: Gallery) -> None:
    with gallery.writer():
        made = vocabulary_of("fizziness", gallery, Lister("fizzy", "flat"))
    assert "not kept" in made.source
    assert gallery.words() == {}


def test_verify_repair_and_a_copy_keep_lists(gallery: Gallery, tmp_path: Path) -> None:
    own = Vocabulary("größe {x}", ("klein", "groß"), "a {word} thing", "edited")
    store_vocabulary(gallery, own)
    shutil.copytree(gallery.path, tmp_path / "moved")
    shutil.rmtree(tmp_path / "moved" / "manifest.lance")
    assert [f.text for f in verify(tmp_path / "moved")] == ["Table manifest is missing."]
    repair(tmp_path / "moved")
    moved = Gallery.open(tmp_path / "moved")
    assert verify(tmp_path / "moved") == []
    assert vocabulary_of("Größe {x}", moved) == own


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "has 0 different words"),
        ("red", "has 1 different words"),
        ("red, Red , RED", "has 1 different words"),
        ("gray, grey", "has 1 different words"),
        ("red, " + "x" * 101, "not a word or short phrase"),
        ("red, bl\x07ue", "not a word or short phrase"),
        (",".join(map(str, range(MAX_WORDS + 1))), f"has {MAX_WORDS + 1} different words"),
    ],
)
def test_texts_that_are_no_words_are_refused(words: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        checked_words(split_words(words))


def test_words_are_read_from_lines_and_commas() -> None:
    text = "# colors\nred, dark  blue;green\n\n  Red\n# no\nsky blue,\n"
    assert checked_words(split_words(text)) == ("red", "dark blue", "green", "sky blue")


@pytest.mark.parametrize("template", ["no place", "{word} and {word}", "", "{word}" + "x" * 500])
def test_a_template_has_one_placeholder(template: str) -> None:
    with pytest.raises(UsageError):
        checked_template(template)


def test_the_readme_states_the_number_of_lists() -> None:
    count = (len(shipped_vocabularies()) - 1) // 10 * 10
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert f"more than {count} conditions" in readme
