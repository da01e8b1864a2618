from torch.nn import functional as F

from dassl.engine.build import TRAINER_REGISTRY
from dassl.engine.trainer import TrainerX
from dassl.metrics import compute_accuracy


@TRAINER_REGISTRY.register()
class Vanilla(TrainerX):
    """Cross entropy on labelled images."""

    def forward_backward(self, batch) -> dict:
        image, label, _ = self.parse_batch_train(batch)
        output = self.model(image)
        loss = F.cross_entropy(output, label)
        self.model_backward_and_update(loss)
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return {"loss": loss.detach(), "acc": compute_accuracy(output.detach(), label)[0]}
