"""The cache of features: found again, told apart, never in the way."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from cilmp.cache import FeatureCache, default_folder, fingerprint, image_key

KEYS = [bytes([i]) * 16 for i in range(6)]
ROWS = torch.randn(6, 5)


def files(cache: FeatureCache):
    return sorted(cache.root.rglob("*.safetensors"))


def test_what_was_added_is_found_by_another_run_and_only_what_was_asked_for(tmp_path):
    FeatureCache(tmp_path, {"tower": "a"}, 1 << 20).add(KEYS[:4], ROWS[:4])
    FeatureCache(tmp_path, {"tower": "a"}, 1 << 20).add(KEYS[4:], ROWS[4:])
    found = FeatureCache(tmp_path, {"tower": "a"}, 1 << 20).find([KEYS[1], KEYS[5], b"?" * 16])
    assert found.keys() == {KEYS[1], KEYS[5]}
    assert torch.equal(found[KEYS[1]], ROWS[1]) and torch.equal(found[KEYS[5]], ROWS[5])


@pytest.mark.parametrize("other", [{"tower": "b"}, {"tower": "a", "precision": "fp16"}])
def test_features_made_otherwise_are_others(tmp_path, other):
    FeatureCache(tmp_path, {"tower": "a"}, 1 << 20).add(KEYS, ROWS)
    assert not FeatureCache(tmp_path, other, 1 << 20).find(KEYS)


def test_a_limit_of_0_neither_reads_nor_writes(tmp_path):
    FeatureCache(tmp_path, {}, 1 << 20).add(KEYS, ROWS)
    off = FeatureCache(tmp_path, {}, 0)
    off.add([b"?" * 16], ROWS[:1])
    assert not off.find(KEYS) and len(files(off)) == 1


def test_a_damaged_file_is_computed_anew(tmp_path):
    cache = FeatureCache(tmp_path, {}, 1 << 20)
    cache.add(KEYS, ROWS)
    (file,) = files(cache)
    file.write_bytes(file.read_bytes()[:-7])
    assert not cache.find(KEYS) and not files(cache)
    cache.add(KEYS, ROWS)
    assert cache.find(KEYS).keys() == set(KEYS)


def test_the_least_recently_used_goes_where_the_limit_is_reached(tmp_path):
    size = FeatureCache(tmp_path / "one", {}, 1 << 20)
    size.add(KEYS[:1], ROWS[:1])
    each = files(size)[0].stat().st_size
    cache = FeatureCache(tmp_path / "all", {}, 2 * each)
    for i in range(2):
        cache.add([KEYS[i]], ROWS[i : i + 1])
        for path in files(cache):
            os.utime(path, ns=(0, path.stat().st_mtime_ns - 10**12))  # some time passes
    cache.find([KEYS[0]])
    cache.add([KEYS[2]], ROWS[2:3])
    assert cache.find(KEYS).keys() == {KEYS[0], KEYS[2]}


def test_what_killed_runs_left_goes_after_a_day_and_not_before(tmp_path):
    cache = FeatureCache(tmp_path, {}, 1 << 20)
    cache.folder.mkdir(parents=True)
    old, new = cache.folder / ".a.safetensors.1.tmp", cache.folder / ".b.safetensors.2.tmp"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    cache.add(KEYS, ROWS)
    assert not old.exists() and new.exists()
    assert cache.find(KEYS).keys() == set(KEYS)


def test_a_folder_that_cannot_be_written_is_told_and_done_without(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    cache = FeatureCache(tmp_path / "file", {}, 1 << 20)
    cache.add(KEYS, ROWS)
    cache.add(KEYS, ROWS)
    assert capsys.readouterr().out.count("computed anew") == 1 and not cache.find(KEYS)


def test_many_runs_at_once_lose_nothing(tmp_path):
    def run(i: int):
        cache = FeatureCache(tmp_path, {}, 1 << 20)
        part = [KEYS[j % 6] for j in range(i, i + 3)]
        cache.find(part)
        cache.add(part, torch.stack([ROWS[KEYS.index(key)] for key in part]))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(24)))
    found = FeatureCache(tmp_path, {}, 1 << 20).find(KEYS)
    assert all(torch.equal(found[key], row) for key, row in zip(KEYS, ROWS, strict=True))


def test_a_key_changes_with_the_file_and_with_how_it_is_seen(tmp_path):
    path, other = tmp_path / "a.png", tmp_path / "b.png"
    path.write_bytes(b"pixels")
    other.write_bytes(b"pixels")
    before = image_key(str(path), "64", (1, 0, 3))
    assert before == image_key(str(path), "64", (1, 0, 3)) and len(before) == 16
    others = [(other, "64", (1, 0, 3)), (path, "32", (1, 0, 3)), (path, "64", (1, 1, 3))]
    assert len({before, *(image_key(str(p), *seen) for p, *seen in others)}) == 4
    os.utime(path, ns=(0, 1))
    touched = image_key(str(path), "64", (1, 0, 3))
    path.write_bytes(b"more pixels")
    os.utime(path, ns=(0, 1))
    assert len({before, touched, image_key(str(path), "64", (1, 0, 3))}) == 3


def test_a_fingerprint_knows_weights_precision_and_settings():
    def tower(eps: float = 1e-5, seed: int = 0) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4, eps=eps))

    assert fingerprint(tower()) == fingerprint(tower().eval())
    others = [tower(seed=1), tower(eps=1e-6), tower().half(), nn.Sequential(*tower(), nn.GELU())]
    assert len({fingerprint(tower()), *map(fingerprint, others)}) == 5


def test_the_default_folder_follows_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "cilmp" / "features"
