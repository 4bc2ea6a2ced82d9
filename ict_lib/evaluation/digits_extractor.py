"""The digits classifier as a feature extractor of torch-fidelity."""

import torch_fidelity
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from ict_lib.evaluation.digits_features import load_classifier

NAME = "ict-digits"


def register_digits_extractor() -> str:
    """Make the extractor known to torch-fidelity; again does no harm.

    Source: own.

    Returns:
        Its name there.
    """
    if NAME not in FEATURE_EXTRACTORS_REGISTRY:
        torch_fidelity.register_feature_extractor(NAME, _DigitsExtractor)
    return NAME


class _DigitsExtractor(FeatureExtractorBase):
    """The digits classifier in torch-fidelity's form: 64 features and 10 logits, float64."""

    def __init__(self, name, features_list, feature_extractor_weights_path=None, **kwargs):
        super().__init__(name, features_list)  # kwargs: torch-fidelity hands over all of its options
        self.network = load_classifier(feature_extractor_weights_path).network.double()

    @staticmethod
    def get_provided_features_list():
        return "features", "logits"

    @staticmethod
    def get_default_feature_layer_for_metric(metric):
        return "logits" if metric == "isc" else "features"

    @staticmethod
    def can_be_compiled():
        return False

    def forward(self, levels: Tensor) -> tuple[Tensor, ...]:
        features, logits = self.network(levels.double() / 127.5 - 1)
        return tuple({"features": features, "logits": logits}[name] for name in self.features_list)
