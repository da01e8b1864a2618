"""A finished run handed on: cilmp.load, cilmp card, cilmp hub; the hub is a server on this machine."""

import base64
import hashlib
import json
import re
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from finished import trained
from PIL import Image

import cilmp
from cilmp import calibrate, card, hub, predict
from cilmp.errors import UserError
from cilmp.results import records
from cilmp.results.portable import portable
from cilmp.results.predictions import Predictions

pytestmark = pytest.mark.slow  # whole runs


@pytest.fixture(scope="module")
def coop(data, tmp_path_factory) -> Path:
    return trained(data, tmp_path_factory.mktemp("coop"), shots=2)


def answers(run: Path, images) -> np.ndarray:
    """(N, C)."""
    return np.array([list(answer.values()) for answer in cilmp.load(run, "cpu")(images)])


def test_a_loaded_run_answers_as_in_its_test(coop, capsys):
    saved, model = Predictions.read(coop), cilmp.load(coop, "cpu")
    paths, wanted = saved.paths[::80], saved.probabilities[::80]
    capsys.readouterr()
    told = model([paths[0], Path(paths[1]), *map(Image.open, paths[2:])])
    np.testing.assert_allclose([list(answer.values()) for answer in told], wanted, atol=2e-5)
    assert all(list(answer) == model.classnames == saved.classnames for answer in told)
    np.testing.assert_allclose(list(model(Image.open(paths[0])).values()), wanted[0], atol=2e-5)
    assert model([]) == [] and model(paths[0]).keys() == told[0].keys() and not capsys.readouterr().out


def test_an_image_in_memory_is_seen_as_its_file(coop, tmp_path):
    rng, model = np.random.default_rng(0), cilmp.load(coop, "cpu")
    clear = Image.fromarray(rng.integers(0, 255, (64, 64, 4), dtype=np.uint8), "RGBA")
    deep = Image.fromarray(rng.integers(0, 60000, (64, 64), dtype=np.uint16))
    for name, image in (("clear.png", clear), ("deep.png", deep)):
        image.save(tmp_path / name)
        assert model(image) == model(tmp_path / name) != model(image.convert("RGB"))


def test_what_cannot_answer_is_one_line(coop, tmp_path):
    with pytest.raises(UserError, match="none.png .*No such file"):
        cilmp.load(coop, "cpu")([Predictions.read(coop).paths[0], "none.png"])
    with pytest.raises(UserError, match="None is no image: give a path"):
        cilmp.load(coop, "cpu")(None)
    with pytest.raises(UserError, match="No record at .*the run has not finished"):
        cilmp.load(tmp_path, "cpu")
    (tmp_path / "result.json").write_bytes((coop / "result.json").read_bytes())
    with pytest.raises(UserError, match="No checkpoint at .*holds no checkpoint of this trainer"):
        cilmp.load(tmp_path, "cpu")
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        cilmp.lod  # noqa: B018


@pytest.fixture
def run(coop, tmp_path) -> Path:
    """A copy to be spoilt."""
    return shutil.copytree(coop, tmp_path / "run")


def spoilt(run: Path, options=(), **fields) -> None:
    record = records.read(run)
    record["options"] |= dict(options)
    records.write(run / records.NAME, record | fields)


SECRETS = {"MODEL.BACKBONE.NAME": "hf:/home/jane/clip", "TRAINER.COOP.CTX_INIT": "/home/jane/words"}
SECRETS |= {"DATASET.ROOT": "C:\\jane", "DATASET.SPLIT_FILE": "jane/a.json", "MODEL.BACKBONE.PATH": "jane/clip.pt"}
TOLD = dict(backbone="hf:/home/jane/clip", model_dir="jane/run", knowledge={"source": "jane/busi.safetensors"})


def test_a_card_is_what_a_hub_reads_and_says_what_the_record_does(run, capsys):
    from huggingface_hub import ModelCard

    spoilt(run, metrics=records.read(run)["metrics"] | {"auroc": None}, per_class={"a | b": 12.5, "c": None})
    card.main([str(run), "--license", "mit"])
    assert capsys.readouterr().out == f"{run / 'README.md'}\n"
    told, record = ModelCard.load(run / "README.md"), records.read(run)
    results = {result.metric_name: result.metric_value for result in told.data.eval_results}
    assert results == {f"{name}, %": v for name, v in record["metrics"].items() if name != "auroc"}
    assert told.data.license == "mit" and told.data.model_name == "CoOp on PHANTOMS"
    assert {r.dataset_type for r in told.data.eval_results} == set(told.data.datasets) == {"phantoms"}
    for said in (r"| a \| b | 12.50 |", "| c | - |", "| auroc | - |", "few_shot", "Not for clinical use",
                 record["made_from"]["split"], "cilmp.load("):  # fmt: skip
        assert said in " ".join(told.text.split()), said
    with pytest.raises(UserError, match="--license is 'MIT: x': hubs know"):
        card.main([str(run), "--license", "MIT: x"])


