from dassl.data.transforms.transforms import AVAI_CHOICES, INTERPOLATION_MODES, build_transform  # noqa: F401
