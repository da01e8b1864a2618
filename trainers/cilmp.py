"""CILMP: LLM states of each class name, moved by the image and written into every layer of the text tower.

Du, Yu and Wang, IEEE TMI 44(12), 2025, https://arxiv.org/abs/2511.12639

    text layer i:   SOS  ctx_i  P_i(intervene_i(LLM states of the class, image))  name . EOS
    image layer i:  CLS  patches  v_i

Axes: B images, C classes, L tokens of an LLM representation, d width of the LLM, D width of the text tower, r rank.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cilmp.clip.lowrank import LowRank
from cilmp.clip.model import CLIP
from cilmp.devices import exactly
from cilmp.errors import UserError
from cilmp.files import sha256
from cilmp.intervention import INTERVENTIONS, projected, stacked
from cilmp.llm import store
from cilmp.prompts import ClassPrompts, context, lead
from cilmp.trainers.base import CLIPTrainer
from cilmp.trainers.engine.averaging import Averaging
from cilmp.trainers.engine.config import classes_of
from cilmp.trainers.engine.informed import stem_of
from cilmp.trainers.engine.ranges import AT_LEAST_0, COUNT, FORWARD, PREC, number, one_of
from cilmp.trainers.learners import DeepPrompts, require_blocks, vision_prompts
from cilmp.trainers.method import Method, Task
from dassl.engine import TRAINER_REGISTRY


class LowRankProjection(nn.Module):
    """t = B A h, from the LLM's width to the text tower's."""

    def __init__(self, d: int, r: int, width: int):
        super().__init__()
        self.lora_A, self.lora_B = nn.Parameter(torch.empty(r, d)), nn.Parameter(torch.empty(width, r))
        for matrix in (self.lora_A, self.lora_B):
            nn.init.kaiming_uniform_(matrix, a=math.sqrt(5))


class LLMTokens(nn.Module):
    """One layer's tokens: the first and last states of a class intervened on, all projected."""

    def __init__(self, d: int, embed: int, width: int, r: int, kind: str, dropout: float):
        super().__init__()
        self.prefix_intervention = INTERVENTIONS[kind](d, embed, r, dropout)
        self.suffix_intervention = INTERVENTIONS[kind](d, embed, r, dropout)
        self.lora_proj = LowRankProjection(d, r, width)

    def literal(self, states: Tensor, ends: Tensor, place: Tensor, f: Tensor) -> Tensor:
        """states (C, L, d), zero at the ends; ends (2, C, n, d); place (C, L, 2, n) 0/1; f (B, E) -> tokens
        (B or 1, C, L, D), through (B, C, L, d)."""
        sides = zip((self.prefix_intervention, self.suffix_intervention), ends, place.unbind(2), strict=True)
        moved = [torch.einsum("cln,bcnd->bcld", where, intervene(h, f)) for intervene, h, where in sides]
        return (states + sum(moved)) @ self.lora_proj.lora_A.T @ self.lora_proj.lora_B.T


def folded(layers: Sequence[LLMTokens], states: Tensor, ends: Tensor, place: Tensor, f: Tensor) -> list[LowRank]:
    """The same of all layers at once, each of rank r."""
    with exactly(f.device):  # sums over thousands of numbers, and little work
        A, B = (stacked(getattr(layer.lora_proj, name) for layer in layers) for name in ("lora_A", "lora_B"))
        sides = [layer.prefix_intervention for layer in layers], [layer.suffix_intervention for layer in layers]
        moved = type(sides[0][0]).folded(sides, ends, f, A)  # (2, K, B or 1, C, n, r)
        z = projected(states[None], A[None])[0, :, None] + torch.einsum("clgn,gkbcnr->kbclr", place, moved)
    return [LowRank(own, basis) for own, basis in zip(z, B, strict=True)]


