"""What prompt learners promise beside numbers: a reference's whole checkpoint, other precisions, clear refusals."""

from types import SimpleNamespace

import pytest
import torch
from models import CLASSNAMES, openai_clip

from cilmp.clip import build
from cilmp.clip.backbones import load_clip
from cilmp.errors import UserError
from cilmp.trainers.biomedcoop import BiomedCoOp
from cilmp.trainers.cilmp import CILMP
from cilmp.trainers.engine import checkpoints
from cilmp.trainers.engine.averaging import Averaging
from cilmp.trainers.engine.config import default_cfg
from cilmp.trainers.ivlp import IVLP
from cilmp.trainers.kgcoop import KgCoOp
from cilmp.trainers.method import Task
from cilmp.trainers.prograd import ProGrad, aligned
from cilmp.trainers.promptsrc import PromptSRC
from cilmp.trainers.tcp import TCP
from cilmp.trainers.vpt import VPT

pytestmark = pytest.mark.slow  # a step of every method

TASK = Task(
    CLASSNAMES,
    sentences=[[f"a {name}", f"one {name}", f"dark {name}"] for name in CLASSNAMES],
    states=[torch.randn(12, 20) for _ in CLASSNAMES],
)
BOTH = dict(PROMPT_DEPTH_TEXT=2, PROMPT_DEPTH_VISION=2)
DEEP = {IVLP: BOTH, PromptSRC: BOTH, VPT: dict(PROMPT_DEPTH_VISION=2), TCP: dict(CLASS_DEPTH=1)}
WRAPPED = {  # our names -> a reference's, in a checkpoint of the whole wrapper
    "ctx.0": "prompt_learner.ctx",
    "ctx.1": "text_encoder.transformer.resblocks.1.VPT_shallow",
    "vision.0": "image_encoder.VPT",
    "vision.1": "image_encoder.transformer.resblocks.1.VPT_shallow",
}


@pytest.mark.parametrize("kind", [IVLP, PromptSRC, VPT])
def test_a_checkpoint_of_the_whole_wrapper_loads(kind, tmp_path):
    model = kind.build(load_clip("tiny"), TASK, **DEEP[kind])
    wanted = model.state_dict()
    theirs = {WRAPPED[key]: torch.randn_like(value) for key, value in wanted.items()}
    more = {
        "prompt_learner.token_prefix": torch.zeros(3),
        "text_encoder.transformer.resblocks.1.ln_1.weight": torch.ones(2),
    }
    found = checkpoints.fit(tmp_path, theirs | more, wanted, model.renames, kind.__name__)
    assert found.keys() == wanted.keys() and all(torch.equal(found[key], theirs[WRAPPED[key]]) for key in found)


@pytest.mark.parametrize("kind", [KgCoOp, ProGrad, VPT, IVLP, PromptSRC, TCP, BiomedCoOp])
def test_half_precision_is_near(kind):
    exact = openai_clip(3).state_dict()
    torch.manual_seed(0)
    image, label, found = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0]), []
    for precision in ("fp32", "bf16", "amp"):
        clip = build.openai(exact, (1, 1)).cast(precision)
        torch.manual_seed(1)
        method = kind.build(clip, TASK, **DEEP.get(kind, {})).train()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "amp"):
            losses, logits = method.losses(image, label)
            loss = sum(losses.values())
        loss.backward()
        found.append(logits.detach().float())
        assert all(p.dtype == torch.float32 and p.grad.isfinite().all() for p in method.parameters() if p.requires_grad)
    scores, *halves = found
    off = max(float((there - scores).abs().max()) for there in halves)
    assert off < 2**-7 * clip.logit_scale.exp()


@pytest.mark.parametrize(
    "kind, options, said",
    [
        (IVLP, dict(PROMPT_DEPTH_TEXT=5), "PROMPT_DEPTH_TEXT is 5 and the tower has 4 blocks"),
        (VPT, dict(PROMPT_DEPTH_VISION=12), "PROMPT_DEPTH_VISION is 12"),
        (CILMP, dict(PROMPT_DEPTH_TEXT=5, PROMPT_DEPTH_VISION=4), "PROMPT_DEPTH_TEXT is 5 and the tower has 4 blocks"),
        (CILMP, dict(PROMPT_DEPTH_TEXT=4, PROMPT_DEPTH_VISION=5), "PROMPT_DEPTH_VISION is 5"),
        (TCP, dict(CLASS_DEPTH=4), "CLASS_DEPTH is 4"),
        (ProGrad, dict(N_CTX=3), "CTX_INIT has 4 tokens and N_CTX is 3"),
    ],
)
def test_what_the_towers_cannot_hold_is_refused(kind, options, said):
    with pytest.raises(UserError, match=said):
        kind.build(load_clip("tiny"), TASK, **options)


def test_a_gradient_is_bent_only_where_it_works_against_the_other():
    a, c = torch.tensor([1.0, 1.0]), torch.tensor([-2.0, 0.0])
    torch.testing.assert_close(aligned(a, c, 1.0), torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(aligned(a, c, 0.5), torch.tensor([0.5, 1.0]))
    for unbending in (-c, 0 * c, 1e-8 * c):  # in agreement, none, and rounding
        assert torch.equal(aligned(a, unbending, 1.0), a)


@pytest.mark.parametrize("mean, std, told", [(15, 1, True), (3, 1, False)])
def test_an_average_of_one_epoch_is_told(mean, std, told, capsys):
    class Base:
        max_epoch, device = 5, torch.device("cpu")
        options = SimpleNamespace(GPA_MEAN=mean, GPA_STD=std)

        def build_model(self):
            self.model = IVLP.build(load_clip("tiny"), TASK, **BOTH)

        def register_model(self, *_):
            pass

    type("Averaged", (Averaging, Base), {})().build_model()
    assert ("epoch 5 of 5 100.00% of the average" in capsys.readouterr().out) == told


def test_the_epsilon_of_tcp_reaches_its_optimiser(data):
    cfg = default_cfg()
    cfg.MODEL.BACKBONE.NAME, cfg.INPUT.SIZE, cfg.USE_CUDA, cfg.OPTIM.NAME = "tiny", (64, 64), False, "adam"
    cfg.TRAINER.TCP.update(dict(CLASS_DEPTH=3, EPS=2e-3))
    trainer = TCP(cfg, CLASSNAMES)
    assert {group["eps"] for group in trainer.optim.param_groups} == {2e-3}
