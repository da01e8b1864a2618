"""The tiny LLMs on disk."""

import pytest
import torch
from tiny_llm import ENDS, RECURRENT, SMALL, tokenizer


@pytest.fixture(scope="session")
def make_llm(tmp_path_factory):
    """A function: architecture -> the folder of a tiny random model."""
    import transformers

    def make(architecture: str, chat: str = "", **options):
        if not hasattr(transformers, f"{architecture}Config"):
            pytest.skip(f"transformers {transformers.__version__} has no {architecture}")
        config = getattr(transformers, f"{architecture}Config")(**(SMALL | RECURRENT)[architecture] | ENDS | options)
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():  # far from a uniform distribution over the words
            parameter.data.normal_(0, 0.3) if parameter.dim() > 1 else None
        if not model.config.tie_word_embeddings:
            model.get_output_embeddings().weight.data[[0, 2]] = 0  # never says <s> or <unk>, which no text can repeat
        folder = tmp_path_factory.mktemp(architecture)
        model.save_pretrained(folder)
        tokenizer(chat).save_pretrained(folder)
        return folder

    return make
