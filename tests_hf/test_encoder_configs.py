"""The library's configuration tests on the configuration of every encoder and of the decoders."""

import unittest

import pytest
from hf_tests.test_configuration_common import ConfigTester

from codebind_hf import CodeBindConfig, CodeBindEncoderConfig


CLASSES = {name: spec.config_class for name, spec in CodeBindConfig.sub_configs_defaults.items()}
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.mark.parametrize("config_class", [*CLASSES.values(), CodeBindEncoderConfig])
def test_a_configuration_of_one_part(config_class: type) -> None:
    has_text = config_class is CLASSES["text_config"]
    tester = ConfigTester(unittest.TestCase(), config_class=config_class, has_text_modality=has_text, **SMALL)
    tester.run_common_tests()
