"""Shapes that most prompt learners share: a context before every class name, alone or taught, and deep prompts.

Axes: B images, C classes, n tokens, D width of the text tower, E joint embedding, R pixels a side.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cilmp.clip.model import CLIP
from cilmp.errors import UserError
from cilmp.prompts import ClassPrompts, context, lead, length
from cilmp.templates import template_of, text_features
from cilmp.trainers.method import Method, Task


class Context(Method):
    """CoOp's learned context; a subclass adds what it learns it from.

    options: N_CTX, CSC (a context for each class), CTX_INIT (words), CLASS_TOKEN_POSITION.
    closing: what stands behind the class name.
    """

    def __init__(self, clip: CLIP, task: Task, options, closing: str = "."):
        super().__init__(clip)
        words = options.CTX_INIT.replace("_", " ")
        ctx = self.start(clip, options.N_CTX, words)
        if options.CSC and not words:
            ctx = ctx.new_empty(len(task.classnames), *ctx.shape).normal_(std=0.02)  # (C, n, D)
        self.ctx = nn.Parameter(ctx.float())
        n, position = ctx.shape[-2], options.CLASS_TOKEN_POSITION
        self.prompts = ClassPrompts(clip, task.classnames, n, position=position, closing=closing)

    @property
    def class_bound(self) -> bool:
        return self.ctx.dim() == 3

    def start(self, clip: CLIP, n: int, words: str) -> Tensor:
        """(n, D) before training.  Words decide how long the context is."""
        return context(clip, length(clip, words) if words else n, words)

    def text(self, f: Tensor) -> Tensor:
        return self.encode_text(self.prompts(self.ctx.to(self.clip.dtype)), self.prompts.eot)  # (1, C, E)


def of_fitting_words(clip: CLIP, n: int, words: str) -> Tensor:
    """A start (n, D): the words where they are n tokens, else random."""
    return context(clip, n, words if words and length(clip, words) == n else "")


class TaughtContext(Context):
    """A context learned beside what the frozen CLIP says of each class in a sentence: `teacher` (C, E).

    options: TEMPLATE, with {} for the class; empty: the data set's own.
    """

    def __init__(self, clip: CLIP, task: Task, options, closing: str = "."):
        super().__init__(clip, task, options, closing)
        template = options.TEMPLATE or template_of(task.dataset)
        self.register_buffer("teacher", text_features(clip, task.classnames, [template]), persistent=False)

    def away(self, text: Tensor) -> Tensor:
        """1 - cosine of text features (1, C, E) and the teacher, averaged over the classes."""
        return 1 - F.cosine_similarity(text.float(), self.teacher, dim=-1).mean()


class DeepPrompts(Method):
    """Learned tokens before the first blocks of both towers, each side on its own.

    options: N_CTX_TEXT, N_CTX_VISION, PROMPT_DEPTH_TEXT, PROMPT_DEPTH_VISION, CTX_INIT.  The first N_CTX_TEXT words of
    CTX_INIT are learned from, the others stay between them and the class name; with more tokens than words all are
    random.
    """

    vit_only = True
    renames = (
        (r"^prompt_learner\.ctx$", "ctx.0"),
        (r"^text_encoder\.transformer\.resblocks\.(\d+)\.VPT_shallow$", r"ctx.\1"),
        (r"^image_encoder\.VPT$", "vision.0"),
        (r"^image_encoder\.transformer\.resblocks\.(\d+)\.VPT_shallow$", r"vision.\1"),
    )

    def __init__(self, clip: CLIP, task: Task, options):
        super().__init__(clip)
        n, words = options.N_CTX_TEXT, options.CTX_INIT.replace("_", " ")
        words = words if n <= length(clip, words) else ""
        first, depth = context(clip, n, words).float(), options.PROMPT_DEPTH_TEXT
        require_blocks("PROMPT_DEPTH_TEXT", depth, clip.text.depth)
        self.ctx = nn.ParameterList([first, *(torch.randn_like(first) * 0.02 for _ in range(depth - 1))])
        self.vision = vision_prompts(clip, options.N_CTX_VISION, options.PROMPT_DEPTH_VISION)
        self.prompts = ClassPrompts(clip, task.classnames, n, words)

    def image(self, image: Tensor) -> Tensor:
        return self.clip.encode_image(image, list(self.vision), self.literal)

    def text(self, f: Tensor) -> Tensor:
        dtype, place = self.clip.dtype, self.prompts.index("ctx")
        deep = [{}, *({place: lead(ctx)} for ctx in self.ctx[1:])]
        return self.encode_text(self.prompts(self.ctx[0].to(dtype)), self.prompts.eot, deep)  # (1, C, E)


def vision_prompts(clip: CLIP, n: int, depth: int) -> nn.ParameterList:
    """(n, width of the image tower) for each of the first `depth` blocks; none where n is 0."""
    require_blocks("PROMPT_DEPTH_VISION", depth, clip.visual.depth)
    return nn.ParameterList(torch.randn(n, clip.visual.width) * 0.02 for _ in range(depth if n else 0))


def require_blocks(option: str, depth: int, blocks: int) -> None:
    if depth > blocks:
        raise UserError(f"{option} is {depth} and the tower has {blocks} blocks: give {blocks} or less.")
