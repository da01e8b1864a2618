from collections import OrderedDict

import numpy as np
import torch
from torch import Tensor

from dassl.evaluation.build import EVALUATOR_REGISTRY
from dassl.utils.errors import SettingError


class EvaluatorBase:
    """Takes in a test batch by batch; evaluate() returns results, the first of which is the one that counts."""

    def __init__(self, cfg):
        self.cfg = cfg

    def reset(self) -> None:
        raise NotImplementedError

    def process(self, mo: Tensor, gt: Tensor) -> None:
        """Model output (B, C) and labels (B,)."""
        raise NotImplementedError

    def evaluate(self) -> OrderedDict:
        raise NotImplementedError


@EVALUATOR_REGISTRY.register()
class Classification(EvaluatorBase):
    """Accuracy, error rate and macro F1 in percent."""

    def __init__(self, cfg, lab2cname: dict[int, str] | None = None, **kwargs):
        super().__init__(cfg)
        self._lab2cname = lab2cname
        if cfg.TEST.PER_CLASS_RESULT and lab2cname is None:
            raise SettingError("TEST.PER_CLASS_RESULT needs the names of the classes")
        self.reset()

    def reset(self) -> None:
        self._predicted: list[Tensor] = []
        self._labels: list[Tensor] = []

    def process(self, mo: Tensor, gt: Tensor) -> None:
        self._predicted.append(mo.argmax(1))
        self._labels.append(gt)

    def evaluate(self) -> OrderedDict:
        from sklearn.metrics import f1_score

        if not self._labels:
            raise RuntimeError("Nothing was tested: the test set is empty")
        predicted, labels = (torch.cat(parts).cpu().numpy() for parts in (self._predicted, self._labels))
        total, correct = len(labels), int((predicted == labels).sum())
        accuracy = 100.0 * correct / total
        results = OrderedDict(accuracy=accuracy, error_rate=100.0 - accuracy)
        results["macro_f1"] = 100.0 * float(f1_score(labels, predicted, average="macro", labels=np.unique(labels)))
        print("=> result")
        print(f"* total: {total:,}\n* correct: {correct:,}")
        print(f"* accuracy: {accuracy:.1f}%\n* error: {100 - accuracy:.1f}%\n* macro_f1: {results['macro_f1']:.1f}%")
        if self.cfg.TEST.PER_CLASS_RESULT:
            results["perclass_accuracy"] = self.per_class(predicted, labels)
        if self.cfg.TEST.COMPUTE_CMAT:
            self.confusion(predicted, labels)
        return results

    def per_class(self, predicted: np.ndarray, labels: np.ndarray) -> float:
        print("=> per-class result")
        accuracies = []
        for label in np.unique(labels):
            hits = predicted[labels == label] == label
            accuracies.append(100.0 * hits.mean())
            print(
                f"* class: {label} ({self._lab2cname[int(label)]})\ttotal: {len(hits):,}\tcorrect: {hits.sum():,}\t"
                f"acc: {accuracies[-1]:.1f}%"
            )
        mean = float(np.mean(accuracies))
        print(f"* average: {mean:.1f}%")
        return mean

    def confusion(self, predicted: np.ndarray, labels: np.ndarray) -> None:
        from sklearn.metrics import confusion_matrix

        path = f"{self.cfg.OUTPUT_DIR}/cmat.pt"
        torch.save(torch.from_numpy(confusion_matrix(labels, predicted, normalize="true")), path)
        print(f"Confusion matrix is saved to {path}")
