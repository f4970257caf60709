"""Folders of text encoders as their libraries save them: published layouts, tiny sizes, random weights."""

import json
from pathlib import Path

import torch

WORDS = ("a", "person", "walks", "slowly", "turns", "left", "jumps")


def tokenizer(special: dict[str, str]):
    """One token a word, between the special tokens where there are a first and a last."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    # The last token has the largest number, as CLIP's: by that its end is found.
    every = [*dict.fromkeys(special.values()), *WORDS]
    if "eos_token" in special:
        every.append(every.pop(every.index(special["eos_token"])))
    numbers = {word: number for number, word in enumerate(every)}
    made = Tokenizer(models.WordLevel(numbers, unk_token=special["unk_token"]))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    first, last = special.get("bos_token", special.get("cls_token")), special.get("eos_token", special.get("sep_token"))
    around = {token: numbers[token] for token in (first, last) if token}
    made.post_processor = processors.TemplateProcessing(
        single=" ".join(filter(None, [first, "$A", last])), special_tokens=[*around.items()]
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, **special), len(numbers), numbers


def clip(folder: Path, sentence: int = 8, token: int = 6) -> Path:
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    special = {"bos_token": "<|start|>", "eos_token": "<|end|>", "pad_token": "<|end|>", "unk_token": "<|unk|>"}
    words, count, numbers = tokenizer(special)
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=count, hidden_size=token, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2,
        projection_dim=sentence, max_position_embeddings=77, bos_token_id=numbers["<|start|>"],
        eos_token_id=numbers["<|end|>"], pad_token_id=numbers["<|end|>"],
    )  # fmt: skip
    CLIPTextModelWithProjection(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def distilbert(folder: Path, token: int = 6) -> Path:
    from transformers import DistilBertConfig, DistilBertModel

    special = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    words, count, _ = tokenizer(special)
    torch.manual_seed(0)
    config = DistilBertConfig(vocab_size=count, dim=token, hidden_dim=12, n_layers=2, n_heads=2)
    DistilBertModel(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def sentence_t5(folder: Path, sentence: int = 5, token: int = 6) -> Path:
    """Transformer, mean, a linear layer, unit length: the four modules of sentence-t5-large."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Dense, Normalize, Pooling, Transformer
    from transformers import T5Config, T5EncoderModel

    words, count, numbers = tokenizer({"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"})
    inner = folder.with_name(f"{folder.name}-alone")
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=count, d_model=token, d_kv=3, d_ff=12, num_layers=2, num_heads=2, eos_token_id=numbers["</s>"],
        pad_token_id=numbers["<pad>"],
    )  # fmt: skip
    T5EncoderModel(config).save_pretrained(inner)
    words.save_pretrained(inner)
    dense = Dense(token, sentence, bias=False, activation_function=torch.nn.Identity())
    modules = [Transformer(str(inner)), Pooling(token), dense, Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder))
    return folder


def configuration(folder: Path, sentence: int | None, token: int) -> Path:
    """No more than the files that say how wide the vectors are: of sentence-transformers with a width for sentences,
    else of transformers."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "t5", "d_model": token}))
    if sentence is not None:
        (folder / "2_Dense").mkdir()
        (folder / "2_Dense" / "config.json").write_text(json.dumps({"in_features": token, "out_features": sentence}))
        (folder / "modules.json").write_text(json.dumps([{"path": ""}, {"path": "1_Pooling"}, {"path": "2_Dense"}]))
    return folder
