"""What every trainer shares: CLIP frozen, one method trained, its losses summed, its prompts saved.

Axes: B images, C classes, E joint embedding.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cilmp import literal
from cilmp.clip import CLIP, load_clip
from cilmp.devices import choose, keep_memory
from cilmp.errors import UserError
from cilmp.trainers import parallel
from dassl.data import DataManager
from dassl.engine import TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import load_checkpoint, set_random_seed

EVAL_BYTES = 1 << 30  # activations of the text tower while testing stay below this


class Prompted(nn.Module):
    """A method: a frozen CLIP and what it writes into it.

    What is trainable (and the few persistent buffers of a method) is what a checkpoint holds.
    """

    conditional = False  # does the text depend on the image?
    literal = False  # run the reference's full computation instead of the fast path
    renames: Sequence[tuple[str, str]] = ((r"^prompt_learner\.", ""),)  # reference checkpoints' names -> ours

    def __init__(self, clip: CLIP):
        super().__init__()
        self.clip = clip.requires_grad_(False)
        self.seen: Tensor | None = None  # text features kept over a test, where they do not depend on the image
        self.register_load_state_dict_post_hook(_forgive_frozen)

    def image(self, image: Tensor) -> Tensor:
        """(B, 3, R, R) -> (B, E)."""
        return self.clip.encode_image(image, literal=self.literal)

    def text(self, f: Tensor) -> Tensor:
        """Normalised image features f (B, E) -> (1, C, E) or, where the text is conditional, (B, C, E)."""
        raise NotImplementedError

    def encode_text(self, segments, eot: Tensor, deep=()) -> Tensor:
        if self.literal:
            return literal.encode_text(self.clip.text, segments, eot, deep)
        return self.clip.text(segments, eot, deep)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, R, R) -> logits (B, C)."""
        f = self.image(image)
        if self.seen is not None:
            return self.clip.logits(f, self.seen)
        return self.clip.logits(f, self.text(normalise(f)))

    def losses(self, image: Tensor, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Named terms whose sum is minimised, and the logits they came from."""
        logits = self(image)
        return {"ce": F.cross_entropy(logits, label)}, logits

    @torch.no_grad()
    def infer(self, image: Tensor) -> Tensor:
        """Logits for a test batch of any size, in bounded memory."""
        if not self.conditional:
            if self.seen is None:
                self.seen = self.text(image.new_zeros(1, self.clip.embed))
            return self(image)
        f = self.image(image)
        chunks = f.split(self.images_at_once())
        return torch.cat([self.clip.logits(part, self.text(normalise(part))) for part in chunks])

    def images_at_once(self) -> int:
        """How many images' text features fit EVAL_BYTES: about 14 D floats live for each computed token."""
        prompts = self.prompts
        tokens = self.clip.context if self.literal else prompts.computed
        size = self.clip.logit_scale.element_size() * 14 * self.clip.text.width
        return max(1, EVAL_BYTES // (len(prompts.eot) * tokens * size))

    def state_dict(self, *args, **kwargs) -> dict:
        state = super().state_dict(*args, **kwargs)
        frozen = {name for name, p in self.named_parameters() if not p.requires_grad}
        frozen |= {name for name, _ in self.clip.named_buffers(prefix="clip")}
        return type(state)((key, value) for key, value in state.items() if key not in frozen)

    def train(self, mode: bool = True):
        self.seen = None
        super().train(mode)
        self.clip.eval()  # a frozen BatchNorm must not move
        return self


def normalise(f: Tensor) -> Tensor:
    return F.normalize(f.float() if f.dtype in (torch.float16, torch.bfloat16) else f, dim=-1)


def _forgive_frozen(module: Prompted, incompatible) -> None:
    """A strict load asks for everything; what is frozen comes from the backbone, not from the checkpoint."""
    saved = module.state_dict()
    incompatible.missing_keys[:] = [key for key in incompatible.missing_keys if key in saved]


class PromptTrainer(TrainerX):
    """Dassl's loop around a Prompted.  A trainer is a subclass that names its method, folder and options."""

    method: type[Prompted]
    folder = "prompt_learner"  # the registered name, which is the checkpoint's folder: as the reference trainers'
    defaults: dict = {}  # this trainer's block of cfg.TRAINER
    vit_only = False
    reader = None  # DataManager's dataset_wrapper: how an item becomes an image; None is Dassl's own

    def build_data_loader(self) -> None:
        # Dassl, whose constructor has just chosen a device, knows CUDA and the CPU alone
        self.device = choose(accelerate=self.cfg.USE_CUDA)
        keep_memory(self.device)
        self.dm = dm = DataManager(self.cfg, dataset_wrapper=self.reader)
        self.train_loader_x, self.train_loader_u = dm.train_loader_x, dm.train_loader_u
        self.val_loader, self.test_loader = dm.val_loader, dm.test_loader
        self.num_classes, self.num_source_domains = dm.num_classes, dm.num_source_domains
        self.lab2cname = dm.lab2cname

    def build_model(self) -> None:
        self.seconds: dict[str, float] = {}
        backbone, size = self.cfg.MODEL.BACKBONE, self.cfg.INPUT.SIZE
        options = self.cfg.TRAINER[type(self).__name__.upper()] if self.defaults else {}
        self.precision = self.settle_precision(options.get("PREC", "fp32"))
        print(f"Loading CLIP (backbone: {backbone.get('PATH', '') or backbone.NAME}, precision: {self.precision})")
        clip = load_clip(backbone.NAME, backbone.get("PATH", ""), self.precision).to(self.device)
        if tuple(size) != (clip.resolution,) * 2:
            raise UserError(
                f"INPUT.SIZE is {tuple(size)} and the backbone reads {clip.resolution} x {clip.resolution} pixels: set "
                f'INPUT.SIZE "({clip.resolution}, {clip.resolution})".'
            )
        if self.vit_only and not hasattr(clip.visual, "transformer"):
            raise UserError(f"{type(self).__name__} writes prompts into the image tower: it needs a ViT CLIP.")
        self.model = self.build_method(clip, list(self.dm.dataset.classnames), options).to(self.device)
        self.model.literal = options.get("FORWARD", "fast") == "literal"
        self.scaler, self.step = None, self.model.losses
        trained = [p for p in self.model.parameters() if p.requires_grad]
        if not trained:
            return
        print(f"Trained parameters: {sum(p.numel() for p in trained):,}")
        self.optim = build_optimizer(trained, self.cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model(self.folder, self.model, self.optim, self.sched)
        if parallel.size() > 1:
            self.step = parallel.wrap(self.model)
        if self.precision == "amp" and self.device.type == "cuda":
            self.scaler = torch.cuda.amp.GradScaler() if torch.__version__ < "2.3" else torch.amp.GradScaler("cuda")

    def build_method(self, clip: CLIP, classnames: list[str], options) -> Prompted:
        return self.method(clip, classnames, options)

    def settle_precision(self, precision: str) -> str:
        devices = {"fp16": ("cuda",), "amp": ("cuda", "cpu")}.get(precision, (self.device.type,))
        if self.device.type not in devices:
            print(f"PREC {precision} needs {' or '.join(devices)}: this run, on {self.device.type}, uses fp32")
            return "fp32"
        return precision

    def autocast(self):
        if self.precision != "amp":
            return nullcontext()
        dtype = torch.float16 if self.device.type == "cuda" else torch.bfloat16
        return torch.autocast(self.device.type, dtype=dtype)

    def parse_batch_train(self, batch) -> tuple[Tensor, Tensor]:
        return tuple(batch[key].to(self.device, non_blocking=True) for key in ("img", "label"))

    def forward_backward(self, batch) -> dict:
        image, label = self.parse_batch_train(batch)
        with self.autocast():
            losses, logits = self.step(image, label)
            loss = sum(losses.values())
        if self.scaler is None:
            self.model_backward_and_update(loss)
        else:
            self.model_zero_grad()
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optim)
            self.scaler.update()
        if self.batch_idx + 1 == self.num_batches:
            self.end_of_epoch()
            self.update_lr()
        terms = {name: value.detach() for name, value in losses.items()} if len(losses) > 1 else {}
        return {"loss": loss.detach(), "acc": compute_accuracy(logits.detach(), label)[0].squeeze(), **terms}

    def end_of_epoch(self) -> None:
        """After the last step of an epoch, before its checkpoint."""

    def before_train(self) -> None:
        super().before_train()
        if parallel.size() > 1:
            seed = max(self.cfg.SEED, 0)
            self.train_loader_x = parallel.share(self.train_loader_x, seed)
            set_random_seed(seed + parallel.rank())  # each process its own augmentation and dropout

    def before_epoch(self) -> None:
        if parallel.size() > 1:
            self.train_loader_x.sampler.set_epoch(self.epoch)

    def save_model(self, *args, **kwargs) -> None:
        if parallel.rank() == 0:
            super().save_model(*args, **kwargs)

    def train(self) -> None:
        start = time.time()
        super().train()
        self.seconds["train"] = time.time() - start - self.seconds.get("test", 0.0)

    def test(self, split: str | None = None) -> float:
        if parallel.rank():
            return 0.0
        start = time.time()
        result = super().test(split)
        self.seconds["test"] = self.seconds.get("test", 0.0) + time.time() - start
        return result

    def model_inference(self, image: Tensor) -> Tensor:
        with self.autocast():
            return self.model.infer(image)

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load prompts, the reference implementation's included, onto this run's classes."""
        if not directory or not self._models:
            print("Note that load_model() is skipped as no pretrained model is given")
            return
        path = checkpoint_file(Path(directory) / self.folder, epoch)
        try:
            checkpoint = load_checkpoint(str(path))
        except ValueError as error:
            raise UserError(str(error)) from None
        found = {self.rename(key): value for key, value in checkpoint["state_dict"].items()}
        wanted = self.model.state_dict()
        for key, value in wanted.items():
            if key not in found:
                raise UserError(f"{path} is not a checkpoint of {type(self).__name__}: it has no '{key}'.")
            if found[key].shape != value.shape:
                raise UserError(
                    f"{path} does not fit: '{key}' is {tuple(found[key].shape)} there and {tuple(value.shape)} here; "
                    "use the options (depth, context length, backbone, LLM, classes) the checkpoint was trained with."
                )
        print(f"Loading weights to {self.folder} from {path} (epoch = {checkpoint.get('epoch')})")
        self.model.load_state_dict({key: found[key].to(value.dtype) for key, value in wanted.items()})
        self.model.seen = None

    def rename(self, key: str) -> str:
        for pattern, new in self.model.renames:
            renamed = re.sub(pattern, new, key)
            if renamed != key:
                return renamed
        return key


def checkpoint_file(folder: Path, epoch: int | None) -> Path:
    """model.pth.tar-<epoch>; without an epoch the best on validation, else the one saved last."""
    if epoch is not None:
        path = folder / f"model.pth.tar-{epoch}"
    else:
        path = folder / "model-best.pth.tar"
        pointer = folder / "checkpoint"
        if not path.exists() and pointer.exists():
            path = folder / pointer.read_text().strip()
    if not path.exists():
        saved = sorted(p.name for p in folder.glob("model*")) if folder.is_dir() else []
        there = f"there: {', '.join(saved)}" if saved else "the folder holds no checkpoint of this trainer"
        raise UserError(f"No checkpoint at {path} ({there}): check --model-dir and --load-epoch.")
    return path