def test_no_place_leaves_the_machine(run, tmp_path):
    spoilt(run, SECRETS, **TOLD)
    record = records.read(run)
    shared = portable(record)
    for text in (json.dumps(shared), card.card(record)):
        assert "jane" not in text and str(tmp_path) not in text and str(run) not in text
    assert shared["backbone"] == "hf:clip" and shared["knowledge"] == {"source": "busi.safetensors"}
    kept = shared["options"].keys()
    assert record["options"].keys() - kept == {
        "OUTPUT_DIR",
        "DATASET.ROOT",
        "DATASET.SPLIT_FILE",
        "MODEL.BACKBONE.PATH",
    }
    assert shared["made_from"] == record["made_from"] and shared["options"]["DATASET.NAME"] == "PHANTOMS"
    assert portable({"options": {"MODEL.BACKBONE.NAME": "ViT-B/16"}})["options"] == {"MODEL.BACKBONE.NAME": "ViT-B/16"}


def refuse(*args, **kwargs):
    raise AssertionError("something is unpickled")


def test_what_is_pulled_answers_as_what_was_pushed(coop, tmp_path, monkeypatch, capsys):
    there, here = tmp_path / "there", tmp_path / "here"
    paths = Predictions.read(coop).paths[::80]
    hub.main(["push", str(coop), str(there)])
    assert sorted(path.name for path in there.iterdir()) == sorted(hub.FILES)
    hub.main(["push", str(coop), str(there)])  # again
    assert records.read(there)["prompts"] == hashlib.sha256((there / hub.SHARED).read_bytes()).hexdigest()
    (there / "model-best.pth.tar").write_bytes(b"not asked for")
    hub.main(["pull", str(there), str(here)])
    assert sorted(path.name for path in here.iterdir()) == sorted(hub.FILES)
    wanted = answers(coop, paths)
    monkeypatch.setattr("torch.load", refuse)
    np.testing.assert_array_equal(answers(here, paths), wanted)
    predict.main(["--model-dir", str(here), *paths, "--device", "cpu", "--out", str(tmp_path / "p.json")])
    told = [list(row["probabilities"].values()) for row in json.loads((tmp_path / "p.json").read_text())]
    np.testing.assert_array_equal(told, wanted)
    with pytest.raises(UserError, match="is not a checkpoint, or damaged"):  # the guard does see what is unpickled
        answers(coop, paths)


def test_a_method_that_learned_nothing_is_shared_without_prompts(data, tmp_path):
    run = trained(data, tmp_path / "run", trainer="ZeroshotCLIP", shots=2)
    hub.push(run, str(tmp_path / "there"))
    assert not (tmp_path / "there" / hub.SHARED).exists()
    hub.pull(str(tmp_path / "there"), tmp_path / "here")
    paths = Predictions.read(run).paths[::200]
    np.testing.assert_array_equal(answers(tmp_path / "here", paths), answers(run, paths))


def test_local_weights_are_asked_for_again(run, tmp_path):
    weights = shutil.copy(Path(cilmp.__file__).parent / "assets" / "tiny.safetensors", tmp_path / "own.safetensors")
    sha = hashlib.sha256(weights.read_bytes()).hexdigest()
    spoilt(run, {"MODEL.BACKBONE.PATH": str(weights)}, made_from={"backbone": sha})
    hub.push(run, str(tmp_path / "there"))
    hub.pull(str(tmp_path / "there"), tmp_path / "bare")
    with pytest.raises(UserError, match=f"local weights .SHA-256 {sha}.*--backbone FILE"):
        cilmp.load(tmp_path / "bare", "cpu")
    hub.pull(str(tmp_path / "there"), tmp_path / "here", weights)
    assert cilmp.load(tmp_path / "here", "cpu").classnames
    with pytest.raises(UserError, match="is not what the run was made on"):
        hub.pull(str(tmp_path / "there"), tmp_path / "other", run / records.NAME)
    weights.write_bytes(weights.read_bytes() + b" ")
    with pytest.raises(UserError, match="other weights than .*own.safetensors now holds"):
        cilmp.load(tmp_path / "here", "cpu")


