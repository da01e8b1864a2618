"""Attention of packed class names as one kernel of a GPU forward and one backward (Triton).

It is `attention.attend` between `Packing.split` and `Packing.join`, without gaps, without a copy and with scores that
never are in memory: a program works on one name, of which everything fits into registers.

Axes: B images, C classes, N tokens of all names, H heads, e width of a head, n tokens before a name, w rows that they
are mixtures of, M tokens of the longest name.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

ITEMS = 4  # names that a program of backward works on, one after another, if they see the same rows

FORWARD, BACKWARD = 2, 2  # warps of a program
EXTRA: dict = {}


@triton.jit
def tile(x, row, column, row_stride, column_stride, rows, columns):
    """x[row, column], 0 outside of (rows, columns)."""
    inside = (row < rows)[:, None] & (column < columns)[None, :]
    return tl.load(x + row[:, None] * row_stride + column[None, :] * column_stride, mask=inside, other=0.0)


@triton.jit
def scores(q, k, rows, z, seen, scale, m, w, count, CAUSAL: tl.constexpr, MIXED: tl.constexpr, EXACT: tl.constexpr):
    """Of a name on itself (M, M), on what is before it (M, n), and on the rows (M, w)."""
    own = tl.dot(q, tl.trans(k), input_precision=EXACT) * scale
    look = m[None, :] < count
    if CAUSAL:
        look = look & (m[None, :] <= m[:, None])
    met = tl.dot(q, tl.trans(rows), input_precision=EXACT) * scale
    before = tl.dot(met.to(q.dtype), tl.trans(z), input_precision=EXACT) if MIXED else met
    return tl.where(look, own, -float("inf")), tl.where(seen[None, :], before, -float("inf")), met


@triton.jit
def seen_tokens(hidden, c, n, tokens, hidden_class, HIDDEN: tl.constexpr):
    seen = n < tokens
    if HIDDEN:
        seen = seen & (tl.load(hidden + c * hidden_class + n, mask=seen, other=1) == 0)
    return seen


@triton.jit
def forward_kernel(
    x, k, v, z, hidden, start, count, y, logs,
    C, H, N, tokens, w_rows, scale, x_image,
    k_head, k_image, k_class, k_row, v_head, v_image, v_class, v_row,
    z_image, z_class, z_token, z_row, hidden_class,
    M: tl.constexpr, W: tl.constexpr, T: tl.constexpr, E: tl.constexpr,
    CAUSAL: tl.constexpr, MIXED: tl.constexpr, HIDDEN: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    b, c, h = (tl.program_id(0) // C).to(tl.int64), tl.program_id(0) % C, tl.program_id(1)
    m, w, n, e = tl.arange(0, M), tl.arange(0, W), tl.arange(0, T), tl.arange(0, E)
    first, own = tl.load(start + c), tl.load(count + c)
    here = x + b * x_image + first * 3 * H * E + h * E
    q = tile(here, m, e, 3 * H * E, 1, own, E)
    ks = tile(here + H * E, m, e, 3 * H * E, 1, own, E)
    vs = tile(here + 2 * H * E, m, e, 3 * H * E, 1, own, E)
    kr = tile(k + h * k_head + b * k_image + c * k_class, w, e, k_row, 1, w_rows, E)
    vr = tile(v + h * v_head + b * v_image + c * v_class, w, e, v_row, 1, w_rows, E)
    zs = kr
    if MIXED:
        zs = tile(z + b * z_image + c * z_class, n, w, z_token, z_row, tokens, w_rows)
    seen = seen_tokens(hidden, c, n, tokens, hidden_class, HIDDEN)
    s, t, _ = scores(q, ks, kr, zs, seen, scale, m, w, own, CAUSAL, MIXED, EXACT)
    top = tl.maximum(tl.max(s, 1), tl.max(t, 1))
    p, r = tl.exp(s - top[:, None]), tl.exp(t - top[:, None])
    total = tl.sum(p, 1) + tl.sum(r, 1)
    p, r = (p / total[:, None]).to(q.dtype), (r / total[:, None]).to(q.dtype)
    if MIXED:
        r = tl.dot(r, zs, input_precision=EXACT).to(q.dtype)
    mixed = tl.dot(p, vs, input_precision=EXACT) + tl.dot(r, vr, input_precision=EXACT)
    place = b * N + first + m
    there = y + (place[:, None] * H + h) * E + e[None, :]
    tl.store(there, mixed.to(q.dtype), mask=(m < own)[:, None])
    tl.store(logs + place * H + h, top + tl.log(total), mask=m < own)


@triton.jit
def backward_kernel(
    x, k, v, z, hidden, start, count, y, logs, dy, dx, dk, dv, dz,
    C, H, N, tokens, w_rows, scale, x_image, chunks,
    k_head, k_image, k_class, k_row, v_head, v_image, v_class, v_row,
    z_image, z_class, z_token, z_row, hidden_class,
    M: tl.constexpr, W: tl.constexpr, T: tl.constexpr, E: tl.constexpr, STEPS: tl.constexpr,
    CAUSAL: tl.constexpr, MIXED: tl.constexpr, HIDDEN: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """dx (B, N, 3, H, e); dk, dv (B, chunks, H, w, e) and dz (B, C, H, n, w) in fp32, to be summed."""
    b, chunk, h = (tl.program_id(0) // chunks).to(tl.int64), tl.program_id(0) % chunks, tl.program_id(1)
    m, w, n, e = tl.arange(0, M), tl.arange(0, W), tl.arange(0, T), tl.arange(0, E)
    dkr, dvr = tl.zeros((W, E), tl.float32), tl.zeros((W, E), tl.float32)
    for step in range(STEPS):
        c = chunk * STEPS + step
        live = c < C
        first, own = tl.load(start + c, mask=live, other=0), tl.load(count + c, mask=live, other=0)
        here = first * 3 * H * E + h * E
        q = tile(x + b * x_image + here, m, e, 3 * H * E, 1, own, E)
        ks = tile(x + b * x_image + here + H * E, m, e, 3 * H * E, 1, own, E)
        vs = tile(x + b * x_image + here + 2 * H * E, m, e, 3 * H * E, 1, own, E)
        kr = tile(k + h * k_head + b * k_image + c * k_class, w, e, k_row, 1, tl.where(live, w_rows, 0), E)
        vr = tile(v + h * v_head + b * v_image + c * v_class, w, e, v_row, 1, tl.where(live, w_rows, 0), E)
        zs = kr
        if MIXED:
            zs = tile(z + b * z_image + c * z_class, n, w, z_token, z_row, tl.where(live, tokens, 0), w_rows)
        seen = seen_tokens(hidden, c, n, tl.where(live, tokens, 0), hidden_class, HIDDEN)
        s, t, met = scores(q, ks, kr, zs, seen, scale, m, w, own, CAUSAL, MIXED, EXACT)
        place = b * N + first + m
        log = tl.load(logs + place * H + h, mask=m < own, other=0.0)
        p, r = tl.exp(s - log[:, None]), tl.exp(t - log[:, None])
        dys = tile(dy + ((b * N + first) * H + h) * E, m, e, H * E, 1, own, E)
        ys = tile(y + ((b * N + first) * H + h) * E, m, e, H * E, 1, own, E)
        mean = tl.sum(dys.to(tl.float32) * ys.to(tl.float32), 1)
        ds = (p * (tl.dot(dys, tl.trans(vs), input_precision=EXACT) - mean[:, None]) * scale).to(q.dtype)
        p = p.to(q.dtype)
        to_rows = tl.dot(dys, tl.trans(vr), input_precision=EXACT)  # (M, w)
        if MIXED:
            dt = r * (tl.dot(to_rows.to(q.dtype), tl.trans(zs), input_precision=EXACT) - mean[:, None])
            r, dt = r.to(q.dtype), dt.to(q.dtype)
            half = tl.dot(tl.trans(dt), met.to(q.dtype), input_precision=EXACT)
            half += tl.dot(tl.trans(r), to_rows.to(q.dtype), input_precision=EXACT)
            inside = live & (n < tokens)[:, None] & (w < w_rows)[None, :]
            there = dz + (((b * C + c) * H + h) * tokens + n[:, None]) * w_rows + w[None, :]
            tl.store(there, half, mask=inside)
            r = tl.dot(r, zs, input_precision=EXACT).to(q.dtype)
            du = (tl.dot(dt, zs, input_precision=EXACT) * scale).to(q.dtype)
        else:
            du = (r * (to_rows - mean[:, None]) * scale).to(q.dtype)
            r = r.to(q.dtype)
        dq = tl.dot(ds, ks, input_precision=EXACT) + tl.dot(du, kr, input_precision=EXACT)
        there = dx + b * N * 3 * H * E + here + m[:, None] * 3 * H * E + e[None, :]
        real = (m < own)[:, None]
        tl.store(there, dq.to(q.dtype), mask=real)
        tl.store(there + H * E, tl.dot(tl.trans(ds), q, input_precision=EXACT).to(q.dtype), mask=real)
        tl.store(there + 2 * H * E, tl.dot(tl.trans(p), dys, input_precision=EXACT).to(q.dtype), mask=real)
        dkr += tl.dot(tl.trans(du), q, input_precision=EXACT)
        dvr += tl.dot(tl.trans(r), dys, input_precision=EXACT)
    there = (((b * chunks + chunk) * H + h) * w_rows + w[:, None]) * E + e[None, :]
    tl.store(dk + there, dkr, mask=(w < w_rows)[:, None])
    tl.store(dv + there, dvr, mask=(w < w_rows)[:, None])


class Attend(torch.autograd.Function):
    """Names on themselves and on the rows ahead of them -> (B, N, H, e).

    x (B or 1, N, 3, H, e): queries, keys and values of packed names; start, count (C,) and most (M) as a Packing has
    them.  k, v (H, B or 1, C or 1, w, e) the rows, z (B or 1, C or 1, n, w) or None the tokens as mixtures of them,
    hidden (C or 1, n) bool or None.
    """

    @staticmethod
    def forward(ctx, x, k, v, z, hidden, start, count, most: int, causal: bool) -> Tensor:
        ctx.most, ctx.causal = most, causal
        ctx.images = max(x.shape[0], k.shape[1], v.shape[1], 1 if z is None else z.shape[0])
        x, k, v = (t if t.stride(-1) == 1 else t.contiguous() for t in (x.contiguous(), k, v))
        y = x.new_empty(ctx.images, x.shape[1], *x.shape[3:])
        logs = torch.empty(y.shape[:-1], dtype=torch.float32, device=x.device)
        launch(ctx, forward_kernel, len(start), (x, k, v, z, hidden, start, count, y, logs))
        ctx.save_for_backward(x, k, v, z, hidden, start, count, y, logs)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor):
        x, k, v, z, _, start, *_ = ctx.saved_tensors
        classes, heads, steps = len(start), x.shape[3], ITEMS if k.shape[2] == v.shape[2] == 1 else 1
        exact, chunks = dict(dtype=torch.float32, device=x.device), -(-classes // steps)
        dx = x.new_empty(ctx.images, *x.shape[1:])
        rows = torch.empty(2, ctx.images, chunks, heads, *k.shape[-2:], **exact)
        dz = None if z is None else torch.empty(ctx.images, classes, heads, *z.shape[-2:], **exact)
        given = *ctx.saved_tensors, dy.contiguous(), dx, *rows, dz
        launch(ctx, backward_kernel, chunks, given, chunks=chunks, STEPS=steps)
        dk, dv = as_large_as(k.expand(2, *k.shape), rows.movedim(3, 1))
        dz = None if dz is None or z is None else as_large_as(z, dz.sum(2))
        return as_large_as(x, dx), dk, dv, dz, None, None, None, None, None


def as_large_as(target: Tensor, x: Tensor) -> Tensor:
    """Summed over the axes that were broadcast."""
    axes = [i for i, size in enumerate(target.shape) if size == 1 < x.shape[i]]
    return (x.sum(axes, keepdim=True) if axes else x).to(target.dtype)


def launch(ctx, kernel, programs: int, tensors: Sequence[Tensor | None], **more: int) -> None:
    """A program for each image, each `programs` of a dozen names, and each head."""
    x, k, v, z, hidden, start = tensors[:6]
    assert x is not None and k is not None and v is not None and start is not None  # for a type checker
    width, rows = x.shape[4], k.shape[3]
    tokens = rows if z is None else z.shape[2]
    sizes = dict(C=len(start), H=x.shape[3], N=x.shape[1], tokens=tokens, w_rows=rows, scale=width**-0.5)
    steps = dict(x_image=step(x, 0))
    for name, t in dict(k=k, v=v).items():
        steps |= {f"{name}_head": t.stride(0), f"{name}_image": step(t, 1), f"{name}_class": step(t, 2)}
        steps |= {f"{name}_row": t.stride(3)}
    for i, name in enumerate(("z_image", "z_class")):
        steps[name] = 0 if z is None else step(z, i)
    steps |= dict(z_token=0 if z is None else z.stride(2), z_row=0 if z is None else z.stride(3))
    steps |= dict(hidden_class=0 if hidden is None else step(hidden, 0))
    shape = dict(M=fit(ctx.most), W=fit(rows), T=fit(tokens), E=width)
    kinds = dict(CAUSAL=ctx.causal, MIXED=z is not None, HIDDEN=hidden is not None)
    exact = "ieee" if x.dtype == torch.float32 else "tf32"
    given = [x if t is None else t for t in tensors]  # what is not there is not looked at
    with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
        kernel[ctx.images * programs, x.shape[3]](
            *given,
            **sizes,
            **steps,
            **shape,
            **kinds,
            **more,
            EXACT=exact,
            num_warps=FORWARD if kernel is forward_kernel else BACKWARD,
            **EXTRA,
        )


def step(x: Tensor, axis: int) -> int:
    """From one to the next; none where all share one."""
    return 0 if x.shape[axis] == 1 else x.stride(axis)


def fit(size: int) -> int:
    """Of a tile: matrix units take 16 and more."""
    return max(16, triton.next_power_of_2(size))
