"""The five blocks of the residual experiment: three that were meant, two that were run by mistake."""

from __future__ import annotations

from torch import Tensor, nn

from gradlab_torch.programs.models.layers import ReLU, conv, norm


class Plain(nn.Module):
    """conv-norm-relu, conv-norm-relu: the control, without a skip."""

    padding = 1

    def __init__(self, features_in: int, features: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv(features_in, features, 3, stride=stride, padding=self.padding)
        self.bn1 = norm(features)
        self.relu1 = ReLU()
        self.conv2 = conv(features, features, 3, padding=1)
        self.bn2 = norm(features)
        self.relu2 = ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(x)))


class PlainUnpadded(Plain):
    """As published: the first convolution has no padding, so the image shrinks 32 → 28 → 11 → 3 instead of
    32 → 32 → 16 → 8, and a comparison with the residual blocks differs in geometry too."""

    padding = 0


class PostAct(nn.Module):
    """ResNet v1 (He et al. 2015): add the identity, then the last relu."""

    def __init__(self, features_in: int, features: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv(features_in, features, 3, stride=stride, padding=1)
        self.bn1 = norm(features)
        self.relu1 = ReLU()
        self.conv2 = conv(features, features, 3, padding=1)
        self.bn2 = norm(features)
        self.relu2 = ReLU()
        same = stride == 1 and features_in == features
        self.down = None if same else nn.Sequential(conv(features_in, features, 1, stride=stride), norm(features))

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu2(out + (x if self.down is None else self.down(x)))


class PreAct(nn.Module):
    """ResNet v2 (He et al. 2016): norm-relu-conv twice, and nothing after adding the identity."""

    def __init__(self, features_in: int, features: int, stride: int) -> None:
        super().__init__()
        self.bn1 = norm(features_in)
        self.relu1 = ReLU()
        self.conv1 = conv(features_in, features, 3, stride=stride, padding=1)
        self.bn2 = norm(features)
        self.relu2 = ReLU()
        self.conv2 = conv(features, features, 3, padding=1)
        same = stride == 1 and features_in == features
        self.down = None if same else conv(features_in, features, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu1(self.bn1(x))
        identity = x if self.down is None else self.down(out)
        out = self.conv1(out)
        return self.join(self.conv2(self.relu2(self.bn2(out))), identity)

    def join(self, out: Tensor, identity: Tensor) -> Tensor:
        return out + identity


class PreActNoSkip(PreAct):
    """As published: it returns before adding the identity, so the projections get no gradient at all."""

    def join(self, out: Tensor, identity: Tensor) -> Tensor:
        return out


BLOCKS = {
    "plain": Plain,
    "plain_unpadded": PlainUnpadded,
    "postact": PostAct,
    "preact": PreAct,
    "preact_noskip": PreActNoSkip,
}
