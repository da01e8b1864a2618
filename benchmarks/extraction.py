"""LLM states at LLaMA3-8B's shape, weights at random: seconds a class, and peak memory against docs/llm.md.

    python benchmarks/extraction.py --out benchmarks/results

Generation and reading are those of `cilmp llm extract`; there is no tokenizer and nothing is downloaded.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from rows import save

from cilmp.devices import peak_memory_mb
from cilmp.llm.model import LLM, Source
from cilmp.llm.states import generate, read_states

LLAMA3_8B = dict(
    vocab_size=128256,
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
)
TOY = dict(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
)
QUESTION, CLASSES = 44, 8  # tokens of a question; classes at once, as docs/llm.md reckons
EXPECTED_GB = 18  # docs/llm.md, Sizes


def random_llm(shape: dict, device: torch.device) -> LLM:
    """Made on the device: the host need not hold 16 GB."""
    from transformers import LlamaConfig, LlamaForCausalLM

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            model = LlamaForCausalLM(LlamaConfig(**shape, max_position_embeddings=8192)).eval()
    finally:
        torch.set_default_dtype(before)
    model.generation_config.eos_token_id = None  # every answer is as long as it may be
    model.generation_config.pad_token_id = 0
    return LLM(Source("random", None, "random"), "", None, model, end=1, ends=frozenset())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=256, help="of an answer")
    parser.add_argument("--tiny", action="store_true", help="a toy, to test this program")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="folder for the JSON")
    args = parser.parse_args()
    device, shape = torch.device(args.device), TOY if args.tiny else LLAMA3_8B
    llm, layers = random_llm(shape, device), shape["num_hidden_layers"]
    starts = torch.randint(2, shape["vocab_size"], (CLASSES, QUESTION)).tolist()
    bar = SimpleNamespace(written=0, token=lambda most: None)
    generate(llm, starts, 2, bar)  # the first call is slower than any other
    begun = time.perf_counter()
    answers = generate(llm, starts, args.tokens, bar)
    answered = time.perf_counter()
    sequences = [[*question, *answer, llm.end] for question, answer in zip(starts, answers, strict=True)]
    states = read_states(llm, sequences, [QUESTION] * CLASSES, list(range(layers)), "eos")
    read = time.perf_counter()
    assert states.shape == (CLASSES, layers, shape["hidden_size"])
    peak = peak_memory_mb(device)
    row = dict(layers=layers, width=shape["hidden_size"], tokens=args.tokens, classes=CLASSES)
    row |= dict(answer_seconds_a_class=(answered - begun) / CLASSES, read_seconds_a_class=(read - answered) / CLASSES)
    row |= dict(peak_gb=None if peak is None else peak * 2**20 / 1e9, expected_gb=None if args.tiny else EXPECTED_GB)
    print(row)
    if args.out:
        save(args.out, "extraction", [row], device, "bf16")


if __name__ == "__main__":
    main()
