"""DRAW with attention in plain torch: binary images of one channel, prior N(0, I).

`w` is the state dict of a `limner.DRAW`. Numbers in comments are equations of the paper.
"""

import torch
from torch.nn.functional import linear, logsigmoid


def layer(w, name, *inputs):
    return linear(torch.cat(inputs, dim=1), w[f"{name}.weight"], w[f"{name}.bias"])


def lstm(w, name, h, c, *inputs):
    i, f, g, o = layer(w, name, *inputs, h).chunk(4, dim=1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def filters(params, N, side):
    g, log_var, log_delta, log_gamma = params[..., None].split([2, 1, 1, 1], dim=1)  # 21
    delta = (side - 1) / (N - 1) * log_delta.exp()  # 24
    mu = (side + 1) / 2 * (g + 1) + (torch.arange(1, N + 1) - N / 2 - 0.5) * delta  # 19, 20, 22, 23
    beyond = (torch.arange(1, side + 1) - mu[..., None]) ** 2 / (2 * log_var[..., None].exp())
    F_x, F_y = (-beyond).softmax(dim=-1).unbind(dim=1)  # 25, 26
    return F_y, F_x, log_gamma.exp()


def draw(w, x, noise, N_read, N_write):
    """KL of every step [B, T] and log p(x | z) [B]; x [B, side, side], noise [T, B, latent]."""
    start = ("encoder.h_0", "encoder.c_0", "decoder.h_0", "decoder.c_0")
    h_enc, c_enc, h_dec, c_dec = (w[name].expand(len(x), -1) for name in start)
    canvas, side, kl = w["c_0"], x.shape[-1], []
    for epsilon in noise:
        F_y, F_x, gamma = filters(layer(w, "heads", h_dec)[:, -5:], N_read, side)
        seen = [gamma * F_y @ image @ F_x.mT for image in (x, x - canvas.sigmoid())]  # 3, 4, 27
        h_enc, c_enc = lstm(w, "encoder", h_enc, c_enc, *(s.flatten(1) for s in seen), h_dec)  # 5
        mu, log_sigma = layer(w, "posterior_head.linear", h_enc).chunk(2, dim=1)  # 1, 2
        kl.append(0.5 * (mu**2 + (2 * log_sigma).exp() - 2 * log_sigma - 1).sum(dim=1))  # 11
        h_dec, c_dec = lstm(w, "decoder", h_dec, c_dec, mu + log_sigma.exp() * epsilon)  # 6, 7
        heads = layer(w, "heads", h_dec)  # 28
        F_y, F_x, gamma = filters(heads[:, -10:-5], N_write, side)
        canvas = canvas + F_y.mT @ heads[:, :-10].view(-1, N_write, N_write) @ F_x / gamma  # 8, 29
    return torch.stack(kl, dim=1), logsigmoid(canvas * (2 * x - 1)).sum(dim=(1, 2))  # 9
