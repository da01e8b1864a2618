"""Class representations from an LLM: make, import, inspect.

cilmp llm extract --dataset-config-file busi --model meta-llama/Meta-Llama-3-8B
    --out representations/busi.safetensors
cilmp llm extract --all --model meta-llama/Meta-Llama-3-8B --out representations
cilmp llm import llm_representations/busi --out representations/busi.safetensors
cilmp llm show representations/busi.safetensors --plot cka.png
cilmp llm sentences --dataset-config-file busi --model meta-llama/Meta-Llama-3-8B-Instruct --n 50
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from cilmp.errors import UserError, exit_on_user_error


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="cilmp llm", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = top.add_subparsers(dest="verb", required=True)

    add = verbs.add_parser("extract", help="make the representations of a data set's classes").add_argument
    add("--dataset-config-file", default="", help="the data set's yaml or its name, for the class names")
    add("--classes", nargs="+", help="class names instead")
    add("--all", action="store_true", help="every registered data set; goes on where it was stopped")
    add("--root", default="", help="folder of the data sets: a split file there decides the class names")
    add("--model", default="", help="hub id, folder, GGUF file, or pip:<installed package with a GGUF file>")
    add("--revision", default="", help="branch, tag or commit of the hub's repository")
    add("--question", nargs="+", help="with {classname} and, if wished, {modality}, {organ}; several are averaged")
    add("--answers", default="", help="answers to encode instead of asking: JSON {class: text or list of texts}, or a "
        "representation file whose answers are taken")  # fmt: skip
    add("--chat", choices=("auto", "always", "never"), default="auto", help="use of the chat template (default: auto, "
        "if the model has one)")  # fmt: skip
    add("--max-new-tokens", type=positive, default=256, help="length of an answer (default: 256)")
    add("--layers", default="all", help="all, last:k, or numbers from 1, as 8,16,32 (default: all)")
    add("--pool", choices=("eos", "mean"), default="eos", help="the state at EOS, or the mean over the answer")
    add("--batch-size", type=positive, default=8, help="classes at once (default: 8)")
    add("--dtype", choices=("auto", "float32", "bfloat16", "float16"), default="auto", help="of the computation "
        "(default: bfloat16 on a GPU, float32 on the CPU); states are stored in float16")  # fmt: skip
    add("--device", default="", help="cuda, cuda:1, mps, cpu (default: a GPU if there is one)")
    add("--device-map", default="", choices=("", "auto"), help="auto: spread over all devices (needs accelerate)")
    add("--load-in-4bit", action="store_true", help="quantise the weights (needs bitsandbytes)")
    add("--load-in-8bit", action="store_true", help="quantise the weights (needs bitsandbytes)")
    add("--control", choices=("text", "random"), help="no LLM: CLIP's text tower (--model: its name, default ViT-B/16) "
        "reads the answers in --like, or random states of its statistics")  # fmt: skip
    add("--like", default="", help="the representation file a control is made from")
    add("--seed", type=int, default=1, help="of --control random (default: 1)")
    add("--out", default="", help="the file (with --all the folder) to write (default: in representations/)")

    add = verbs.add_parser("import", help="turn a folder of .pth files, one a class, into one file").add_argument
    add("folder", help="of <class>.pth files, each a tensor (layers, width)")
    add("--model", default="", help="the LLM they came from, if known")
    add("--dataset", default="", help="the data set's name (default: the folder's)")
    add("--out", required=True, help="the file to write")

    add = verbs.add_parser("sentences", help="make different sentences about each class").add_argument
    add("--dataset-config-file", default="", help="the data set's yaml or its name, for the class names")
    add("--classes", nargs="+", help="class names instead")
    add("--root", default="", help="folder of the data sets: a split file there decides the class names")
    add("--model", required=True, help="as for extract")
    add("--revision", default="", help="branch, tag or commit of the hub's repository")
    add("--n", type=positive, default=50, help="sentences a class (default: 50)")
    add("--question", default="", help="with {classname} and, if wished, {modality}, {organ}")
    add("--seed", type=int, default=1, help="of the sampling (default: 1)")
    add("--temperature", type=warmth, default=0.9, help="of the sampling (default: 0.9)")
    add("--chat", choices=("auto", "always", "never"), default="auto", help="use of the chat template")
    add("--device", default="", help="cuda, cuda:1, mps, cpu (default: a GPU if there is one)")
    add("--out", default="", help="the file to write (default: sentences/<data set>.json)")

    add = verbs.add_parser("show", help="metadata, answers, norms, similarity of classes").add_argument
    add("file")
    add("--plot", default="", help="also draw linear CKA between layers and the similarity of classes")
    return top


def positive(text: str) -> int:
    if int(text) < 1:
        raise ValueError
    return int(text)


def warmth(text: str) -> float:
    if not 0 < float(text) < 10:
        raise ValueError
    return float(text)


def main() -> None:
    args = parser().parse_args()
    if args.verb == "show":
        from cilmp.llm.show import show

        show(Path(args.file), Path(args.plot) if args.plot else None)
    elif args.verb == "import":
        from cilmp.llm.folder import imported
        from cilmp.llm.store import save

        known = imported(Path(args.folder), args.model, args.dataset)
        print(f"{save(args.out, known)}: {len(known.classnames)} classes of width {known.states[0].shape[1]}")
    elif args.verb == "sentences":
        sentences(args)
    elif args.control:
        control(args)
    else:
        extraction(args)


def control(args: argparse.Namespace) -> None:
    from cilmp.llm import control
    from cilmp.llm.store import save

    if not args.like or not args.out:
        raise UserError("A control is made --like a representation file and needs --out.")
    like = Path(args.like)
    made = control.random(like, args.seed) if args.control == "random" else control.text(like, args.model or "ViT-B/16")
    print(f"{save(args.out, made)}: {len(made.classnames)} classes, {tuple(made.states[0].shape)} each")


def sentences(args: argparse.Namespace) -> None:
    from cilmp.devices import choose
    from cilmp.llm import declared
    from cilmp.llm.model import load_llm, locate
    from cilmp.llm.sentences import FOUND, make

    dataset = declared.dataset_of(args.dataset_config_file) if args.dataset_config_file else ""
    if not dataset and not (args.classes and args.out):
        raise UserError("Whose sentences? Use --dataset-config-file, or --classes and --out.")
    listed = declared.named(args.classes, dataset) if args.classes else declared.of(dataset, args.root)
    out = Path(args.out or FOUND / Path(declared.file_of(dataset)).with_suffix(".json"))
    source, device = locate(args.model), choose(args.device)
    dtype = "bfloat16" if device.type == "cuda" else "float32"
    made = make(listed, lambda: load_llm(source, args.revision, dtype, str(device)), out, args.n, args.question,
                args.seed, args.temperature, args.chat)  # fmt: skip
    print(f"{out}: {len(made.classes)} classes, {args.n} sentences each")


def extraction(args: argparse.Namespace) -> None:
    from functools import cache

    import torch

    from cilmp.devices import choose
    from cilmp.llm import answers, declared
    from cilmp.llm.extract import QUESTION, Recipe, extract
    from cilmp.llm.model import load_llm, locate
    from cilmp.llm.store import FOUND

    if not args.model:
        raise UserError(
            "No LLM given: use --model with a hub id such as meta-llama/Meta-Llama-3-8B, or a local folder."
        )
    if args.load_in_4bit and args.load_in_8bit:
        raise UserError("Choose one of --load-in-4bit and --load-in-8bit.")
    device = choose(args.device)
    dtype = args.dtype
    if dtype == "auto":
        dtype = "float32" if device.type != "cuda" else "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    source = locate(args.model)
    questions = args.question or [QUESTION]

    if args.all:
        folder = Path(args.out or "representations")
        named = [name for name, kind in declared.declarations().items() if kind.classnames]
        jobs = [(declared.of(name, args.root), folder / declared.file_of(name)) for name in named]
    else:
        dataset = declared.dataset_of(args.dataset_config_file) if args.dataset_config_file else ""
        if not dataset and not args.classes:
            raise UserError("Whose representations? Use --dataset-config-file, --classes or --all.")
        if not dataset and not args.out:
            raise UserError("A bare class list needs --out.")
        listed = declared.named(args.classes, dataset) if args.classes else declared.of(dataset, args.root)
        jobs = [(listed, Path(args.out or FOUND / declared.file_of(dataset)))]
    for listed, _ in jobs:  # a slip is told before the LLM is loaded
        for question in questions:
            listed.fill(question, listed.names[0])
    recipe = Recipe(
        model=source.name,
        revision=args.revision,
        questions=questions,
        given=answers.fingerprint(args.answers),
        chat=args.chat,
        max_new_tokens=args.max_new_tokens,
        dtype=dtype,
        bits=4 if args.load_in_4bit else 8 if args.load_in_8bit else 0,
        layers=args.layers,
        pool=args.pool,
    )
    llm = cache(lambda: load_llm(source, args.revision, dtype, str(device), args.device_map, recipe.bits))
    for number, (listed, out) in enumerate(jobs, 1):
        if args.all:
            print(f"[{number}/{len(jobs)}] {listed.dataset}")
        said = answers.read(Path(args.answers), listed, len(questions)) if args.answers else None
        extract(recipe, listed, out, llm, said, args.batch_size)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    exit_on_user_error(main)
