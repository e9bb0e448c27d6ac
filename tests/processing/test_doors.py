"""Whatever is handed to a processor is processed, or refused in words of ours: many strange values, the same ones."""

import pytest
from fuzzing.doors import SHAPES, processor_calls
from fuzzing.outcomes import REFUSED, TAKEN, Outcomes

from codebind_hf import CodeBindProcessor
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.training.tokenization import build_tokenizer


@pytest.fixture(scope="module")
def processor() -> CodeBindProcessor:
    return CodeBindProcessor.from_model_config(CodeBindConfig.from_preset("tiny"), build_tokenizer(["a red ball"] * 3))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_processor_takes_or_clearly_refuses_anything(processor: CodeBindProcessor) -> None:
    outcomes = Outcomes()
    outcomes.try_all(processor_calls(processor), 900)
    # Were everything refused, nothing would be tried behind the first check.
    for name in ("text", *SHAPES):
        door = f"processor {name}"
        assert min(outcomes.counts[door, TAKEN], outcomes.counts[door, REFUSED]) > 0, outcomes.table()
