"""Backbones of other libraries, from the golden files: a state dict, its config, and the folder they would lie in."""

import json
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file

GOLDEN = Path(__file__).parent / "golden"


def golden(name: str) -> tuple[dict, dict, dict]:
    """(the model's weights under their library's names, the other tensors, metadata)."""
    path = GOLDEN / f"{name}.safetensors"
    with safe_open(path, "pt") as file:
        said, tensors = file.metadata(), load_file(path)
    model = {key.removeprefix("model."): value for key, value in tensors.items() if key.startswith("model.")}
    return model, {key: value for key, value in tensors.items() if not key.startswith("model.")}, said


def open_clip_config(said: dict) -> dict:
    """As the file says, and of a toy of timm the number of heads, which no name tells."""
    config = json.loads(said["open_clip_config"])
    if config["model_cfg"]["vision_cfg"].get("timm_model_name"):
        config["model_cfg"]["vision_cfg"] |= dict(width=64, head_width=32)
    return config


def biomed_folder(folder: Path, name: str = "openclip_biomed_tiny") -> Path:
    """BiomedCLIP's folder at tiny size; BERT's own config, which the hub would give, lies in it."""
    model, _, said = golden(name)
    (folder / "open_clip_config.json").write_text(json.dumps(open_clip_config(said)))
    (folder / "config.json").write_text(said["bert_config"])
    (folder / "vocab.txt").write_text("\n".join(json.loads(said["vocab"])) + "\n")
    save_file(model, folder / "open_clip_model.safetensors")
    return folder


def siglip_folder(folder: Path, name: str = "siglip_tiny") -> Path:
    """As transformers writes one, with a SentencePiece tokenizer of whole words."""
    import tokenizers

    model, _, said = golden(name)
    (folder / "config.json").write_text(said["config"])
    words = "a photo of normal viral pneumonia fundus glaucoma in situ adenocarcinoma carcinoma".split()
    pieces = [("<unk>", 0.0), ("</s>", 0.0)] + [(f"▁{word}", -float(i + 2)) for i, word in enumerate(words)]
    library = tokenizers.Tokenizer(tokenizers.models.Unigram([*pieces, ("▁", -20.0)], unk_id=0))
    library.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    library.post_processor = tokenizers.processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    library.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(dict(pad_token="</s>", tokenizer_class="SiglipTokenizer")))
    save_file(model, folder / "model.safetensors")
    return folder
