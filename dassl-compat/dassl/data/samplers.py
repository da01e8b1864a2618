"""Orders of training items: plain, or batches balanced over domains or classes.

An epoch's order is drawn at once, as Dassl 0.6.3 draws it, so that equal seeds give equal batches; the length of an
epoch is that of an order drawn when a sampler is made.
"""

import random
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from torch.utils.data import RandomSampler, Sampler, SequentialSampler

from dassl.utils.errors import SettingError
from dassl.utils.tools import check_availability


def positions(data_source, attribute: str) -> dict[int, list[int]]:
    """Indices of the items by their label or domain."""
    found = defaultdict(list)
    for i, item in enumerate(data_source):
        found[getattr(item, attribute)].append(i)
    return dict(found)


class DomainSampler(Sampler):
    """Batches of `batch_size // n_domain` items from each of `n_domain` domains, until one domain runs short."""

    def __init__(self, data_source, batch_size: int, n_domain: int):
        self.by_domain = positions(data_source, "domain")
        self.n_domain = len(self.by_domain) if n_domain <= 0 else n_domain
        if self.n_domain > len(self.by_domain) or batch_size % self.n_domain:
            raise SettingError(
                f"A batch of {batch_size} cannot hold equally many items of {self.n_domain} domains; the data have "
                f"{len(self.by_domain)}: check BATCH_SIZE and N_DOMAIN"
            )
        self.each = batch_size // self.n_domain
        self.length = len(self.order())

    def pick(self, domains: list[int]) -> list[int]:
        """The domains of the next batch."""
        raise NotImplementedError

    def order(self) -> list[int]:
        left, drawn = {domain: list(items) for domain, items in self.by_domain.items()}, []
        while all(len(items) >= self.each for items in left.values()):
            for domain in self.pick(list(left)):
                places = random.sample(range(len(left[domain])), self.each)
                drawn += [left[domain][place] for place in places]
                for place in sorted(places, reverse=True):
                    del left[domain][place]
        return drawn

    def __iter__(self) -> Iterator[int]:
        return iter(self.order())

    def __len__(self) -> int:
        return self.length


class RandomDomainSampler(DomainSampler):
    def pick(self, domains: list[int]) -> list[int]:
        return random.sample(domains, self.n_domain)


class SeqDomainSampler(DomainSampler):
    """All domains in every batch, in order."""

    def __init__(self, data_source, batch_size: int):
        super().__init__(data_source, batch_size, 0)

    def pick(self, domains: list[int]) -> list[int]:
        return sorted(domains)


class RandomClassSampler(Sampler):
    """Batches of `n_ins` items from each of `batch_size // n_ins` classes; short classes repeat items, tails drop."""

    def __init__(self, data_source, batch_size: int, n_ins: int):
        if batch_size < n_ins:
            raise SettingError(f"BATCH_SIZE {batch_size} must be at least N_INS {n_ins}")
        self.by_class = positions(data_source, "label")
        self.n_ins, self.n_classes = n_ins, batch_size // n_ins
        self.length = len(self.order())

    def order(self) -> list[int]:
        groups, drawn = {}, []  # for each class its items, shuffled, in groups of n_ins
        for label, items in self.by_class.items():
            short = len(items) < self.n_ins
            items = np.random.choice(items, self.n_ins, replace=True).tolist() if short else list(items)
            random.shuffle(items)
            groups[label] = [items[i : i + self.n_ins] for i in range(0, len(items) - self.n_ins + 1, self.n_ins)]
        while len(groups) >= self.n_classes:
            for label in random.sample(list(groups), self.n_classes):
                drawn += groups[label].pop(0)
                if not groups[label]:
                    del groups[label]
        return drawn

    def __iter__(self) -> Iterator[int]:
        return iter(self.order())

    def __len__(self) -> int:
        return self.length


def build_sampler(sampler_type: str, cfg=None, data_source=None, batch_size=32, n_domain=0, n_ins=16) -> Sampler:
    makers = {
        "RandomSampler": lambda: RandomSampler(data_source),
        "SequentialSampler": lambda: SequentialSampler(data_source),
        "RandomDomainSampler": lambda: RandomDomainSampler(data_source, batch_size, n_domain),
        "SeqDomainSampler": lambda: SeqDomainSampler(data_source, batch_size),
        "RandomClassSampler": lambda: RandomClassSampler(data_source, batch_size, n_ins),
    }
    check_availability(sampler_type, makers, "SAMPLER")
    return makers[sampler_type]()
