"""Extraction against the model called plainly, one class at a time, with no padding anywhere."""

import json
from functools import cache

import pytest
import torch
from tiny_llm import SMALL, tokenizer

from cilmp.errors import UserError
from cilmp.llm import answers as answered
from cilmp.llm import model as models
from cilmp.llm.classes import Classes
from cilmp.llm.extract import Recipe, extract
from cilmp.llm.states import chosen_layers
from cilmp.llm.store import load, read

pytestmark = pytest.mark.slow  # many LLMs

CLASSES = Classes("TOY", ["cyst", "a long thin normal brain", "nodule fracture", "one"])  # of different lengths


def opened(folder):
    return models.load_llm(models.locate(str(folder)))


def run(folder, tmp_path, classes=CLASSES, name="out", batch=8, llm=None, answers=None, **recipe):
    llm = llm or cache(lambda: opened(folder))
    made = Recipe(models.locate(str(folder)).name, **{"max_new_tokens": 12, **recipe})
    return extract(made, classes, tmp_path / f"{name}.safetensors", llm, answers, batch)


def plainly(folder, question, new=12):
    """(states (L, d), answer's ids) as transformers' own documentation would have it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = tokenizer(question, return_tensors="pt").input_ids
    start = ids.shape[1]
    with torch.no_grad():
        for _ in range(new):  # greedy, without a cache
            word = model(ids).logits[:, -1:].argmax(-1)
            if word.item() == tokenizer.eos_token_id:
                break
            ids = torch.cat([ids, word], dim=1)
        ids = torch.cat([ids, torch.tensor([[tokenizer.eos_token_id]])], dim=1)
        hidden = model(ids, output_hidden_states=True).hidden_states
    return torch.stack([h[0, -1] for h in hidden[1:]]), ids[0, start:-1].tolist()


@pytest.mark.parametrize(
    "architecture", [pytest.param(name, marks=() if name in ("Llama", "GPT2") else pytest.mark.slow) for name in SMALL]
)
def test_batches_and_padding_change_nothing(architecture, make_llm, monkeypatch, tmp_path):
    folder = make_llm(architecture)
    exact = []
    monkeypatch.setattr("cilmp.llm.extract.save", lambda path, known: exact.append(known) or path)  # before float16
    llm = cache(lambda: opened(folder))
    together = run(folder, tmp_path, name="all", llm=llm)
    alone = run(folder, tmp_path, name="one", batch=1, llm=llm)
    assert together.metadata["answers"] == alone.metadata["answers"]
    assert len({a for (a,) in together.metadata["answers"].values()}) > 1  # the classes are answered differently
    for name, a, b in zip(CLASSES.names, together.states, alone.states, strict=True):
        theirs, ids = plainly(folder, f"In an image, describe the distinctive visual features of {name}.")
        scale = theirs.abs().max()
        assert a.shape == (3, 32)
        torch.testing.assert_close(a / scale, b / scale, atol=1e-5, rtol=0)
        torch.testing.assert_close(a / scale, theirs / scale, atol=1e-5, rtol=0)
        assert together.metadata["answers"][name] == [llm().tokenizer.decode(ids, skip_special_tokens=True)]


def test_a_model_that_sees_its_padding_is_asked_one_class_at_a_time(make_llm, tmp_path, capsys):
    """A recurrent one ignores the mask: batches would give other states, in silence."""
    folder, found = make_llm("Rwkv"), []
    llm = cache(lambda: opened(folder))
    for batch in (1, 8):
        found.append(run(folder, tmp_path, name=f"by{batch}", batch=batch, llm=llm))
        assert ("one at a time" in capsys.readouterr().out) == (batch > 1)
    for one, eight in zip(*(knowledge.states for knowledge in found), strict=True):
        torch.testing.assert_close(one, eight)
    assert models.sees_padding(llm()) and not models.sees_padding(opened(make_llm("Llama")))


def test_states_are_read_at_one_end_token_whether_the_answer_ended_or_was_cut(make_llm):
    """A model that stops at another token than the tokenizer's EOS is still read at EOS, once."""
    from cilmp.llm.progress import Progress
    from cilmp.llm.states import generate

    llm = opened(make_llm("Llama"))
    bar = Progress("test", 1, 0)
    start, long = next(
        (s, a) for s in ([0, i] for i in range(3, 60)) for a in generate(llm, [s], 9, bar) if len(a) == 9
    )
    assert llm.end not in long
    stop = long[4]
    llm.model.generation_config.eos_token_id = [llm.end, stop]
    stopping = models.LLM(llm.source, "", llm.tokenizer, llm.model, llm.end, frozenset({llm.end, stop}))
    (short,) = generate(stopping, [start], 9, bar)
    assert short == long[: long.index(stop)]


