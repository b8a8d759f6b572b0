"""Shared encoders and decoders: plain `nn.Module`s that know nothing of training."""

from pcgen.nets.average import ExponentialMovingAverage
from pcgen.nets.base import Decoder, Encoder
from pcgen.nets.cnn import CNNDecoder, CNNEncoder
from pcgen.nets.deformations import Deformation, GridDeformation, PointDeformation
from pcgen.nets.dense import DenseNetDecoder, DenseNetEncoder
from pcgen.nets.folding import FoldingDecoder
from pcgen.nets.initialization import kaiming_initialized, zero_output
from pcgen.nets.mlp import MLP, ImageMLPDecoder, ImageMLPEncoder, MLPDecoder, MLPEncoder
from pcgen.nets.pointnet import PointNetEncoder
from pcgen.nets.residual import ResNetDecoder, ResNetEncoder
from pcgen.nets.score import PointNetScore
from pcgen.nets.spectral import spectral_normalized, uses_batch_norm
from pcgen.nets.templates import DecodedTemplate, IntrinsicTemplate, LearnedTemplate, Template

__all__ = [
    "MLP",
    "CNNDecoder",
    "CNNEncoder",
    "DecodedTemplate",
    "Decoder",
    "Deformation",
    "DenseNetDecoder",
    "DenseNetEncoder",
    "Encoder",
    "ExponentialMovingAverage",
    "FoldingDecoder",
    "GridDeformation",
    "ImageMLPDecoder",
    "ImageMLPEncoder",
    "IntrinsicTemplate",
    "LearnedTemplate",
    "MLPDecoder",
    "MLPEncoder",
    "PointDeformation",
    "PointNetEncoder",
    "PointNetScore",
    "ResNetDecoder",
    "ResNetEncoder",
    "Template",
    "kaiming_initialized",
    "spectral_normalized",
    "uses_batch_norm",
    "zero_output",
]
