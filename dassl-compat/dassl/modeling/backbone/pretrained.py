"""What all backbones from torchvision share: no classifier, and the first published ImageNet weights, as in Dassl."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def headless() -> Iterator[None]:
    """For a model of no classes: its classifier is empty, and its other weights draw as if there were none."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
        yield


def load_v1(model: nn.Module, name: str) -> nn.Module:
    """torchvision's IMAGENET1K_V1 weights of `name`, but for the classifier."""
    from torchvision.models import get_model_weights

    weights, wanted = get_model_weights(name).IMAGENET1K_V1.get_state_dict(progress=True), model.state_dict()
    model.load_state_dict({key: weights[key] for key in wanted})
    return model
