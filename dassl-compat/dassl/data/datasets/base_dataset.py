"""Items of a data set, its splits, and how few shots are drawn from them."""

import os.path as osp
import random
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Iterable

from dassl.utils.errors import SettingError
from dassl.utils.tools import download_url, mkdir_if_missing


class Datum:
    """One image and what is known about it.  The attribute names are what pickled few-shot files hold."""

    def __init__(self, impath: str = "", label: int = 0, domain: int = 0, classname: str = ""):
        if not isinstance(impath, str):
            raise TypeError(f"an image's path must be a string, not {type(impath).__name__}")
        if not osp.isfile(impath):
            raise FileNotFoundError(f"No image at {impath}")
        self._impath = impath
        self._label = label
        self._domain = domain
        self._classname = classname

    @property
    def impath(self) -> str:
        return self._impath

    @property
    def label(self) -> int:
        return self._label

    @property
    def domain(self) -> int:
        return self._domain

    @property
    def classname(self) -> str:
        return self._classname


class DatasetBase:
    """Splits as lists of Datum: labelled training, unlabelled training, validation, test."""

    dataset_dir = ""  # folder below DATASET.ROOT
    domains: list[str] = []  # names of all domains, where there are several

    def __init__(self, train_x=None, train_u=None, val=None, test=None):
        self._train_x = train_x
        self._train_u = train_u
        self._val = val
        self._test = test
        self._num_classes = self.get_num_classes(train_x)
        self._lab2cname, self._classnames = self.get_lab2cname(train_x)

    @property
    def train_x(self) -> list[Datum]:
        return self._train_x

    @property
    def train_u(self) -> list[Datum] | None:
        return self._train_u

    @property
    def val(self) -> list[Datum] | None:
        return self._val

    @property
    def test(self) -> list[Datum]:
        return self._test

    @property
    def lab2cname(self) -> dict[int, str]:
        return self._lab2cname

    @property
    def classnames(self) -> list[str]:
        """Ordered by label."""
        return self._classnames

    @property
    def num_classes(self) -> int:
        return self._num_classes

    @staticmethod
    def get_num_classes(data_source: Iterable[Datum]) -> int:
        return max((item.label for item in data_source), default=-1) + 1

    @staticmethod
    def get_lab2cname(data_source: Iterable[Datum]) -> tuple[dict[int, str], list[str]]:
        mapping = {item.label: item.classname for item in data_source}
        mapping = dict(sorted(mapping.items()))
        return mapping, list(mapping.values())

    def check_input_domains(self, source_domains, target_domains) -> None:
        for domains in (source_domains, target_domains):
            self.is_input_domain_valid(domains)

    def is_input_domain_valid(self, input_domains) -> None:
        for domain in input_domains:
            if domain not in self.domains:
                raise SettingError(f"'{domain}' is not among the domains {self.domains}")

    def download_data(self, url: str, dst: str, from_gdrive: bool = True) -> None:
        """Fetch an archive to `dst` and unpack it beside."""
        folder = osp.dirname(dst)
        mkdir_if_missing(folder)
        download_url(url, dst, from_gdrive=from_gdrive)
        print("Extracting file ...")
        if zipfile.is_zipfile(dst):
            with zipfile.ZipFile(dst) as archive:
                archive.extractall(folder)
        elif tarfile.is_tarfile(dst):
            with tarfile.open(dst) as archive:
                archive.extractall(folder, filter="data")
        else:
            raise ValueError(f"{dst} is neither a zip nor a tar archive")
        print(f"File extracted to {folder}")

    def generate_fewshot_dataset(self, *data_sources: list[Datum], num_shots: int = -1, repeat: bool = False):
        """`num_shots` items of each class, classes in order of appearance, from Python's global random state.

        A class with fewer items gives all, or, with `repeat`, draws with replacement.  One source gives a list,
        several a list of lists; below one shot they come back as they are (several: as a tuple).
        """
        if num_shots < 1:
            return data_sources[0] if len(data_sources) == 1 else data_sources
        print(f"Creating a {num_shots}-shot dataset")
        drawn = []
        for source in data_sources:
            chosen = []
            for items in self.split_dataset_by_label(source).values():
                if len(items) >= num_shots:
                    chosen += random.sample(items, num_shots)
                else:
                    chosen += random.choices(items, k=num_shots) if repeat else items
            drawn.append(chosen)
        return drawn[0] if len(drawn) == 1 else drawn

    def split_dataset_by_label(self, data_source: Iterable[Datum]) -> dict[int, list[Datum]]:
        return grouped(data_source, "label")

    def split_dataset_by_domain(self, data_source: Iterable[Datum]) -> dict[int, list[Datum]]:
        return grouped(data_source, "domain")


def grouped(data_source: Iterable[Datum], attribute: str) -> dict[int, list[Datum]]:
    groups = defaultdict(list)
    for item in data_source:
        groups[getattr(item, attribute)].append(item)
    return groups
