"""Generated text follows the model's probabilities, begins with the prompt and is the same for the
same seed.
"""

import collections
import math

import pytest
import torch
from cases import randomize
from tables import for_each

from rhn.data.text import Vocabulary
from rhn.errors import InvalidInputError
from rhn.models import LanguageModel
from rhn.training.sampling import generate

WORDS = Vocabulary("words", ("the", "<eos>", "cat", "<unk>", "sat", "mat"))
LETTERS = Vocabulary("characters", tuple("abcd\n"))
UNENDING = Vocabulary("characters", tuple("abcd"))
BYTES = Vocabulary("bytes", (10, 97, 98, 255))


@pytest.mark.parametrize("length", [1, 7, 40])
def test_the_text_is_the_prompt_and_so_many_symbols(length):
    text = generate(random_model(LETTERS), LETTERS, prompt="abba", length=length)
    assert text.startswith("abba")
    assert len(text) == 4 + length
    assert len(generate(random_model(LETTERS), LETTERS, length=length)) == length
    assert len(generate(random_model(UNENDING), UNENDING, length=length)) == length


@pytest.mark.parametrize(
    "options", [{"top_k": 1}, {"temperature": 1e-3}, {"temperature": 1e-320}], ids=str
)
def test_the_coldest_text_takes_the_likeliest_symbol_every_time(options):
    model, ids = random_model(LETTERS), [1, 3]
    for _ in range(20):
        logits = model(torch.tensor(ids).unsqueeze(1)).logits
        ids.append(int(logits[-1, 0].argmax()))
    assert generate(model, LETTERS, prompt="bd", length=20, **options) == LETTERS.decode(ids)
    assert len(set(ids[2:])) > 2


@for_each("options", [{"temperature": 1e-320}, {"top_k": 1}])
def test_the_unknown_word_is_never_drawn_however_likely(options):
    model = constant_model([0.0, 0.1, 0.3, 50.0, 0.2, 0.1])
    assert generate(model, WORDS, prompt="the", length=5, **options) == "the cat cat cat cat cat"


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_symbols_come_as_often_as_the_model_says(temperature):
    odds = torch.tensor([1.0, 2.0, 3.0, 4.0]).double()
    model = constant_model(odds.log().tolist())
    counts = collections.Counter(
        generate(model, UNENDING, prompt="a", length=1000, temperature=temperature)[1:]
    )
    wanted = odds ** (1 / temperature)
    for letter, p in zip("abcd", (wanted / wanted.sum()).tolist(), strict=True):
        assert counts[letter] == pytest.approx(1000 * p, abs=4 * math.sqrt(1000 * p * (1 - p)))


def test_without_a_prompt_the_text_begins_after_a_newline():
    for vocabulary in (WORDS, LETTERS, BYTES):
        model = random_model(vocabulary)
        text = generate(model, vocabulary, prompt="\n", length=20, seed=3)
        assert text == "\n" + generate(model, vocabulary, length=20, seed=3)


def test_a_word_that_is_not_known_is_read_as_unknown():
    model = random_model(WORDS)
    text = generate(model, WORDS, prompt="the dog\nsat", length=10)
    assert text.startswith("the <unk>\nsat")
    assert text == generate(model, WORDS, prompt="the <unk>\nsat", length=10)


@for_each(
    ("options", "message"),
    [
        ({"temperature": 0}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"seed": 2**63}, "seed"),
        ({"length": 0}, "length"),
        ({"prompt": "axe"}, "'x'"),
        ({"vocabulary": UNENDING}, "vocabulary has 4 symbols: expected the model's 5"),
        ({"vocabulary": None}, "vocabulary has 0 symbols"),
    ],
)
def test_what_cannot_be_generated_is_refused(options, message):
    with pytest.raises(InvalidInputError, match=message):
        generate(random_model(LETTERS), **{"vocabulary": LETTERS, "prompt": "a"} | options)


def random_model(vocabulary):
    model = LanguageModel(
        vocabulary_size=len(vocabulary), hidden_size=9, depth=2, dtype=torch.float64
    )
    randomize(model, seed=8, gain=4)
    torch.nn.init.zeros_(model.output_bias)
    return model


def constant_model(logits):
    """Predicts the same whatever it reads."""
    model = LanguageModel(vocabulary_size=len(logits), hidden_size=2)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
        model.output_bias.copy_(torch.tensor(logits))
    return model
