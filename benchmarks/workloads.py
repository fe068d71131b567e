"""The training steps that are timed: the same networks, batch and objective for every library."""

from typing import NamedTuple


class Workload(NamedTuple):
    """One discriminator update and one generator update; latents are drawn and the fake batch is made once per step."""

    name: str
    shape: tuple            # of one sample
    batch: int
    latent: int
    net: str                # 'mlp' or 'conv'
    g: tuple                # hidden widths, or (width,) of DCGAN's smallest layer
    d: tuple
    loss: str = "non-saturating"
    penalty: bool = False   # WGAN-GP's, weight 10; the critic then has no BatchNorm

    def levels(self):
        """How often a DCGAN halves the image, and the size of its smallest feature map."""
        size, times = self.shape[0], 0
        while size > 7:
            size, times = size // 2, times + 1
        return times, size


WORKLOADS = {w.name: w for w in [
    Workload("ring", (2,), 256, 16, "mlp", (128, 128), (128, 128)),
    Workload("ring-gp", (2,), 256, 16, "mlp", (128, 128), (128, 128), "wasserstein", True),
    Workload("mlp", (28, 28, 1), 64, 100, "mlp", (256, 512, 1024), (512, 256)),
    Workload("dcgan28", (28, 28, 1), 64, 100, "conv", (64,), (64,)),
    Workload("wgan-gp28", (28, 28, 1), 64, 100, "conv", (64,), (64,), "wasserstein", True),
    Workload("dcgan64", (64, 64, 3), 32, 100, "conv", (64,), (64,)),
]}
LR, BETAS = 2e-4, (0.5, 0.999)
