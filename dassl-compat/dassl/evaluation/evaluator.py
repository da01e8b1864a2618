from collections import OrderedDict, defaultdict

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
    """Accuracy, error rate and macro F1 in percent, of what process() has counted; a subclass may count otherwise."""

    def __init__(self, cfg, lab2cname: dict[int, str] | None = None, **kwargs):
        super().__init__(cfg)
        self._lab2cname = lab2cname
        if cfg.TEST.PER_CLASS_RESULT and lab2cname is None:
            raise SettingError("TEST.PER_CLASS_RESULT needs the names of the classes")
        Classification.reset(self)  # a subclass's own may need what its constructor has not made yet

    def reset(self) -> None:
        self._correct = self._total = 0
        self._y_true: list[int] = []
        self._y_pred: list[int] = []
        self._per_class_res: dict[int, list[int]] | None = None  # for each label, a 1 or 0 an image: was it right?
        if self.cfg.TEST.PER_CLASS_RESULT:
            self._per_class_res = defaultdict(list)

    def process(self, mo: Tensor, gt: Tensor) -> None:
        labels, predicted = gt.tolist(), mo.max(1).indices.tolist()
        hits = [int(label == guess) for label, guess in zip(labels, predicted, strict=True)]
        self._correct += sum(hits)
        self._total += len(hits)
        self._y_true += labels
        self._y_pred += predicted
        if self._per_class_res is not None:
            for label, hit in zip(labels, hits, strict=True):
                self._per_class_res[label].append(hit)

    def evaluate(self) -> OrderedDict:
        from sklearn.metrics import f1_score

        if not self._total:
            raise RuntimeError("Nothing was tested: the test set is empty")
        accuracy = 100.0 * self._correct / self._total
        results = OrderedDict(accuracy=accuracy, error_rate=100.0 - accuracy)
        present = np.unique(self._y_true)
        results["macro_f1"] = 100.0 * float(f1_score(self._y_true, self._y_pred, average="macro", labels=present))
        print("=> result")
        print(f"* total: {self._total:,}\n* correct: {self._correct:,}")
        print(f"* accuracy: {accuracy:.1f}%\n* error: {100 - accuracy:.1f}%\n* macro_f1: {results['macro_f1']:.1f}%")
        if self._per_class_res is not None:
            results["perclass_accuracy"] = self.per_class(self._per_class_res)
        if self.cfg.TEST.COMPUTE_CMAT:
            self.confusion()
        return results

    def per_class(self, hits_of: dict[int, list[int]]) -> float:
        print("=> per-class result")
        accuracies = []
        for label, hits in sorted(hits_of.items()):
            accuracies.append(100.0 * sum(hits) / len(hits))
            print(
                f"* class: {label} ({self._lab2cname[label]})\ttotal: {len(hits):,}\tcorrect: {sum(hits):,}\t"
                f"acc: {accuracies[-1]:.1f}%"
            )
        mean = float(np.mean(accuracies))
        print(f"* average: {mean:.1f}%")
        return mean

    def confusion(self) -> None:
        from sklearn.metrics import confusion_matrix

        path = f"{self.cfg.OUTPUT_DIR}/cmat.pt"
        torch.save(torch.from_numpy(confusion_matrix(self._y_true, self._y_pred, normalize="true")), path)
        print(f"Confusion matrix is saved to {path}")
