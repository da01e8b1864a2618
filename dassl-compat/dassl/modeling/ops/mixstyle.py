from torch import Tensor

from dassl.modeling.ops.mixing import Mixing, switches


class MixStyle(Mixing):
    """Domain Generalization with MixStyle (Zhou et al., ICLR 2021): channel means and deviations are mixed."""

    def mixed(self, x: Tensor, weight: Tensor, partner: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True).detach()
        deviation = (x.var((2, 3), keepdim=True) + self.eps).sqrt().detach()
        scale = deviation * weight + deviation[partner] * (1 - weight)
        shift = mean * weight + mean[partner] * (1 - weight)
        return (x - mean) / deviation * scale + shift


(
    run_with_mixstyle,
    run_without_mixstyle,
    activate_mixstyle,
    deactivate_mixstyle,
    random_mixstyle,
    crossdomain_mixstyle,
) = switches(MixStyle)
