r"""The bytes of tokens: of each scheme, and as real tokenizers of seven families read a few texts.

`python tests/interp/tokenization/test_token_bytes.py NAME=FOLDER ...` records more tokenizers in families.json: how
they read the texts, and by which decoder.
"""

import json
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders
from tokenizers.models import WordLevel
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import interp
from interp.errors import InputError
from interp.tokenization import text_ids, token_bytes

FAMILIES = Path(__file__).with_name("families.json")
TEXTS = ["Once upon a time", "  two  spaces", "a\n\nb", "12345", "café", "“x”", "日本", "😀"]
KNOWN = json.loads(FAMILIES.read_text("utf-8")) if FAMILIES.exists() else {}


def with_decoder(pieces, decoder):
    core = Tokenizer(WordLevel({piece: index for index, piece in enumerate(pieces)}))
    core.decoder = decoder
    return PreTrainedTokenizerFast(tokenizer_object=core)


def restored(state):
    """A decoder from its JSON."""
    core = json.loads(Tokenizer(WordLevel({"a": 0})).to_str()) | {"decoder": state}
    return Tokenizer.from_str(json.dumps(core)).decoder


@pytest.mark.parametrize("family", KNOWN)
def test_tokens_spell_what_real_tokenizers_read(family):
    for text, pieces in KNOWN[family]["texts"]:
        distinct = list(dict.fromkeys(pieces))
        spelt = token_bytes(with_decoder(distinct, restored(KNOWN[family]["decoder"])), len(distinct))
        whole = b"".join(spelt[distinct.index(piece)] for piece in pieces)
        assert whole in (text.encode(), b" " + text.encode())


def test_the_families_are_recorded():
    assert len(KNOWN) >= 7 and all(len(one["texts"]) >= 4 for one in KNOWN.values())


def test_the_shipped_tokenizer_has_every_byte():
    tokenizer = interp.load("reference").tokenizer
    spelt = token_bytes(tokenizer, 8192)
    assert {one for one in spelt if one and len(one) == 1} == {bytes([byte]) for byte in range(256)}
    assert [index for index, one in enumerate(spelt) if one is None] == tokenizer.all_special_ids
    # By transformers' own way from the names of tokens to text.
    names = tokenizer.convert_ids_to_tokens(list(range(8192)))
    for one, name in zip(spelt, names, strict=True):
        assert one is None or one.decode(errors="replace") == tokenizer.convert_tokens_to_string([name])


def test_each_scheme():
    assert token_bytes(with_decoder(["▁a", "<0x41>"], decoders.Metaspace()), 3) == [b" a", b"<0x41>", None]
    assert token_bytes(with_decoder(["a", "##b"], decoders.WordPiece(prefix="##")), 2) == [b" a", b"b"]
    assert token_bytes(with_decoder(["Ġa", "Ċ"], decoders.ByteLevel()), 1) == [b" a"]
    assert token_bytes(with_decoder(["▁a"], decoders.Fuse()), 1) == ["▁a".encode()]


def test_a_scheme_that_is_not_known_is_named():
    with pytest.raises(InputError, match="tokens that are read by CTC are not known"):
        token_bytes(with_decoder(["a"], decoders.CTC()), 1)
    with pytest.raises(InputError, match="came without a tokenizer"):
        token_bytes(None, 1)


def record(folder):
    """Read texts as a tokenizer does, those that it can."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    spelt = [(text, tokenizer.convert_ids_to_tokens(text_ids([text], tokenizer)[0])) for text in TEXTS]
    kept = [
        (text, pieces) for text, pieces in spelt if tokenizer.convert_tokens_to_string(pieces).strip() == text.strip()
    ]
    return {"decoder": json.loads(tokenizer.backend_tokenizer.decoder.__getstate__()), "texts": kept}


def line(item):
    return ": ".join(json.dumps(part, ensure_ascii=False) for part in item)


if __name__ == "__main__":
    found = dict(argument.split("=", 1) for argument in sys.argv[1:])
    KNOWN |= {name: record(folder) for name, folder in found.items()}
    FAMILIES.write_text("{\n" + ",\n".join(map(line, KNOWN.items())) + "\n}\n", "utf-8")
