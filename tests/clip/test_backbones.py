"""Weights from every kind of file give the same towers as the library that wrote them."""

import pytest
import torch
from models import openai_clip
from safetensors.torch import save_file

from cilmp.clip import load_clip
from cilmp.errors import UserError


def test_hugging_face_folder_equals_its_own_model(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    small = dict(hidden_size=64, intermediate_size=256, num_hidden_layers=2, num_attention_heads=2)
    config = transformers.CLIPConfig(
        text_config=small | dict(vocab_size=49408, max_position_embeddings=77, eos_token_id=49407),
        vision_config=small | dict(image_size=32, patch_size=16),
        projection_dim=48,
    )
    theirs = transformers.CLIPModel(config).eval()
    theirs.save_pretrained(tmp_path)
    ours = load_clip(f"hf:{tmp_path}")
    image, tokens = torch.randn(2, 3, 32, 32), ours.tokenize(["normal fundus", "age related macular degeneration"])
    with torch.no_grad():
        said = theirs(input_ids=tokens, pixel_values=image)
        for mine, their in (
            (ours.encode_image(image), said.image_embeds),
            (ours.encode_text(tokens), said.text_embeds),
        ):
            torch.testing.assert_close(torch.nn.functional.normalize(mine, dim=-1), their, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["jit", "pt", "safetensors"])
def test_local_files_equal_the_model_that_wrote_them(kind, tmp_path):
    theirs = openai_clip()
    path = tmp_path / f"clip.{'pt' if kind == 'jit' else kind}"
    if kind == "jit":
        tokens = torch.zeros(1, 77, dtype=torch.long)
        torch.jit.trace(theirs, (torch.zeros(1, 3, 32, 32), tokens), check_trace=False).save(str(path))
    elif kind == "pt":
        torch.save(theirs.state_dict(), path)
    else:
        save_file({k: v.contiguous() for k, v in theirs.state_dict().items()}, path)
    weights = load_clip("", str(path), activation="" if kind == "jit" else "quick_gelu").openai_state_dict()
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in weights.items())


def test_a_truncated_file_is_one_line(tmp_path):
    path = tmp_path / "clip.pt"
    torch.save(openai_clip().state_dict(), path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match="Cannot read backbone weights from"):
        load_clip("ViT-B/16", str(path))
