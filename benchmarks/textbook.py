"""DRAW as in published PyTorch ports: the baseline of the benchmark, correct but not optimised.

It uses nn.LSTMCell, forms the error image, reads twice, has one linear layer per head, and divides
filters by their sums. The mathematics is that of `limner.DRAW`; the parameters are laid out
differently.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TextbookDRAW(nn.Module):
    """DRAW with or without filterbank attention on images [batch, 1, height, width]."""

    def __init__(
        self,
        num_steps: int,
        attention: str,
        read_size: int,
        write_size: int,
        hidden_dim: int,
        latent_dim: int,
        image_shape: tuple[int, int, int],
    ):
        super().__init__()
        _, self.height, self.width = image_shape
        self.num_steps, self.attention = num_steps, attention == "filterbank"
        self.read_size, self.write_size = read_size, write_size
        self.hidden_dim, self.latent_dim = hidden_dim, latent_dim
        pixels = self.height * self.width
        glimpse = 2 * read_size**2 if self.attention else 2 * pixels
        self.encoder = nn.LSTMCell(glimpse + hidden_dim, hidden_dim)
        self.decoder = nn.LSTMCell(latent_dim, hidden_dim)
        self.mu = nn.Linear(hidden_dim, latent_dim)
        self.log_sigma = nn.Linear(hidden_dim, latent_dim)
        self.write_head = nn.Linear(hidden_dim, write_size**2 if self.attention else pixels)
        if self.attention:
            self.read_window = nn.Linear(hidden_dim, 5)
            self.write_window = nn.Linear(hidden_dim, 5)

    def forward(self, x: Tensor) -> Tensor:
        """The mean of -ELBO in nats per image."""
        batch = x.shape[0]
        x = x.view(batch, -1)
        canvas = torch.zeros_like(x)
        h_enc = c_enc = h_dec = c_dec = x.new_zeros(batch, self.hidden_dim)
        kl = x.new_zeros(batch)
        for _ in range(self.num_steps):
            x_hat = x - torch.sigmoid(canvas)
            r = self.read(x, x_hat, h_dec)
            h_enc, c_enc = self.encoder(torch.cat([r, h_dec], 1), (h_enc, c_enc))
            mu, log_sigma = self.mu(h_enc), self.log_sigma(h_enc)
            sigma = torch.exp(log_sigma)
            z = mu + sigma * torch.randn_like(sigma)
            kl = kl + 0.5 * torch.sum(mu**2 + sigma**2 - 2 * log_sigma - 1, 1)
            h_dec, c_dec = self.decoder(z, (h_dec, c_dec))
            canvas = canvas + self.write(h_dec)
        reconstruction = F.binary_cross_entropy_with_logits(canvas, x, reduction="none").sum(1)
        return (reconstruction + kl).mean()

    def read(self, x: Tensor, x_hat: Tensor, h_dec: Tensor) -> Tensor:
        if not self.attention:
            return torch.cat([x, x_hat], 1)
        F_x, F_y, gamma = self.filters(self.read_window(h_dec), self.read_size)

        def glimpse(image: Tensor) -> Tensor:
            image = image.view(-1, self.height, self.width)
            patch = torch.bmm(torch.bmm(F_y, image), F_x.transpose(1, 2))
            return gamma * patch.view(-1, self.read_size**2)

        return torch.cat([glimpse(x), glimpse(x_hat)], 1)

    def write(self, h_dec: Tensor) -> Tensor:
        w = self.write_head(h_dec)
        if not self.attention:
            return w
        F_x, F_y, gamma = self.filters(self.write_window(h_dec), self.write_size)
        w = w.view(-1, self.write_size, self.write_size)
        patch = torch.bmm(torch.bmm(F_y.transpose(1, 2), w), F_x)
        return patch.view(-1, self.height * self.width) / gamma

    def filters(self, params: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """F_x [batch, size, width], F_y [batch, size, height] and gamma [batch, 1]."""
        g_x, g_y, log_var, log_delta, log_gamma = params.split(1, 1)
        g_x = (self.width + 1) / 2 * (g_x + 1)
        g_y = (self.height + 1) / 2 * (g_y + 1)
        var = torch.exp(log_var)
        delta = (max(self.height, self.width) - 1) / max(size - 1, 1) * torch.exp(log_delta)
        offset = torch.arange(1, size + 1, device=params.device) - size / 2 - 0.5

        def bank(g: Tensor, length: int) -> Tensor:
            mu = (g + offset * delta).unsqueeze(2)
            a = torch.arange(1, length + 1, device=params.device).view(1, 1, -1)
            filters = torch.exp(-((a - mu) ** 2) / (2 * var.unsqueeze(2)))
            return filters / (filters.sum(2, keepdim=True) + 1e-8)

        return bank(g_x, self.width), bank(g_y, self.height), torch.exp(log_gamma)