def another_folder(run: Path) -> None:
    spoilt(run, model_dir=str(shutil.copytree(run, run.parent / "trained")))


SLIPS = {  # what is wrong: (what spoils the run, what the line says)
    "not finished": (lambda run: (run / records.NAME).unlink(), "the run has not finished"),
    "no checkpoint": (lambda run: shutil.rmtree(run / "prompt_learner"), "No checkpoint at"),
    "prompts of another": (another_folder, "was tested with the prompts of .*trained: share that one"),
    "local backbone": (lambda run: spoilt(run, {"MODEL.BACKBONE.NAME": "hf:/a/b"}), "has a local folder for its backb"),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_what_would_not_answer_elsewhere_is_not_pushed(run, slip, tmp_path):
    spoil, said = SLIPS[slip]
    spoil(run)
    with pytest.raises(UserError, match=said):
        hub.push(run, str(tmp_path / "there"))
    assert not (tmp_path / "there").exists()


def test_folders_of_others_are_left_alone(coop, tmp_path):
    for call in (lambda: hub.push(coop, str(coop)), lambda: hub.pull(str(coop), coop)):
        with pytest.raises(UserError, match="holds other things .*: give a new folder"):
            call()


def test_only_the_same_run_is_replaced(coop, run, tmp_path):
    there = tmp_path / "there"
    hub.push(coop, str(there))
    shared = (there / records.NAME).read_bytes()
    for other in ({"seed": 2}, {"shots": 16}, {"classes": "base"}, {"dataset": "BUSI"}, {"trainer": "CoCoOp"}):
        records.write(there / records.NAME, json.loads(shared) | other)
        with pytest.raises(UserError, match=rf"there holds another run \({next(iter(other))} .*give another dest"):
            hub.push(coop, str(there))
    (there / records.NAME).write_bytes(shared)
    spoilt(run, {"OPTIM.LR": 0.5})
    with pytest.raises(UserError, match="there holds another run .OPTIM.LR 0.02 there, 0.5 asked"):
        hub.push(run, str(there))
    assert (there / records.NAME).read_bytes() == shared
    (there / records.NAME).unlink()
    with pytest.raises(UserError, match="there holds files of a run without its result.json"):
        hub.push(coop, str(there))


def test_a_readme_of_one_s_own_is_kept(coop, run, tmp_path):
    hub.push(coop, str(tmp_path / "there"))
    card.main([str(run)])
    card.main([str(run), "--license", "mit"])  # a card gives way to a card
    for folder, call in ((tmp_path / "there", lambda: hub.push(coop, str(tmp_path / "there"))),
                         (run, lambda: card.main([str(run)]))):  # fmt: skip
        written = (folder / card.NAME).read_text(encoding="utf-8")
        for mine in ("# Mine\n", written + "more\n", written.replace("Not for", "For")):
            (folder / card.NAME).write_text(mine, encoding="utf-8")
            with pytest.raises(
                UserError, match="README.md .*(did not write, or not all|is not as .cilmp card. writes)"
            ):
                call()
            assert (folder / card.NAME).read_text(encoding="utf-8") == mine
    card.main([str(run), "--out", str(run / "card.md")])
    assert (run / "card.md").is_file()


def test_a_folder_named_like_the_hub_is_not_made(coop, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="HF:me names no repository"):
        hub.push(coop, "HF:me")
    assert not list(tmp_path.iterdir())


def test_prompts_that_were_not_shared_with_the_record_are_refused(coop, tmp_path):
    from safetensors.torch import load_file, save_file

    hub.push(coop, str(tmp_path / "there"))
    hub.pull(str(tmp_path / "there"), tmp_path / "here")
    prompts = load_file(tmp_path / "there" / hub.SHARED)
    more = prompts | {f"head.{i}": next(iter(prompts.values())).clone() for i in range(2)}
    for folder in ("there", "here"):
        save_file({name: value + 1 for name, value in prompts.items()}, tmp_path / folder / hub.SHARED)
    for call in (lambda: hub.pull(str(tmp_path / "there"), tmp_path / "new"), lambda: cilmp.load(tmp_path / "here")):
        with pytest.raises(UserError, match="prompts.safetensors in .* is not the one that the run was shared with"):
            call()
    assert not (tmp_path / "new").exists()
    record = records.read(tmp_path / "here")
    records.write(tmp_path / "here" / records.NAME, {k: v for k, v in record.items() if k != "prompts"})
    save_file(more, tmp_path / "here" / hub.SHARED)
    with pytest.raises(UserError, match="is not what CoOp learned: it has 'head.0, head.1' too"):
        cilmp.load(tmp_path / "here", "cpu")
    (tmp_path / "here" / hub.SHARED).write_bytes(b"cut off")
    with pytest.raises(UserError, match="prompts.safetensors is damaged or no safetensors file"):
        cilmp.load(tmp_path / "here", "cpu")


def test_a_pulled_run_is_calibrated_as_it_is_told(coop, data, tmp_path, capsys):
    there, here, new = (tmp_path / name for name in ("there", "here", "new"))
    hub.push(coop, str(there))
    hub.pull(str(there), here)
    image = Predictions.read(coop).paths[0]
    told = f"cilmp train --eval-only --model-dir {here} --output-dir NEW ... TEST.SAVE_PREDICTIONS True"
    for call in (lambda: predict.main(["--model-dir", str(here), image, "--sets", "0.3"]),
                 lambda: calibrate.main([str(here)])):  # fmt: skip
        with pytest.raises(UserError, match=re.escape(told)):
            call()
    trained(data, new, shots=2, test_of=here)
    calibrate.main([str(new)])
    assert predict.main(["--model-dir", str(new), image, "--sets", "0.3", "--calibrated"]) == 0


class Endpoint(BaseHTTPRequestHandler):
    """As much of a hub as a push and a pull ask for."""

    files: dict[str, bytes] = {}
    asked: dict = {}

    def answer(self, content: bytes, code=200, **headers) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.endswith("/commit/main"):
            lines = [json.loads(line) for line in body.splitlines()]
            self.files |= {x["value"]["path"]: base64.b64decode(x["value"]["content"])
                           for x in lines if x["key"] == "file"}  # fmt: skip
            said = {"commitUrl": f"https://huggingface.co/me/run/commit/{'0' * 40}", "commitOid": "0" * 40}
        elif self.path.endswith("/preupload/main"):
            names = [file["path"] for file in json.loads(body)["files"]]
            said = {"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]}
        else:
            self.asked[self.path] = json.loads(body)
            said = {"url": "https://huggingface.co/me/run", "errors": [], "warnings": []}
        self.answer(json.dumps(said).encode(), Content_Type="application/json")

    def do_GET(self) -> None:
        name = self.path.split("/resolve/main/")[-1]
        if name in self.files:
            tag = hashlib.sha1(self.files[name]).hexdigest()
            self.answer(self.files[name], ETag=f'"{tag}"', X_Repo_Commit="0" * 40)
        elif self.path.startswith("/api/models/me/run/tree/main"):
            said = [{"type": "file", "path": n, "size": len(c), "oid": "0" * 40} for n, c in self.files.items()]
            self.answer(json.dumps(said).encode(), Content_Type="application/json")
        else:
            self.answer(b"{}", 404, X_Error_Code="RepoNotFound")

    do_HEAD = do_GET

    def log_message(self, *args) -> None:
        pass


def test_a_run_goes_to_a_hub_and_comes_back(coop, tmp_path, monkeypatch, capsys):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("ENDPOINT", "HUGGINGFACE_CO_URL_TEMPLATE"):
        address = f"http://127.0.0.1:{server.server_port}"
        rest = "/{repo_id}/resolve/{revision}/{filename}" if "URL" in name else ""
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", address + rest)
    monkeypatch.setenv("HF_TOKEN", "hf_nobody")
    try:
        hub.main(["push", str(coop), "hf:me/run"])
        made = Endpoint.asked["/api/repos/create"]  # the word depends on the library's version
        assert Endpoint.files.keys() == set(hub.FILES) and (made.get("visibility") == "private" or made["private"])
        hub.main(["push", str(coop), "hf:me/run"])  # again
        Endpoint.files["README.md"] += b"mine"
        with pytest.raises(UserError, match="hf:me/run has a README.md that .cilmp card. did not write"):
            hub.push(coop, "hf:me/run")
        Endpoint.files["predictions.npz"] = b"not asked for"
        hub.main(["pull", "HF:me/run", str(tmp_path / "here")])
        assert sorted(path.name for path in (tmp_path / "here").iterdir()) == sorted(hub.FILES)
        paths = Predictions.read(coop).paths[::200]
        np.testing.assert_array_equal(answers(tmp_path / "here", paths), answers(coop, paths))
        for source, said in (("hf:me/none", "hf:me/none: .*404.*check the name"), ("hf:me", "hf:me names no repo")):
            with pytest.raises(UserError, match=said):
                hub.pull(source, tmp_path / "none")
    finally:
        server.shutdown()
        server.server_close()
