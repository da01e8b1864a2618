"""A data set of coloured noise, and a trainer written as third parties write theirs."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer

torch.set_num_threads(1)
NAMES = ["red", "green", "blue"]


@DATASET_REGISTRY.register()
class Squares(DatasetBase):
    def __init__(self, cfg):
        items = [Datum(f"{cfg.DATASET.ROOT}/{i}.png", i % 3, 0, NAMES[i % 3]) for i in range(54)]
        super().__init__(train_x=items[:22], val=items[22:30] if cfg.DATASET.VAL_PERCENT else None, test=items[30:])


@TRAINER_REGISTRY.register()
class Prompted(TrainerX):
    """A frozen encoder and, registered alone, what is learnt: as CoOp does it."""

    def build_model(self):
        torch.manual_seed(7)
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.BatchNorm1d(8))
        self.model = nn.ModuleDict({"encoder": encoder, "head": nn.Linear(8, self.num_classes)}).eval()
        self.model["encoder"].requires_grad_(False)
        self.optim = build_optimizer(self.model["head"], self.cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model("head", self.model["head"], self.optim, self.sched)
        self.rates = []

    def model_inference(self, image):
        return self.model["head"](self.model["encoder"](image))

    def forward_backward(self, batch):
        image, label = self.parse_batch_train(batch)
        self.rates.append(self.optim.param_groups[0]["lr"])
        output = self.model_inference(image)
        loss = F.cross_entropy(output, label)
        self.model_backward_and_update(loss)
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        return {"loss": loss.item(), "acc": compute_accuracy(output, label)[0].item()}

    def parse_batch_train(self, batch):
        return batch["img"].to(self.device), batch["label"].to(self.device)

    def load_model(self, directory, epoch=None):
        super().load_model(directory, epoch)


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("squares"), np.random.default_rng(0)
    for i in range(54):
        pixels = rng.integers(0, 160, (12, 10, 3))
        pixels[..., i % 3] += 60
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def cfg(root, tmp_path):
    cfg = get_cfg_default()
    cfg.DATASET.ROOT, cfg.DATASET.NAME, cfg.OUTPUT_DIR = str(root), "Squares", str(tmp_path / "out")
    cfg.TRAINER.NAME = "Prompted"
    cfg.INPUT.SIZE, cfg.INPUT.TRANSFORMS = (8, 8), ("random_resized_crop", "random_flip", "normalize")
    cfg.DATALOADER.NUM_WORKERS, cfg.DATALOADER.TRAIN_X.BATCH_SIZE = 0, 8
    cfg.OPTIM.NAME, cfg.OPTIM.LR, cfg.OPTIM.MAX_EPOCH, cfg.OPTIM.LR_SCHEDULER = "sgd", 0.0035, 5, "cosine"
    cfg.OPTIM.WARMUP_EPOCH, cfg.OPTIM.WARMUP_TYPE = 1, "constant"
    cfg.USE_CUDA = False
    return cfg
