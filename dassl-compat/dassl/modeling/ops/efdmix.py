from torch import Tensor

from dassl.modeling.ops.mixing import Mixing, switches


class EFDMix(Mixing):
    """Exact Feature Distribution Matching (Zhang et al., CVPR 2022): sorted values of each channel are mixed."""

    def mixed(self, x: Tensor, weight: Tensor, partner: Tensor) -> Tensor:
        flat = x.flatten(2)  # (B, C, HW)
        ordered, order = flat.sort(-1)
        matched = ordered[partner].gather(-1, order.argsort(-1))  # the partner's values in the image's order
        return (flat + (matched - flat.detach()) * (1 - weight[..., 0])).view_as(x)


(
    run_with_efdmix,
    run_without_efdmix,
    activate_efdmix,
    deactivate_efdmix,
    random_efdmix,
    crossdomain_efdmix,
) = switches(EFDMix)
