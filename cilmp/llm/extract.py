"""Ask an LLM about each class and keep its states at the end of the answer, after every decoder layer.

    question -> greedy answer -> [question, answer, EOS] -> states (L, d) at EOS       (docs/llm.md)

The end-of-sequence token is the tokenizer's, for every class: it replaces whatever the model stopped with, and is
appended to an answer cut by the token limit.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

from cilmp.errors import UserError
from cilmp.llm.classes import Classes
from cilmp.llm.model import LLM, advice, hidden, pad
from cilmp.llm.store import Knowledge, read, save

QUESTION = "In an image, describe the distinctive visual features of {classname}."


@dataclass(frozen=True)
class Recipe:
    """What decides the numbers: it stands in the file, and a file is only continued under the same one."""

    model: str
    revision: str = ""
    questions: list[str] = field(default_factory=lambda: [QUESTION])
    given: str = ""  # hash of the answers supplied by the user
    chat: str = "auto"
    max_new_tokens: int = 256
    dtype: str = "float32"
    bits: int = 0
    layers: str = "all"
    pool: str = "eos"

    def __post_init__(self):
        for question in self.questions:
            if "{classname}" not in question:
                raise UserError(f"--question '{question}' does not name the class: write {{classname}} in it.")
        rows(self.layers, 1 << 20)

    def made(self, knowledge: Knowledge) -> bool:
        return all(knowledge.metadata.get(key) == value for key, value in asdict(self).items())


def rows(layers: str, depth: int) -> list[int]:
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


def extract(
    recipe: Recipe,
    classes: Classes,
    out: Path,
    llm: Callable[[], LLM],
    answers: dict[str, list[str]] | None = None,
    batch: int = 8,
) -> Knowledge:
    """The representation file of a class list; `llm` is called only if there is work left.

    answers: class -> one answer a question; the LLM then only encodes them.  Classes done are kept in
    `<out>.partial` after each batch, and a later call goes on from there.
    """
    partial = out.with_name(out.name + ".partial")
    done = resume(recipe, out, partial)
    todo = [name for name in classes.names if name not in done.classnames]
    if not todo and not partial.is_file():
        print(f"{out}: up to date ({len(classes.names)} classes)")
        return done
    if todo:
        model, bar = llm(), Progress(classes.dataset or out.stem, len(classes.names), len(done.classnames))
        chosen = rows(recipe.layers, model.model.config.get_text_config().num_hidden_layers)
        facts = describe(recipe, classes, model)
        done.metadata = facts | {"answers": done.metadata.get("answers", {})}
        for start in range(0, len(todo), batch):
            names = todo[start : start + batch]
            with advice(model.source):
                states, said = ask(model, recipe, classes, names, answers, chosen, bar)
            done.classnames += names
            done.states += states
            done.metadata["answers"] |= dict(zip(names, said, strict=True))
            save(partial, done)
            bar.update(len(names))
        bar.close()
    order = sorted(range(len(done.classnames)), key=lambda i: rank(classes.names, done.classnames[i]))
    names = [done.classnames[i] for i in order]
    said = done.metadata["answers"]
    whole = Knowledge(names, [done.states[i] for i in order], done.metadata | {"answers": {n: said[n] for n in names}})
    save(out, whole)
    partial.unlink(missing_ok=True)
    print(f"{out}: {len(order)} classes, {tuple(whole.states[0].shape)} each, {recipe.model}")
    return whole


def rank(names: list[str], name: str) -> int:
    """In the order asked for; what the file held besides stays behind it."""
    return names.index(name) if name in names else len(names)


def resume(recipe: Recipe, out: Path, partial: Path) -> Knowledge:
    """What is already there under the same recipe; a finished file of another recipe is never overwritten."""
    done = Knowledge([], [])
    for path in (out, partial):
        if not path.is_file():
            continue
        there = read(path)
        if recipe.made(there):
            new = [i for i, name in enumerate(there.classnames) if name not in done.classnames]
            done.classnames += [there.classnames[i] for i in new]
            done.states += [there.states[i] for i in new]
            done.metadata = there.metadata | {"answers": done.metadata.get("answers", {}) | there.metadata["answers"]}
        elif path == out:
            wanted = asdict(recipe)
            other = [
                f"{k} {there.metadata.get(k)!r}, not {v!r}" for k, v in wanted.items() if there.metadata.get(k) != v
            ]
            raise UserError(f"{out} was made otherwise ({'; '.join(other)[:300]}): give another --out or remove it.")
    return done


def ask(
    llm: LLM, recipe: Recipe, classes: Classes, names: Sequence[str], answers, chosen: list[int], bar: Progress
) -> tuple[list[Tensor], list[list[str]]]:
    """(states (L, d), averaged over the questions, and answers) of each name."""
    total, said = 0, [[] for _ in names]
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


def describe(recipe: Recipe, classes: Classes, llm: LLM) -> dict:
    first = classes.fill(recipe.questions[0], classes.names[0])
    return (
        asdict(recipe)
        | {
            "dataset": classes.dataset,
            "commit": llm.commit,
            "control": "",
            "chat_template": templated(llm, recipe.chat),
            "prompt": prompt(llm, first, recipe.chat)[0],  # of the first class, as the LLM saw it
            "end_token": llm.tokenizer.convert_ids_to_tokens(llm.end),
        }
        | stamp()
    )


def stamp() -> dict:
    names = ("cilmp", "torch", "transformers")
    versions = {name: metadata.version(name) for name in names}
    return {"date": datetime.date.today().isoformat(), "versions": versions}


class Progress:
    """A bar of classes with the time of each, the token being written, and the peak of memory."""

    def __init__(self, name: str, total: int, done: int):
        from tqdm import tqdm

        self.bar = tqdm(total=total, initial=done, desc=name, unit="class")
        self.written = 0

    def token(self, most: int) -> None:
        self.written += 1
        self.bar.set_postfix_str(f"token {self.written}/{most}, {peak()}", refresh=self.written % 8 == 0)

    def update(self, classes: int) -> None:
        self.written = 0
        self.bar.set_postfix_str(peak(), refresh=False)
        self.bar.update(classes)

    def say(self, line: str) -> None:
        self.bar.write(line)

    def close(self) -> None:
        self.bar.close()


def peak() -> str:
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return f"GPU {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
    import platform
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f"memory {used / (2**30 if platform.system() == 'Darwin' else 2**20):.1f} GiB"
