from torch import nn


class Backbone(nn.Module):
    """A module that names the width of its features."""

    @property
    def out_features(self) -> int | None:
        return self.__dict__.get("_out_features")