class LLMPrompts(Method):
    year, vit_only = 2025, True
    renames = (
        *DeepPrompts.renames,
        (r"^prompt_learner\.((prefix|suffix)_intervention|lora_proj)\.", r"layers.0.\1."),
        (r"^text_encoder\.transformer\.resblocks\.(\d+)\.((prefix|suffix)_intervention|lora_proj)\.", r"layers.\1.\2."),
    )

    def __init__(self, clip: CLIP, task: Task, options):
        super().__init__(clip)
        classnames, states = task.classnames, task.states
        kind, p, s = options.INTERVENTION, options.PREFIX_LENGTH, options.SUFFIX_LENGTH
        self.conditional = kind == "conditional"
        self.spread(classnames, states, p, s)

        n, depth, d = options.N_CTX_TEXT, options.PROMPT_DEPTH_TEXT, self.states.shape[-1]
        words = options.CTX_INIT.replace("_", " ") if n <= 4 else ""
        require_blocks("PROMPT_DEPTH_TEXT", depth, clip.text.depth)
        first = context(clip, n, words).float()
        self.ctx = nn.ParameterList([first, *(torch.randn_like(first) * 0.02 for _ in range(depth - 1))])
        shape = d, clip.embed, clip.text.width, options.LOW_RANK_DIMENSION, kind, options.DROPOUT
        self.layers = nn.ModuleList(LLMTokens(*shape) for _ in range(depth))
        self.vision = vision_prompts(clip, options.N_CTX_VISION, options.PROMPT_DEPTH_VISION)
        self.prompts = ClassPrompts(clip, classnames, n, words, [len(h) for h in states])

    def spread(self, classnames: Sequence[str], states: Sequence[Tensor], p: int, s: int) -> None:
        """Buffers for classes of different lengths: ends apart, the shorter filled up, the rest in one padded block."""
        for name, h in zip(classnames, states, strict=True):
            if len(h) < p + s:
                raise UserError(
                    f"The representation of class '{name}' has {len(h)} tokens and PREFIX_LENGTH + SUFFIX_LENGTH is "
                    f"{p + s}: shorten them, or extract more layers."
                )
        most = max(len(h) for h in states)
        rest = torch.zeros(len(states), most, states[0].shape[-1])
        ends = rest.new_zeros(2, len(states), max(p, s), rest.shape[-1])
        place = rest.new_zeros(len(states), most, *ends.shape[::2])  # (C, L, 2, n)
        for c, h in enumerate(states):
            size = len(h)
            rest[c, p : size - s] = h[p : size - s].float()
            ends[0, c, :p], ends[1, c, :s] = h[:p].float(), h[size - s :].float()
            place[c, range(p), 0, range(p)] = 1.0
            place[c, range(size - s, size), 1, range(s)] = 1.0
        for name, buffer in dict(states=rest, ends=ends, place=place).items():
            self.register_buffer(name, buffer, persistent=False)

    def image(self, image: Tensor) -> Tensor:
        return self.clip.encode_image(image, list(self.vision), self.literal)

    def text(self, f: Tensor) -> Tensor:
        dtype, ctx, llm = self.clip.dtype, self.prompts.index("ctx"), self.prompts.index("llm")
        know = self.states, self.ends, self.place, f
        if self.literal:
            tokens = [layer.literal(*know).to(dtype) for layer in self.layers]
        else:
            tokens = folded(self.layers, *know)
        deep = [{}] + [{ctx: lead(c), llm: t} for c, t in zip(self.ctx[1:], tokens[1:], strict=True)]
        return self.encode_text(self.prompts(self.ctx[0].to(dtype), tokens[0]), self.prompts.eot, deep)

    def averaged(self) -> dict[str, Tensor]:
        """What the Gaussian average is taken of: prompts, but neither interventions nor projections."""
        return {name: p.data for name, p in self.named_parameters() if name.startswith(("ctx.", "vision."))}


@TRAINER_REGISTRY.register()
class CILMP(Averaging, CLIPTrainer):
    method, folder = LLMPrompts, "VLPromptLearner"
    alias = ("TRAINER.PROMPTSRC",)  # the authors' yaml keeps CILMP's options under this name
    defaults = dict(
        N_CTX_VISION=4,
        N_CTX_TEXT=4,
        CTX_INIT="a photo of a",
        PREC="fp16",
        PROMPT_DEPTH_VISION=12,
        PROMPT_DEPTH_TEXT=12,
        PREFIX_LENGTH=4,
        SUFFIX_LENGTH=4,
        LOW_RANK_DIMENSION=8,
        DROPOUT=0.1,
        GPA_MEAN=100,
        GPA_STD=30,
        INTERVENTION="conditional",
        REPRESENTATIONS="",
        FORWARD="fast",
    )
    ranges = dict(
        N_CTX_VISION=COUNT,
        N_CTX_TEXT=COUNT,
        PREC=PREC,
        PROMPT_DEPTH_VISION=COUNT,
        PROMPT_DEPTH_TEXT=COUNT,
        PREFIX_LENGTH=AT_LEAST_0,
        SUFFIX_LENGTH=AT_LEAST_0,
        LOW_RANK_DIMENSION=COUNT,
        DROPOUT=number(0, 0.99),
        GPA_MEAN=number(),
        GPA_STD=number(0, open_low=True),
        INTERVENTION=one_of(*INTERVENTIONS),
        FORWARD=FORWARD,
    )

    @classmethod
    def made_from(cls, cfg) -> dict[str, str]:
        """The hash of the file of LLM states; '' where it is not there, or is a folder."""
        source, dataset = cfg.TRAINER.CILMP.REPRESENTATIONS, classes_of(cfg)
        try:
            path = store.locate(source, dataset, stem=stem_of(dataset))
        except UserError:  # told when it is read
            return {}
        return {"knowledge": sha256(path)}

    def task(self) -> Task:
        names, dataset = list(self.classnames), classes_of(self.cfg)
        knowledge = store.load(self.options.REPRESENTATIONS, names, dataset, stem_of(dataset))
        self.knowledge = knowledge.metadata  # the run's record says what it knew
        return Task(names, dataset, knowledge.states)
