"""Tokenizers that are made in a moment, and mark texts as real ones do."""

from __future__ import annotations

from importlib import import_module

from ssmith.data import find_tokenizer

UNKNOWN, BEGIN, END = 0, 1, 2
TEXT = "Answer:yes Answer: no Question: what is this thing, then? user assistant"
CHATML = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def save_tokenizer(directory, *, begin=True, end=False, metaspace=False, template=None, size=200):
    """Save a byte-pair tokenizer whose post-processor puts marks around a text."""
    tokenizers, transformers = import_module("tokenizers"), import_module("transformers")
    inner = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
    if metaspace:
        inner.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(prepend_scheme="always")
        inner.decoder = tokenizers.decoders.Metaspace()
        alphabet = []
    else:
        inner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = tokenizers.decoders.ByteLevel()
        alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300 if alphabet else size,
        special_tokens=["<unk>", "<s>", "</s>"],
        show_progress=False,
        initial_alphabet=alphabet,
    )
    inner.train_from_iterator([TEXT] * 5, trainer)
    marks = f"{'<s> ' if begin else ''}$A{' </s>' if end else ''}"
    inner.post_processor = tokenizers.processors.TemplateProcessing(
        single=marks, special_tokens=[("<s>", BEGIN), ("</s>", END)]
    )
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    if template is not None:
        made.chat_template = template
    made.save_pretrained(directory)
    return directory


def tokenizer(directory, **options):
    return find_tokenizer(save_tokenizer(directory, **options), 320)
