# pyright: strict
"""A user's script, which `make types` checks in strict mode. It is not run."""

import torch

import limner
from limner import data

images = torch.rand(100, 28, 28)
labels = torch.arange(100) % 10


def print_bound(state: limner.TrainingState) -> None:
    print(state.epoch, state.train["elbo"], state.validation["elbo"], state.model.num_parameters)
    if state.step > 1000:
        state.stop()


faces = data.from_arrays(images, labels)
model = limner.DRAW(
    limner.DRAWConfig(num_steps=8, observation="discretized_logistic"), faces.image_shape
)
fit = limner.fit(model, faces, epochs=20, seed=0, device="auto", callback=print_bound)
bounds: list[float] = [record["validation"]["elbo"] for record in fit.history]
fit = limner.fit(model, faces, epochs=40, out="runs/faces", batch_size=32)
fit = limner.fit(
    limner.VAEConfig(latent_dim=8), faces, optimizer=lambda p: torch.optim.Adam(p, lr=1e-3)
)
fit.history.to_pandas().plot(x="epoch", y="validation.elbo")
evaluation = limner.evaluate(model, faces, num_samples=100)
print(evaluation.elbo.mean, evaluation.elbo.stderr, evaluation.elbo.per_image.mean().item())
limner.show(model.generate(16))
model.save("faces")
again = limner.load("faces", device="cpu")
limner.push("runs/faces", "owner/faces")
again = limner.load("hub:owner/faces")
x = torch.rand(4, *faces.image_shape)
inference = again.infer(x)
print(limner.elbo(inference).mean(), inference.kl.sum(1), again.sample(4).shape)
