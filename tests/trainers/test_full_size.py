"""BiomedCLIP's own size: a folder that open_clip, timm and transformers make, at random, is loaded and learned on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cilmp.clip import load_clip
from cilmp.results import records

pytestmark = pytest.mark.slow  # 784 MB of weights

HOME = Path(__file__).parents[2]
BERT = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"
VISION = dict(timm_model_name="vit_base_patch16_224", timm_model_pretrained=False, timm_pool="", timm_proj="linear")
TEXT = dict(hf_model_name=BERT, hf_proj_type="mlp", hf_pooler_type="cls_last_hidden_state_pooler", context_length=256)
PIECES = "[PAD] [UNK] [CLS] [SEP] [MASK] . x a photo of nodule cyst calcification effusion".split()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """As on the hub, but the weights are random and of the vocabulary only PIECES are words."""
    pytest.importorskip("open_clip")
    pytest.importorskip("timm")
    import transformers
    from open_clip.model import CustomTextCLIP

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", lambda *_, **__: transformers.BertConfig())
    torch.manual_seed(0)
    vision = VISION | dict(image_size=224)
    model = CustomTextCLIP(512, vision, TEXT | dict(hf_model_pretrained=False, hf_tokenizer_name=BERT)).eval()
    config = dict(embed_dim=512, vision_cfg=vision, text_cfg=TEXT | dict(hf_tokenizer_name=BERT))
    config = dict(model_cfg=config, preprocess_cfg={})
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    (tmp_path / "vocab.txt").write_text("\n".join([*PIECES, *(f"[unused{i}]" for i in range(30522 - len(PIECES)))]))
    path = tmp_path / "open_clip_model.safetensors"
    save_file(model.state_dict(), path)
    yield tmp_path, model
    path.unlink()  # pytest keeps the folders of several runs


def test_cilmp_takes_two_steps_and_a_test(folder, data):
    place, library = folder
    image, tokens = torch.randn(1, 3, 224, 224), torch.tensor([[2, 7, 8, 9, 11, 5, 3] + [0] * 249])
    ours = load_clip(f"open_clip:{place}")
    with torch.no_grad():
        torch.testing.assert_close(ours.encode_image(image), library.encode_image(image), rtol=0, atol=1e-5)
        torch.testing.assert_close(ours.encode_text(tokens), library.encode_text(tokens), rtol=0, atol=1e-5)
    assert ours.tokenize(["a photo of cyst."]).equal(tokens)
    del ours
    line = [sys.executable, HOME / "train.py", "--root", data, "--seed", 1, "--output-dir", place / "run"]
    line += ["--trainer", "CILMP", "--config-file", "biomedclip", "--dataset-config-file", "phantoms"]
    line += ["MODEL.BACKBONE.NAME", f"open_clip:{place}", "DATASET.NUM_SHOTS", 1, "DATASET.SUBSAMPLE_CLASSES", "base"]
    line += ["DATALOADER.TRAIN_X.BATCH_SIZE", 2, "OPTIM.MAX_EPOCH", 1, "TRAINER.CILMP.PREC", "fp32"]
    line += ["TEST.SPLIT", "val", "DATALOADER.NUM_WORKERS", 0, "USE_CUDA", False]
    run = subprocess.run([str(word) for word in line], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "batch [2/2]" in run.stdout
    record = records.read(place / "run")
    assert record["metrics"]["accuracy"] is not None and record["pixels"]["size"] == [224, 224]
