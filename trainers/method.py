"""What a method is: a frozen CLIP, what it writes into it, and the losses that train it.  No Dassl here.

Axes: B images, C classes, E joint embedding, R pixels a side, L tokens of an LLM representation, d width of the LLM.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cilmp.clip import literal
from cilmp.clip.model import CLIP
from cilmp.clip.segments import Segment
from cilmp.clip.towers import Writes
from cilmp.prompts import ClassPrompts

EVAL_BYTES = 1 << 30  # activations of the text tower while testing stay below this
# protocols of what can name a class it was not trained on
OPEN = ("base2new", "few_shot", "full", "cross_dataset", "domain_generalisation")
# a trained head has no row for a new class; in another hospital it needs none, for the classes stay the source's
CLOSED = ("few_shot", "full", "domain_generalisation")


@dataclass(frozen=True)
class Task:
    """What is to be told apart.  Of methods that know an LLM: states (L_c, d), or sentences, for each class."""

    classnames: Sequence[str]
    dataset: str = ""
    states: Sequence[Tensor] | None = None
    sentences: Sequence[Sequence[str]] | None = None


class Method(nn.Module):
    """A subclass is built from (clip, task, options): a frozen CLIP, a Task, and its trainer's block of options.

    What is trainable (and the few persistent buffers of a method) is what a checkpoint holds.
    """

    # facts, for tables and sweeps
    kind = "prompt"  # zero-shot, training-free, probe, adapter, prompt or fine-tuning
    year = 0  # of the first preprint: its place in a table
    protocols: Sequence[str] = OPEN  # those it serves
    compared = True  # in a comparison where the user names no trainers
    per_image: Sequence[str] = ()  # what it keeps has a row for each training image: names of parameters and buffers
    # how it computes
    conditional = False  # does the text depend on the image?
    vit_only = False  # does it write into the image tower?
    literal = False  # run the reference's full computation instead of the fast path
    norm_prompts = True  # do deep text prompts pass the LayerNorm that a post-norm tower's stream has just passed?
    renames: Sequence[tuple[str, str]] = ((r"^prompt_learner\.", ""),)  # reference checkpoints' names -> ours

    prompts: ClassPrompts  # of prompt learners

    def __init__(self, clip: CLIP):
        super().__init__()
        self.clip = clip.requires_grad_(False)
        self.cached_text: Tensor | None = None  # text features kept over a test, where no image changes them
        self.register_load_state_dict_post_hook(_forgive_frozen)

    @property
    def class_bound(self) -> bool:
        """Has what is learned a row for each class, so that it serves no others?"""
        return "base2new" not in self.protocols

    def image(self, image: Tensor) -> Tensor:
        """(B, 3, R, R) -> (B, E)."""
        return self.clip.encode_image(image, literal=self.literal)

    def text(self, f: Tensor) -> Tensor:
        """Normalised image features f (B, E) -> (1, C, E) or, where the text is conditional, (B, C, E)."""
        raise NotImplementedError

    def encode_text(self, segments: Sequence[Segment], eot: Tensor, deep: Sequence[Writes] = ()) -> Tensor:
        """(B or 1, C, E), by the fast path or its literal twin.

        A post-norm block does not normalise what it reads: an LLM's tokens would be several times as loud as the
        stream, a fresh context nearly silent, and learning is unstable (docs/backbones.md).
        """
        blocks = self.clip.text.transformer.blocks
        if self.norm_prompts and blocks[0].style.post_norm:
            deep = [
                {place: Segment(tokens).normed(blocks[i - 1].ln_2).x for place, tokens in writes.items()}
                for i, writes in enumerate(deep)  # the first is empty
            ]
        if self.literal:
            return literal.encode_text(self.clip.text, segments, eot, deep)
        return self.clip.text(segments, eot, deep)

    def features(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, R, R) -> image features (B, E), text features (1 or B, C, E)."""
        f = self.image(image)
        return f, self.text(normalise(f)) if self.cached_text is None else self.cached_text

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, R, R) -> logits (B, C)."""
        return self.clip.logits(*self.features(image))

    def losses(self, image: Tensor, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Named terms whose sum is minimised, and the logits (B, C) they came from."""
        logits = self(image)
        return {"ce": F.cross_entropy(logits, label)}, logits

    @torch.no_grad()
    def infer(self, image: Tensor) -> Tensor:
        """Logits for a test batch of any size, in bounded memory."""
        if not self.conditional:
            if self.cached_text is None:
                self.cached_text = self.text(image.new_zeros(1, self.clip.embed))
            return self(image)
        chunks = self.image(image).split(self.images_at_once())
        return torch.cat([self.clip.logits(part, self.text(normalise(part))) for part in chunks])

    def images_at_once(self) -> int:
        """How many images' text features fit EVAL_BYTES: at most 22 D floats live for each computed token."""
        tokens = self.clip.context if self.literal else self.prompts.computed
        size = self.clip.logit_scale.element_size() * 22 * self.clip.text.width
        return max(1, EVAL_BYTES // (len(self.prompts.eot) * tokens * size))

    def averaged(self) -> Mapping[str, Tensor]:
        """What a Gaussian average over the epochs is taken of: all that is trained."""
        return {name: p.data for name, p in self.named_parameters() if p.requires_grad}

    def fit_sizes(self, state: Mapping[str, Tensor]) -> None:
        """Before a checkpoint is loaded: what has a row for each training image takes the checkpoint's size."""
        for name in self.per_image:
            kept = getattr(self, name)
            if name in state and state[name].shape[1:] == kept.shape[1:]:
                kept.data = kept.new_empty(state[name].shape)

    def load_state_dict(self, state_dict: Mapping[str, Tensor], *args, **kwargs):
        self.fit_sizes(state_dict)
        return super().load_state_dict(state_dict, *args, **kwargs)

    def state_dict(self, *args, **kwargs) -> dict:
        state = super().state_dict(*args, **kwargs)
        frozen = {name for name, p in self.named_parameters() if not p.requires_grad}
        frozen |= {name for name, _ in self.clip.named_buffers(prefix="clip")}
        return type(state)((key, value) for key, value in state.items() if key not in frozen)

    def train(self, mode: bool = True):
        self.cached_text = None
        super().train(mode)
        self.clip.eval()  # a frozen BatchNorm must not move
        return self


def normalise(f: Tensor) -> Tensor:
    """f (..., E) of length one; half precision, in which a norm overflows, becomes single."""
    return F.normalize(f.float() if f.dtype in (torch.float16, torch.bfloat16) else f, dim=-1)


def _forgive_frozen(module: Method, incompatible) -> None:
    """A strict load asks for everything; what is frozen comes from the backbone, not from the checkpoint."""
    saved = module.state_dict()
    incompatible.missing_keys[:] = [key for key in incompatible.missing_keys if key in saved]