def test_questions_are_averaged_and_answers_given(make_llm, tmp_path):
    folder = make_llm("Llama")
    questions = ["describe the {classname}", "features of {classname} in {organ} {modality}"]
    classes = Classes("TOY", ["cyst", "nodule"], modality="image", organ="brain")
    both = run(folder, tmp_path, classes, "both", questions=questions)
    one, two = (run(folder, tmp_path, classes, f"q{i}", questions=[q]) for i, q in enumerate(questions))
    for name, h, a, b in zip(classes.names, both.states, one.states, two.states, strict=True):
        torch.testing.assert_close(h, (a + b) / 2, atol=1e-4, rtol=1e-4)
        assert both.metadata["answers"][name] == one.metadata["answers"][name] + two.metadata["answers"][name]

    # the words it said, given back by somebody else, are encoded to the same states
    source = tmp_path / "both.safetensors"
    given = answered.read(source, classes, 2)
    again = run(folder, tmp_path, classes, "again", questions=questions, answers=given, given="hash")
    for a, b in zip(both.states, again.states, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    (tmp_path / "a.json").write_text(json.dumps({"Cyst": "a normal one", "nodule": ["thin"]}))
    assert answered.read(tmp_path / "a.json", classes, 1) == {"cyst": ["a normal one"], "nodule": ["thin"]}
    with pytest.raises(UserError, match="class 'cyst' needs 2"):
        answered.read(tmp_path / "a.json", classes, 2)


def test_layers_and_pooling(make_llm, tmp_path):
    folder = make_llm("GPT2")
    full = run(folder, tmp_path, name="all")
    last = run(folder, tmp_path, name="last", layers="last:2")
    some = run(folder, tmp_path, name="some", layers="1,3")
    mean = run(folder, tmp_path, name="mean", pool="mean")
    assert all(torch.equal(a[1:], b) for a, b in zip(full.states, last.states, strict=True))
    assert all(torch.equal(a[[0, 2]], b) for a, b in zip(full.states, some.states, strict=True))
    assert mean.states[0].shape == full.states[0].shape and not torch.allclose(mean.states[0], full.states[0])
    for bad in ("last:4", "0", "4", "some", "last:"):
        with pytest.raises(UserError, match="--layers"):
            chosen_layers(bad, 3)


def test_chat_template(make_llm, tmp_path):
    folder = make_llm("Qwen2", chat="<s> a {{ messages[0]['content'] }} one")
    auto, never = run(folder, tmp_path, name="auto"), run(folder, tmp_path, name="never", chat="never")
    assert auto.metadata["chat_template"] and auto.metadata["prompt"].startswith("<s> a In an image")
    assert not never.metadata["chat_template"] and never.metadata["prompt"].startswith("In an image")
    assert not torch.allclose(auto.states[0], never.states[0])
    with pytest.raises(UserError, match="no chat template"):
        run(make_llm("Llama"), tmp_path, name="always", chat="always")


def test_a_killed_run_goes_on(make_llm, tmp_path, monkeypatch):
    folder = make_llm("Llama")
    whole = run(folder, tmp_path, name="whole", batch=2)
    import cilmp.llm.extract as program

    ask, calls = program.ask, []

    def killed(llm, recipe, classes, names, *rest):
        if calls:
            raise KeyboardInterrupt
        calls.append(names)
        return ask(llm, recipe, classes, names, *rest)

    monkeypatch.setattr(program, "ask", killed)
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path, batch=2)
    assert not (tmp_path / "out.safetensors").exists()
    assert read(tmp_path / "out.safetensors.partial").classnames == CLASSES.names[:2]
    monkeypatch.setattr(program, "ask", lambda *a: calls.append(a[3]) or ask(*a))
    again = run(folder, tmp_path, batch=2)
    assert calls == [CLASSES.names[:2], CLASSES.names[2:]]
    assert all(torch.equal(a.half(), b.half()) for a, b in zip(whole.states, again.states, strict=True))
    assert not list(tmp_path.glob("*.partial")) and not list(tmp_path.glob("*.tmp"))

    def unread():
        raise AssertionError("the LLM is not loaded for what is done")

    run(folder, tmp_path, llm=unread)
    with pytest.raises(UserError, match="pool 'eos', not 'mean'"):  # never overwritten by another recipe
        run(folder, tmp_path, llm=unread, pool="mean")
    known = load(str(tmp_path / "out.safetensors"), CLASSES.names[::-1])
    assert known.metadata["model"] == folder.name and str(tmp_path) not in json.dumps(known.metadata["questions"])


def test_refusals(make_llm, tmp_path, monkeypatch):
    import transformers

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="nobody/nothing is neither in the cache"):
        opened("nobody/nothing")
    with pytest.raises(UserError, match="No model at"):
        opened(tmp_path / "absent")
    with pytest.raises(UserError, match="not installed"):
        opened("pip:no-such-package-here")

    small = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, vocab_size=64)
    bert = transformers.BertLMHeadModel(transformers.BertConfig(**small, eos_token_id=1))
    bert.save_pretrained(tmp_path / "bert")
    t5 = transformers.T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4)
    transformers.T5ForConditionalGeneration(t5).save_pretrained(tmp_path / "t5")
    for name, reason in (("bert", "looks ahead|not a decoder-only|lacks weights"), ("t5", "encoder-decoder")):
        tokenizer().save_pretrained(tmp_path / name)
        with pytest.raises(UserError, match=reason):
            opened(tmp_path / name)

    folder = make_llm("Llama")
    with pytest.raises(UserError, match="reads 128 tokens: use --max-new-tokens"):
        run(folder, tmp_path, max_new_tokens=400)
    monkeypatch.setattr(
        "cilmp.llm.states.generate", lambda *_: (_ for _ in ()).throw(RuntimeError("CUDA out of memory"))
    )
    with pytest.raises(UserError, match="Out of memory .* --batch-size"):
        run(folder, tmp_path, name="memory")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(UserError, match="cannot be used"):
        opened(folder)
    with pytest.raises(UserError, match="more than once"):
        Classes("TOY", ["a", "b", "a"])
    with pytest.raises(UserError, match="states no organ"):
        CLASSES.fill("{classname} of {organ}", "cyst")
    with pytest.raises(UserError, match="nothing else in braces"):
        CLASSES.fill("{classname} of {sex}", "cyst")
    with pytest.raises(UserError, match="does not name the class"):
        Recipe("m", questions=["what?"])
