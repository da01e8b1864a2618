"""CLIP-LoRA: low-rank changes of the attention's projections in both towers.

Zanella and Ben Ayed, CVPR-W 2024, https://arxiv.org/abs/2405.18541.  W + ALPHA / sqrt(R) B A for each of PARAMS in
every block of ENCODER, dropout on the input of B A alone.  Where the reference runs without dropout it merges B A into
W and takes it out again before backward, whose gradients then miss it; not here.  Its 100 is the backbone's own scale.

ITERATIONS (500 in the reference) are steps a shot, whatever the number of images: the epochs follow from them; 0 leaves
OPTIM.MAX_EPOCH.  The rate follows a cosine by epoch to 0 (the reference: by step, to 1e-6).

Axes: C classes, E joint embedding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from cilmp.clip.model import CLIP
from cilmp.errors import UserError
from cilmp.lora import AdaptedAttention
from cilmp.templates import DEFAULT, text_features
from cilmp.trainers.base import CLIPTrainer
from cilmp.trainers.engine.ranges import AT_LEAST_0, COUNT, FORWARD, PREC, Range, number, one_of
from cilmp.trainers.method import Method, Task
from dassl.engine import TRAINER_REGISTRY


class AdaptedTowers(Method):
    kind, year, compared, vit_only = "fine-tuning", 2024, False, True
    renames = (
        (r"^visual\.(.*\.attn)\.proj\.", r"clip.visual.\1.out_proj."),
        (r"^transformer\.(.*\.attn)\.proj\.", r"clip.text.transformer.\1.out_proj."),
        (r"^visual\.", "clip.visual."),
        (r"^transformer\.", "clip.text.transformer."),
    )

    def __init__(self, clip: CLIP, task: Task, options):
        super().__init__(clip)
        fixed = text_features(clip, task.classnames)[None] if options.ENCODER == "vision" else None
        self.register_buffer("fixed", fixed, persistent=False)  # (1, C, E) of a text tower that stays as it is
        sentences = [DEFAULT.format(name.replace("_", " ")) for name in task.classnames]
        self.register_buffer("tokens", clip.tokenize(sentences), persistent=False)
        self.looked_at = clip.looked_at(clip.tokenize(sentences))
        change = "".join(options.PARAMS), options.R, options.ALPHA / math.sqrt(options.R), options.DROPOUT
        towers = {"vision": [clip.visual], "text": [clip.text], "both": [clip.text, clip.visual]}[options.ENCODER]
        self.adapted: Sequence[AdaptedAttention] = []
        for block in (block for tower in towers for block in tower.transformer.blocks):
            block.attn = AdaptedAttention(block.attn, *change)
            self.adapted = [*self.adapted, block.attn]

    def text(self, f: Tensor) -> Tensor:
        if self.fixed is not None:
            return self.fixed
        segment, row = self.clip.sentences(self.tokens, self.looked_at)
        return self.encode_text([segment], row)  # (1, C, E)

    def train(self, mode: bool = True):
        super().train(mode)
        for attention in self.adapted:
            attention.train(mode)
        return self


@TRAINER_REGISTRY.register()
class CLIPLoRA(CLIPTrainer):
    method, folder = AdaptedTowers, "lora"
    defaults = dict(ENCODER="both", PARAMS=["q", "k", "v"], R=2, ALPHA=1.0, DROPOUT=0.25, ITERATIONS=0)
    defaults |= dict(PREC="amp", FORWARD="fast")
    ranges = dict(R=COUNT, ALPHA=AT_LEAST_0, DROPOUT=number(0, 0.999), ITERATIONS=AT_LEAST_0, PREC=PREC)
    ranges |= dict(FORWARD=FORWARD, ENCODER=one_of("vision", "text", "both"))
    ranges["PARAMS"] = Range(lambda parts: bool(parts) and set(parts) <= set("qkvo"), "some of q, k, v, o")

    def build_data_loader(self) -> None:
        super().build_data_loader()
        options, shots = self.cfg.TRAINER.CLIPLORA, self.cfg.DATASET.NUM_SHOTS
        if options.ITERATIONS and shots > 0 and hasattr(self, "train_loader_x"):
            self.max_epoch = math.ceil(options.ITERATIONS * shots / len(self.train_loader_x))
            print(f"{options.ITERATIONS} steps a shot: {self.max_epoch} epochs")
            self.cfg = self.cfg.clone()
            self.cfg.defrost()
            self.cfg.OPTIM.MAX_EPOCH = self.max_epoch
            self.cfg.freeze()

    def unpacked(self, saved: dict, path: Path) -> dict:
        """Also the reference's own file, {'weights': {'layer_0': {'q_proj': {'w_lora_A', 'w_lora_B'}, ...}, ...},
        'metadata': ...}, whose layers are the adapted blocks of the text tower, then of the image tower."""
        if not {"weights", "metadata"} <= saved.keys():
            return saved
        try:
            state = self.of_reference(saved["weights"], saved["metadata"], path)
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError):
            raise UserError(f"{path} is not a file of CLIP-LoRA: its weights or metadata have another form.") from None
        return {"state_dict": state}

    def of_reference(self, weights: dict, metadata: dict, path: Path) -> dict:
        """The same as a state dict of ours; UserError where it was trained with other options."""
        there = metadata | {"params": sorted(metadata["params"])}
        asked = {"r": self.options.R, "alpha": self.options.ALPHA, "encoder": self.options.ENCODER}
        for key, value in {**asked, "params": sorted(self.options.PARAMS), "position": "all"}.items():
            if there.get(key) != value:
                raise UserError(
                    f"{path} was trained with {key} {there.get(key)}, and here it is {value}: set "
                    f"TRAINER.CLIPLORA.{key.upper()}, where there is such an option, to the file's."
                )
        names = {module: name for name, module in self.model.named_modules()}
        layers = [names[attention] for attention in self.model.adapted]
        if weights.keys() != {f"layer_{i}" for i in range(len(layers))}:
            raise UserError(f"{path} changes {len(weights)} blocks, and this backbone has {len(layers)}.")
        state = {}
        for i, layer in enumerate(layers):
            for part, matrices in weights[f"layer_{i}"].items():
                part = "out_proj" if part == "proj" else part
                state |= {f"{layer}.{part}.{name}": value for name, value in matrices.items()}
        if unknown := sorted(state.keys() - self.model.state_dict().keys()):
            raise UserError(f"{path} holds {unknown[0]}, which nothing here reads: it is not a file of CLIP-LoRA.")
        return state
