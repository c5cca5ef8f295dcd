"""Ids and offsets of hard strings from the Python `tokenizers` library, for every kind that is read.

The small tokenisers are trained here. SmolLM2's is built from the GGUF file named on the command
line, as in its tokenizer.json: digits one by one, then GPT-2's byte level without a prefix space.
"""

import json
import sys

from gguf import GGUFReader
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from files import HERE, save_json, utf16_offsets
from strings import HARD_STRINGS

CORPUS = HARD_STRINGS * 3 + [
    "the river runs through the town and the town has a bridge over the river",
    "the capital of the country is a town on the river, and its name is on the map",
    "her mother tongue is french and his mother tongue is english",
]
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def byte_level(pre, normalizer=None):
    tokenizer = Tokenizer(models.BPE())
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def split_then_bytes(pattern):
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )


def metaspace(prepend: str):
    """Llama 2's: spaces as U+2581, one in front, bytes for unknown characters."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    if prepend == "normalizer":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=420, show_progress=False, special_tokens=["<unk>", "<s>", "</s>"], limit_alphabet=60)
    tokenizer.train_from_iterator(CORPUS, trainer)
    trained = json.loads(tokenizer.to_str())
    vocab = {token: i for i, token in enumerate(["<unk>", "<s>", "</s>", *bytes_])}
    for token in sorted(trained["model"]["vocab"], key=trained["model"]["vocab"].get):
        vocab.setdefault(token, len(vocab))
    trained["model"]["vocab"] = vocab
    return Tokenizer.from_str(json.dumps(trained))


def missing_bytes():
    """Byte level with letters missing: what has none is dropped."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=160, show_progress=False, special_tokens=["<|endoftext|>"])
    tokenizer.train_from_iterator(CORPUS[-3:], trainer)
    return tokenizer


def white_space_beside():
    """Added tokens that take the white space beside them."""
    tokenizer = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))
    tokenizer.add_special_tokens([AddedToken("<left>", lstrip=True), AddedToken("<right>", rstrip=True), AddedToken("<both>", lstrip=True, rstrip=True)])
    tokenizer.add_tokens([AddedToken("wholeword", normalized=False)])
    return tokenizer


def smollm2(path: str):
    fields = GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(merge.split(" ", 1)) for merge in fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token, kind in zip(tokens, types) if kind == 3])
    return tokenizer


def expectations(tokenizer, strings):
    result = []
    for text in strings:
        encoding = tokenizer.encode(text, add_special_tokens=False)
        decoded = tokenizer.decode(encoding.ids, skip_special_tokens=False)
        result.append({"text": text, "ids": encoding.ids, "offsets": utf16_offsets(text, encoding.offsets), "decoded": decoded})
    return result


def main():
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
    digits = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2])
    digit_runs = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=False), gpt2])
    beside = HARD_STRINGS[:6] + ["a <left> b <right> c <both> d", "<left>x <right>", " <both> ", "a wholeword b", "wholewords<left><right>"]
    turns = ["<s>one</s> two</s>three", "a<s> b", "</s>", "\u2581under \u2581 score", "  <s>  "]
    kinds = {
        "gpt2": (byte_level(gpt2), HARD_STRINGS),
        "digits": (byte_level(digits), HARD_STRINGS),
        "digit-runs": (byte_level(digit_runs), HARD_STRINGS),
        "llama3": (byte_level(split_then_bytes(LLAMA3)), HARD_STRINGS),
        "qwen2": (byte_level(split_then_bytes(QWEN2), normalizers.NFC()), HARD_STRINGS),
        "metaspace-prepended": (metaspace("normalizer"), HARD_STRINGS + turns),
        "metaspace-first": (metaspace("pre_tokenizer"), HARD_STRINGS + turns),
        "missing-bytes": (missing_bytes(), HARD_STRINGS),
        "white-space-beside": (white_space_beside(), beside),
    }
    for name, (tokenizer, strings) in kinds.items():
        save_json(HERE / "tokenisers" / f"{name}.json", {"tokenizer": json.loads(tokenizer.to_str()), "cases": expectations(tokenizer, strings)})
    save_json(HERE / "tokenisers" / "smollm2-cases.json", expectations(smollm2(sys.argv[1]), HARD_STRINGS))


if __name__ == "__main__":
    main()
