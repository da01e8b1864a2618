"""From a question to states.

    question -> greedy answer -> [question, answer, EOS] -> states (L, d) at EOS

The end-of-sequence token is the tokenizer's, for every class: it replaces whatever the model stopped with, and is
appended to an answer cut by the token limit.

Axes: B classes at once, T tokens, L layers, d width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cilmp.errors import UserError
from cilmp.llm.classes import Classes
from cilmp.llm.model import LLM, hidden, pad
from cilmp.llm.progress import Progress


def ask(
    llm: LLM, recipe, classes: Classes, names: Sequence[str], answers, bar: Progress
) -> tuple[list[Tensor], list[list[str]]]:
    """(states (L, d), averaged over the questions, and answers) of each name."""
    total, said = 0, [[] for _ in names]
    chosen = chosen_layers(recipe.layers, llm.model.config.get_text_config().num_hidden_layers)
    for number, question in enumerate(recipe.questions):
        asked = [prompt(llm, classes.fill(question, name), recipe.chat) for name in names]
        starts = [tokens(llm, text, special) for text, special in asked]
        if answers is None:
            longest = llm.context - max(map(len, starts)) - 1
            if recipe.max_new_tokens > longest:
                raise UserError(f"{recipe.model} reads {llm.context} tokens: use --max-new-tokens {longest} or less.")
            ends = generate(llm, starts, recipe.max_new_tokens, bar)
            texts = [llm.tokenizer.decode(end, skip_special_tokens=True).strip() for end in ends]
            sequences = [start + end for start, end in zip(starts, ends, strict=True)]
        else:
            texts = [answers[name][number] for name in names]
            sequences = [follow(llm, *start, text) for start, text in zip(asked, texts, strict=True)]
        sequences = [sequence + [llm.end] for sequence in sequences]
        for name, sequence, text in zip(names, sequences, texts, strict=True):
            if len(sequence) > llm.context:
                raise UserError(
                    f"The answer for '{name}' is longer than the {llm.context} tokens {recipe.model} reads."
                )
            if not text:
                bar.say(f"{recipe.model} gave an empty answer for '{name}': only the question speaks")
        total = total + read_states(llm, sequences, list(map(len, starts)), chosen, recipe.pool)
        for texts_of, text in zip(said, texts, strict=True):
            texts_of.append(text)
    return list(total / len(recipe.questions)), said


def prompt(llm: LLM, question: str, chat: str) -> tuple[str, bool]:
    """The text an LLM is asked, and whether the tokenizer has yet to add its beginning of sequence."""
    if not templated(llm, chat):
        return question, True
    turn = [{"role": "user", "content": question}]
    # models that think aloud would spend the answer on it
    options = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False}
    return llm.tokenizer.apply_chat_template(turn, **options), False


def templated(llm: LLM, chat: str) -> bool:
    has = bool(getattr(llm.tokenizer, "chat_template", None))
    if chat == "always" and not has:
        raise UserError(f"{llm.source.name} has no chat template: use --chat auto or never.")
    return has and chat != "never"


def tokens(llm: LLM, text: str, special: bool) -> list[int]:
    ids = list(llm.tokenizer(text, add_special_tokens=special)["input_ids"])
    while ids and special and ids[-1] in llm.ends:  # some tokenizers end every text
        ids.pop()
    return ids or [llm.end]


def follow(llm: LLM, start: str, special: bool, answer: str) -> list[int]:
    """Tokens of a question and an answer given from outside."""
    return tokens(llm, f"{start} {answer}" if special else start + answer, special)


@torch.no_grad()
def generate(llm: LLM, starts: list[list[int]], most: int, bar: Progress) -> list[list[int]]:
    """Greedy answers without their end token.  Padded to the left; positions count from the first real token."""
    ids, mask = pad(llm, starts, left=True)
    bar.written = 0
    steps = [lambda *_: bar.token(most) or torch.zeros(len(starts), dtype=torch.bool, device=ids.device)]
    out = llm.model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=most, stopping_criteria=steps)
    answers = []
    for row in out[:, ids.shape[1] :].tolist():
        stop = next((i for i, token in enumerate(row) if token in llm.ends), len(row))
        answers.append(row[:stop])
    return answers


def read_states(llm: LLM, sequences: list[list[int]], starts: list[int], chosen: list[int], pool: str) -> Tensor:
    """(B, L, d): at EOS, or the mean from the answer's first token to EOS."""
    layers = hidden(llm, sequences)
    picked = []
    for layer in (layers[i] for i in chosen):
        if pool == "eos":
            read = [layer[i, len(sequence) - 1] for i, sequence in enumerate(sequences)]
        else:
            ends = zip(starts, map(len, sequences), strict=True)
            read = [layer[i, start:end].float().mean(0) for i, (start, end) in enumerate(ends)]
        picked.append(torch.stack(read).float().cpu())
    return torch.stack(picked, dim=1)


def chosen_layers(layers: str, depth: int) -> list[int]:
    """'all', 'last:k' or '1,5,9' (layer 1 is the first decoder layer) -> indices from 0."""
    try:
        if layers == "all":
            return list(range(depth))
        if layers.startswith("last:"):
            chosen = list(range(depth - int(layers[5:]), depth))
        else:
            chosen = [int(number) - 1 for number in layers.split(",")]
    except ValueError:
        raise UserError(f"--layers is '{layers}'; give all, last:8 or numbers such as 1,16,32.") from None
    if not chosen or min(chosen) < 0 or max(chosen) >= depth:
        raise UserError(f"--layers {layers} does not fit an LLM of {depth} layers, numbered from 1.")
    return chosen
