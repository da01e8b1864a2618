"""A trainer that ends with the Gaussian average of what its method learned over the epochs."""

from __future__ import annotations

from cilmp.averaging import GaussianAverage


class Averaging:
    """Mixin before CLIPTrainer; the trainer's options hold GPA_MEAN and GPA_STD (epochs)."""

    def build_model(self) -> None:
        super().build_model()
        mean, std = self.options.GPA_MEAN, self.options.GPA_STD
        self.average = GaussianAverage(self.model.averaged(), mean, std, self.max_epoch).to(self.device)
        heaviest = max(self.average.weights)
        if heaviest > 0.99 and self.max_epoch > 1:
            epoch = 1 + self.average.weights.index(heaviest)
            print(
                f"Warning: GPA_MEAN {mean} and GPA_STD {std} give epoch {epoch} of {self.max_epoch} {heaviest:.2%} of "
                "the average, which then is none: choose a mean within the epochs, or a larger GPA_STD."
            )
        self.register_model("average", self.average)  # saved with the run: a resumed one ends in the same numbers

    def end_of_epoch(self) -> None:
        super().end_of_epoch()
        self.average.add(self.model.averaged(), self.epoch + 1)
        if self.epoch + 1 == self.max_epoch:
            self.average.load_into(self.model.averaged())
