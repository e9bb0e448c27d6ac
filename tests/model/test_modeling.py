"""The model as a whole: outputs, batches, modes, clips, gradient checkpointing, added modalities."""

import copy
import inspect
from typing import Any

import pytest
import torch
from common import (
    ALL_TERMS,
    BATCH,
    EOS,
    PAD,
    assert_same,
    buffers_of,
    small_config,
    tiny_config,
    tiny_inputs,
    tiny_model,
)
from torch import Tensor
from torch.nn.functional import normalize

from codebind_hf.model.configuration_encoders import CodeBindEncoderConfig
from codebind_hf.model.configuration_modalities import CodeBindEegConfig
from codebind_hf.model.modalities import MODALITIES
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.model.outputs import CodeBindOutput


NAMES = tuple(MODALITIES)
RADAR = {"num_channels": 2, "input_size": [10], "patch_size": [5], "hidden_size": 16, "num_attention_heads": 2}
ALL_WEIGHTS = dict.fromkeys(ALL_TERMS, 1.0)


@pytest.fixture(scope="module")
def model() -> CodeBindModel:
    """Read only: tests that change a model make their own."""
    return tiny_model()


@pytest.fixture(scope="module")
def inputs() -> dict[str, Tensor]:
    return tiny_inputs(tiny_config())


@pytest.fixture(scope="module")
def output(model: CodeBindModel, inputs: dict[str, Tensor]) -> CodeBindOutput:
    with torch.no_grad():
        return model(**inputs, output_reconstructions=True, output_hidden_states=True)


def embeds_of(output: CodeBindOutput) -> dict[str, Tensor]:
    fields = ("embeds", "continuous_embeds", "specific_embeds", "continuous_specific_embeds", "logits")
    return {f"{field}.{name}": x for field in fields for name, x in (getattr(output, field) or {}).items()}


# Outputs


def test_every_modality_has_every_output(output: CodeBindOutput) -> None:
    assert tuple(output.embeds) == tuple(output.continuous_embeds) == tuple(output.codes) == NAMES
    assert tuple(output.specific_embeds) == tuple(output.continuous_specific_embeds) == NAMES[1:]
    assert tuple(output.logits) == tuple(output.reconstructions) == tuple(output.reconstruction_targets) == NAMES[1:]
    assert tuple(output.hidden_states) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_outputs_have_the_promised_shapes(output: CodeBindOutput, name: str) -> None:
    assert output.embeds[name].shape == output.continuous_embeds[name].shape == (BATCH, 24)
    assert output.codes[name].shared.shape == (BATCH, 6)
    if name == "text":
        assert output.codes[name].specific is None
        return
    assert output.specific_embeds[name].shape == output.continuous_specific_embeds[name].shape == (BATCH, 20)
    assert output.codes[name].specific.shape == (BATCH, 5)
    assert output.logits[name].shape == (BATCH, BATCH)


HALF_RESOLUTION = {
    "image": (3, 2, 8, 12),
    "video": (3, 2, 8, 12),
    "depth": (1, 8, 16),
    "tactile": (3, 9, 6),
    "point_cloud": (20, 3),
}


@pytest.mark.parametrize("name", HALF_RESOLUTION)
def test_reconstructions_have_half_the_resolution(output: CodeBindOutput, name: str) -> None:
    assert output.reconstructions[name].shape == (BATCH, *HALF_RESOLUTION[name])


def test_reconstruction_targets_are_the_input_at_that_size(output: CodeBindOutput, inputs: dict[str, Tensor]) -> None:
    for name, target in output.reconstruction_targets.items():
        if name != "point_cloud":
            assert target.shape == output.reconstructions[name].shape
    assert torch.equal(output.reconstruction_targets["point_cloud"], inputs["point_values"])
    constant = tiny_model(small_config("image", "video", "audio", "eeg"))
    given = {name: torch.full_like(x, 0.7) for name, x in tiny_inputs(constant.config).items()}
    for target in constant(**given, output_reconstructions=True).reconstruction_targets.values():
        torch.testing.assert_close(target, torch.full_like(target, 0.7))


def test_reconstruction_target_keeps_the_place_of_things() -> None:
    """A bright upper left quarter stays up and left: no axis is swapped on the way."""
    model = tiny_model(small_config("image", "video"))
    picture = torch.zeros(1, 3, 16, 24)
    picture[:, 0, :8, :12] = 1
    video = torch.zeros(1, 1, 2, 3, 16, 24)
    video[:, :, 1] = picture
    targets = model(
        pixel_values=picture, pixel_values_videos=video, output_reconstructions=True
    ).reconstruction_targets
    assert targets["image"][0, 0, :, :3, :5].min() > 0.9
    assert targets["image"][0, 1:].max() == targets["image"][0, 0, :, 5:].max() == 0
    assert targets["video"][0, 0, 1, :3, :5].min() > 0.9
    assert targets["video"][0, :, 0].max() == 0


def test_all_embeddings_have_unit_norm(output: CodeBindOutput) -> None:
    for name, value in embeds_of(output).items():
        if not name.startswith("logits"):
            torch.testing.assert_close(value.norm(dim=-1), torch.ones(BATCH), msg=name)


@pytest.mark.parametrize("clips", [1, 2, 5])
def test_embeddings_have_unit_norm_for_any_number_of_clips(clips: int) -> None:
    model = tiny_model(small_config("video", "audio"))
    result = model(
        pixel_values_videos=torch.randn(2, clips, 2, 3, 16, 24), input_features=torch.randn(2, clips, 14, 18)
    )
    for name, value in embeds_of(result).items():
        torch.testing.assert_close(value.norm(dim=-1), torch.ones(2), msg=name)


def test_logits_are_the_scaled_cosine_with_texts_in_columns(model: CodeBindModel, output: CodeBindOutput) -> None:
    scale = model.logit_scale.log_scale.exp()
    for name, logits in output.logits.items():
        for i in range(BATCH):
            for j in range(BATCH):
                cosine = torch.dot(output.embeds[name][i], output.embeds["text"][j])
                torch.testing.assert_close(logits[i, j], (scale * cosine)[0])
        assert torch.equal(output[f"logits_per_{name}"], logits)


def test_the_scale_is_capped() -> None:
    model = tiny_model(small_config("text"), max_logit_scale=100.0)
    model.logit_scale.log_scale.data.fill_(50.0)
    assert model.logit_scale() == 100


def test_there_are_no_logits_without_text_or_with_text_alone(model: CodeBindModel, inputs: dict[str, Tensor]) -> None:
    assert model(eeg_values=inputs["eeg_values"]).logits is None
    assert model(input_ids=inputs["input_ids"]).logits is None


def test_the_tuple_holds_what_the_output_holds(model: CodeBindModel, inputs: dict[str, Tensor]) -> None:
    some = {"eeg_values": inputs["eeg_values"], "input_ids": inputs["input_ids"]}
    named, plain = model(**some), model(**some, return_dict=False)
    assert isinstance(plain, tuple)
    assert len(plain) == len(named.to_tuple()) == len(named.keys())
    torch.testing.assert_close(plain[0], named.embeds)
    assert model(**some, return_loss=True, return_dict=False)[0].shape == ()


def test_hidden_states_are_given_on_request(model: CodeBindModel, inputs: dict[str, Tensor]) -> None:
    some = {"eeg_values": inputs["eeg_values"]}
    assert model(**some).hidden_states is None
    states = model(**some, output_hidden_states=True).hidden_states["eeg"]
    assert [tuple(x.shape) for x in states] == [(BATCH, 12, 32)] * 3
    by_config = tiny_model(small_config("eeg", output_hidden_states=True))
    assert by_config(**some).hidden_states is not None


def test_continuous_embeddings_are_what_quantize_false_gives(
    model: CodeBindModel, inputs: dict[str, Tensor], output: CodeBindOutput
) -> None:
    result = model(**inputs, quantize=False)
    for name in NAMES:
        torch.testing.assert_close(result.embeds[name], output.continuous_embeds[name])
        assert torch.equal(result.codes[name].shared, output.codes[name].shared)
        if name != "text":
            torch.testing.assert_close(result.specific_embeds[name], output.continuous_specific_embeds[name])
    assert not torch.equal(result.embeds["eeg"], output.embeds["eeg"])


@pytest.mark.parametrize("quantize", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_features_of_a_modality_equal_the_embedding_of_forward(
    model: CodeBindModel, inputs: dict[str, Tensor], output: CodeBindOutput, name: str, quantize: bool
) -> None:
    given = {MODALITIES[name].tensor: inputs[MODALITIES[name].tensor]}
    if name == "text":
        given["attention_mask"] = inputs["attention_mask"]
    features = getattr(model, f"get_{name}_features")(**given, quantize=quantize, output_hidden_states=True)
    expected = output.embeds if quantize else output.continuous_embeds
    torch.testing.assert_close(features.pooler_output, expected[name])
    torch.testing.assert_close(features.last_hidden_state, output.hidden_states[name][-1])
    assert len(features.hidden_states) == 3


def test_features_follow_what_the_configuration_says_of_outputs(inputs: dict[str, Tensor]) -> None:
    model = tiny_model(small_config("eeg", output_hidden_states=True, return_dict=False))
    features = model.get_eeg_features(inputs["eeg_values"])
    assert isinstance(features, tuple)
    hidden, pooled, layers = features
    assert len(layers) == 3
    named = model.get_eeg_features(inputs["eeg_values"], return_dict=True, output_hidden_states=False)
    assert named.hidden_states is None
    assert torch.equal(named.pooler_output, pooled)
    assert torch.equal(named.last_hidden_state, hidden)


def test_the_main_input_is_the_first_argument(model: CodeBindModel) -> None:
    """The trainer counts tokens by this name: of texts, not numbers of pixels."""
    assert next(iter(inspect.signature(model.forward).parameters)) == model.main_input_name == "input_ids"


def test_features_of_a_text_without_mask_are_the_same(model: CodeBindModel, inputs: dict[str, Tensor]) -> None:
    """Attention is causal and padding comes last, so the end token cannot see it."""
    given = {"input_ids": inputs["input_ids"]}
    features = [model.get_text_features(**given, **more).pooler_output for more in ({}, dict(inputs_mask(inputs)))]
    torch.testing.assert_close(*features)


def inputs_mask(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"attention_mask": inputs["attention_mask"], "token_type_ids": torch.zeros(1)}


def test_features_of_a_modality_compute_no_specific_head(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(small_config("eeg"))
    monkeypatch.setattr(model.encoders["eeg"].specific_head, "forward", None)
    assert model.get_eeg_features(torch.randn(2, 5, 33)).pooler_output.shape == (2, 24)


# One sample at a time


def row_of(inputs: dict[str, Tensor], i: int) -> dict[str, Tensor]:
    row = {name: x[i : i + 1] for name, x in inputs.items()}
    length = int(row["attention_mask"].sum())
    return {**row, "input_ids": row["input_ids"][:, :length], "attention_mask": row["attention_mask"][:, :length]}


def test_a_sample_does_not_depend_on_its_batch(
    model: CodeBindModel, inputs: dict[str, Tensor], output: CodeBindOutput
) -> None:
    """Texts alone are not padded; in the batch they are, to different lengths."""
    for i in range(BATCH):
        alone = model(**row_of(inputs, i), output_reconstructions=True)
        for name in NAMES:
            torch.testing.assert_close(alone.continuous_embeds[name][0], output.continuous_embeds[name][i], msg=name)
            assert torch.equal(alone.codes[name].shared[0], output.codes[name].shared[i])
            if name != "text":
                torch.testing.assert_close(
                    alone.reconstructions[name][0], output.reconstructions[name][i], atol=1e-5, rtol=1e-4
                )


def test_a_modality_does_not_depend_on_the_other_modalities(
    model: CodeBindModel, inputs: dict[str, Tensor], output: CodeBindOutput
) -> None:
    for name in ("video", "point_cloud", "imu"):
        alone = model(**{MODALITIES[name].tensor: inputs[MODALITIES[name].tensor]})
        torch.testing.assert_close(alone.embeds[name], output.embeds[name])


def test_evaluation_is_deterministic(model: CodeBindModel, inputs: dict[str, Tensor], output: CodeBindOutput) -> None:
    again = model(**inputs)
    assert_same(embeds_of(again), embeds_of(model(**inputs)))
    torch.testing.assert_close(embeds_of(again), embeds_of(output))


def test_evaluation_changes_no_tensor_of_the_model(inputs: dict[str, Tensor]) -> None:
    model = tiny_model()
    before = copy.deepcopy(model.state_dict())
    model(**inputs, return_loss=True, output_reconstructions=True)
    assert_same(before, model.state_dict())


def test_distinct_inputs_have_distinct_embeddings(output: CodeBindOutput) -> None:
    for name, value in output.continuous_embeds.items():
        assert (value[0] - value[1]).norm() > 1e-3, name


def test_text_is_read_at_its_first_end_token(model: CodeBindModel) -> None:
    ids = torch.tensor([[5, 6, EOS, 7, EOS, 9]])
    later = torch.tensor([[5, 6, EOS, 8, PAD, PAD]])
    other = torch.tensor([[5, 7, EOS, 7, EOS, 9]])
    first, second, third = (model.get_text_features(x, quantize=False).pooler_output for x in (ids, later, other))
    torch.testing.assert_close(first, second)
    assert (first - third).norm() > 1e-3


def test_text_depends_on_the_order_of_its_tokens(model: CodeBindModel) -> None:
    first = model.get_text_features(torch.tensor([[5, 6, EOS]]), quantize=False).pooler_output
    second = model.get_text_features(torch.tensor([[6, 5, EOS]]), quantize=False).pooler_output
    assert (first - second).norm() > 1e-3


# Clips


def test_more_frames_than_a_tubelet_are_more_clips(model: CodeBindModel) -> None:
    video = torch.randn(2, 3, 4, 3, 16, 24)
    folded = video.reshape(2, 6, 2, 3, 16, 24)
    first, second = (model.get_video_features(x, quantize=False).pooler_output for x in (video, folded))
    torch.testing.assert_close(first, second)


def test_an_image_is_a_video_that_stands_still(model: CodeBindModel, inputs: dict[str, Tensor]) -> None:
    picture = inputs["pixel_values"]
    still = picture[:, None, None].expand(-1, 1, 2, -1, -1, -1)
    torch.testing.assert_close(
        model.get_image_features(picture).pooler_output, model.get_video_features(still).pooler_output
    )


def test_clips_are_normalized_jointly_and_then_averaged(model: CodeBindModel, inputs: dict[str, Tensor]) -> None:
    """Shared and specific head outputs of one clip have norm 1 together; the mean over clips is split."""
    features = inputs["input_features"]
    encoder = model.encoders["audio"]
    shared, specific = torch.zeros(BATCH, 24), torch.zeros(BATCH, 20)
    for clip in range(2):
        cls = encoder.tower(features[:, clip].unsqueeze(1))[-1][:, 0]
        a, b = encoder.shared_head(cls), encoder.specific_head(cls)
        norm = torch.cat([a, b], dim=1).norm(dim=1, keepdim=True)
        shared, specific = shared + a / norm / 2, specific + b / norm / 2
    result = model(input_features=features)
    torch.testing.assert_close(result.continuous_embeds["audio"], shared / shared.norm(dim=1, keepdim=True))
    expected = specific / specific.norm(dim=1, keepdim=True)
    torch.testing.assert_close(result.continuous_specific_embeds["audio"], expected)


def test_clips_that_are_not_normalized_count_by_their_length() -> None:
    """ViT-Lens: the mean over clips comes first; without a norm the specific head cannot change the shared part."""
    model = tiny_model(small_config("audio", audio_config={"normalize_clips": False}))
    features = tiny_inputs(model.config)["input_features"]
    encoder = model.encoders["audio"]
    states = encoder.tower(features.flatten(0, 1).unsqueeze(1))[-1][:, 0]
    shared, specific = (
        head(states).unflatten(0, (-1, 2)).mean(1) for head in (encoder.shared_head, encoder.specific_head)
    )
    result = model(input_features=features)
    torch.testing.assert_close(result.continuous_embeds["audio"], normalize(shared, dim=1))
    torch.testing.assert_close(result.continuous_specific_embeds["audio"], normalize(specific, dim=1))
    called = []
    encoder.specific_head.register_forward_hook(lambda *_: called.append(1))
    torch.testing.assert_close(
        model.get_audio_features(features, quantize=False).pooler_output, result.continuous_embeds["audio"]
    )
    assert called == []


def test_a_lens_is_checkpointed_too() -> None:
    model = tiny_model(small_config("text", "point_cloud", point_config={"lens_depth": 2})).train()
    inputs = tiny_inputs(model.config)
    gradients = []
    for checkpointing in (False, True):
        model.zero_grad()
        if checkpointing:
            model.activation_checkpointing_enable()
        assert model.encoders["point"].tower.lens.stages[1][0].gradient_checkpointing == checkpointing
        model(**inputs).embeds["point_cloud"].sum().backward()
        gradients.append(model.encoders["point"].tower.lens.latents.grad.clone())
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(*gradients)


def test_the_order_of_clips_does_not_matter_but_of_frames_does(
    model: CodeBindModel, inputs: dict[str, Tensor]
) -> None:
    video = inputs["pixel_values_videos"]
    plain, clips, frames = (
        model.get_video_features(x, quantize=False).pooler_output for x in (video, video.flip(1), video.flip(2))
    )
    torch.testing.assert_close(plain, clips)
    assert (plain - frames).norm() > 1e-3


# Training


def trainable(**overrides: Any) -> CodeBindModel:
    return tiny_model(tiny_config(specific_dim=24, loss_weights=ALL_WEIGHTS, **overrides)).train()


def grads_of(model: CodeBindModel) -> dict[str, Tensor]:
    return {name: x.grad.clone() for name, x in model.named_parameters() if x.grad is not None}


def test_gradient_checkpointing_changes_nothing(inputs: dict[str, Tensor]) -> None:
    """In particular a codebook takes one step per forward, not another one while blocks are computed again."""
    results = []
    for checkpointing in (False, True):
        model = trainable(text_config={"dropout": 0.1}, eeg_config={"drop_path_rate": 0.3})
        if checkpointing:
            model.activation_checkpointing_enable()
        torch.manual_seed(3)
        loss = model(**inputs, return_loss=True).loss
        loss.backward()
        results.append((loss, grads_of(model), buffers_of(model)))
    (loss, grads, buffers), (loss_again, grads_again, buffers_again) = results
    torch.testing.assert_close(loss, loss_again)
    torch.testing.assert_close(grads, grads_again)
    assert buffers["codebooks.shared.num_updates"] == 1
    torch.testing.assert_close(buffers, buffers_again)


def test_the_same_seed_gives_the_same_training_step(inputs: dict[str, Tensor]) -> None:
    results = []
    for _ in range(2):
        model = trainable(vision_config={"dropout": 0.2})
        torch.manual_seed(3)
        model(**inputs, return_loss=True).loss.backward()
        results.append(grads_of(model))
    assert_same(*results)


@pytest.mark.parametrize("field", ["dropout", "attention_dropout", "drop_path_rate"])
def test_randomness_is_for_training_only(field: str) -> None:
    model = tiny_model(small_config("eeg", eeg_config={field: 0.5}))
    x = {"eeg_values": torch.randn(4, 5, 33)}
    assert_same(embeds_of(model(**x)), embeds_of(model(**x)))
    model.train()
    first, second = (model(**x).continuous_embeds["eeg"] for _ in range(2))
    assert not torch.equal(first, second)


def test_drop_path_grows_with_depth_and_keeps_the_mean() -> None:
    model = tiny_model(small_config("eeg", eeg_config={"drop_path_rate": 0.4, "num_hidden_layers": 5}))
    paths = [block.drop_path for block in model.encoders["eeg"].tower.layers]
    assert [path.rate for path in paths] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    dropped = paths[-1].train()(torch.ones(20000, 2, 3))
    assert sorted({round(x, 4) for x in dropped.flatten().tolist()}) == [0.0, 1.6667]
    assert (dropped == dropped[:, :1, :1]).all(), "a whole sample is dropped, not single numbers"
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)


def test_a_frozen_encoder_stays_in_evaluation_mode() -> None:
    model = tiny_model(small_config("point_cloud", "eeg"))
    model.encoders["point"].requires_grad_(False)
    model.train()
    assert model.training
    assert model.encoders["eeg"].training
    assert not any(module.training for module in model.encoders["point"].modules())
    before = buffers_of(model.encoders["point"])
    model(point_values=torch.randn(2, 40, 3))
    assert_same(before, buffers_of(model.encoders["point"]))
    assert not any(module.training for module in model.eval().modules())
    model.encoders["point"].requires_grad_(True)
    assert model.train().encoders["point"].training


def test_a_frozen_batch_norm_stays_in_evaluation_mode_beside_heads_that_learn() -> None:
    model = tiny_model(small_config("point_cloud", "image"))
    model.requires_grad_(False)
    model.encoders["point"].shared_head.requires_grad_(True)
    model.train()
    before = buffers_of(model.encoders["point"])
    model(point_values=torch.randn(4, 40, 3))
    assert_same(buffers_of(model.encoders["point"]), before)
    model.requires_grad_(True).train()
    model(point_values=torch.randn(4, 40, 3))
    after = buffers_of(model.encoders["point"])
    assert any(not torch.equal(after[name], before[name]) for name in before)


def test_a_model_forward_moves_batch_norm_only_in_training() -> None:
    model = tiny_model(small_config("point_cloud")).train()
    before = buffers_of(model.encoders)
    model(point_values=torch.randn(2, 40, 3))
    changed = {name for name, x in model.encoders.named_buffers() if not torch.equal(x, before[name])}
    assert {name.rsplit(".", 1)[1] for name in changed} == {"running_mean", "running_var", "num_batches_tracked"}


def test_a_short_training_aligns_the_modalities_of_a_row() -> None:
    config = small_config("text", "image", "eeg", loss_weights={"commit": 0.5, "recon": 0.2})
    model = tiny_model(config).train()
    inputs = {name: x for name, x in tiny_inputs(config, batch=6).items() if name != "pixel_values_videos"}
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        model(**inputs, return_loss=True).loss.backward()
        optimizer.step()
    logits = model.eval()(**inputs).logits
    for value in logits.values():
        assert (value.argmax(1) == torch.arange(6)).float().mean() > 0.8


# Codebooks of a model


def test_fresh_codebooks_fitted_to_data_lie_closer_to_it(inputs: dict[str, Tensor]) -> None:
    for method in ("init_codebooks", "fit_codebooks"):
        model = tiny_model().train()
        batches = [{**tiny_inputs(model.config, seed=seed), "return_loss": True, "rows": {}} for seed in range(4)]
        before = distance_to_codes(model.eval(), batches)
        model.train()
        getattr(model, method)(batches)
        assert model.training
        after = distance_to_codes(model.eval(), batches)
        assert all(after[key] < before[key] for key in after if key[0] == "specific" or key[1] == "text")
        assert model.codebooks.shared.num_updates == 0


def distance_to_codes(model: CodeBindModel, batches: list[dict[str, Any]]) -> dict[tuple[str, str], float]:
    total: dict[tuple[str, str], float] = {}
    for batch in batches:
        result = model(**{key: x for key, x in batch.items() if isinstance(x, Tensor)})
        for name, x in result.continuous_embeds.items():
            total["shared", name] = total.get(("shared", name), 0) + (x - result.embeds[name]).norm().item()
        for name, x in result.continuous_specific_embeds.items():
            total["specific", name] = (
                total.get(("specific", name), 0) + (x - result.specific_embeds[name]).norm().item()
            )
    return total


def test_the_shared_book_starts_from_text_alone_and_is_fitted_to_all_modalities(inputs: dict[str, Tensor]) -> None:
    first, second = tiny_model(), tiny_model()
    text = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    first.init_codebooks([inputs])
    second.init_codebooks([text])
    assert torch.equal(first.codebooks.shared.codes, second.codebooks.shared.codes)
    second.fit_codebooks([inputs])
    assert not torch.equal(first.codebooks.shared.codes, second.codebooks.shared.codes)


def test_without_text_the_shared_book_starts_from_what_there_is() -> None:
    model = tiny_model(small_config("eeg"))
    before = model.codebooks.shared.codes.clone()
    model.init_codebooks([tiny_inputs(model.config)])
    assert not torch.equal(before, model.codebooks.shared.codes)


def test_codebooks_cannot_be_fitted_to_nothing() -> None:
    with pytest.raises(ValueError, match="batches: got none"):
        tiny_model(small_config("eeg")).fit_codebooks([])


@pytest.mark.parametrize("part", ["shared", "specific"])
@pytest.mark.parametrize("on_sphere", [True, False])
def test_code_ids_give_back_the_embedding_exactly(part: str, on_sphere: bool) -> None:
    model = tiny_model(small_config("depth", "video", normalize_codes=on_sphere))
    for book in (model.codebooks.shared, *model.codebooks.specific.values()):
        book.reset(2.5 * torch.randn_like(book.codes))
    result = model(**tiny_inputs(model.config))
    embeds = result.embeds if part == "shared" else result.specific_embeds
    for name, value in embeds.items():
        ids = getattr(result.codes[name], part)
        assert torch.equal(model.codes_to_embeds(ids, name, part), value)
        assert torch.equal(model.codes_to_embeds(ids.int(), name, part), value)


# Variants


def test_eager_attention_equals_sdpa(inputs: dict[str, Tensor]) -> None:
    # An encoder with a decoder width of its own builds a decoder configuration of its own.
    overrides = {"depth_config": {"decoder_hidden_size": 20}}
    model = tiny_model(**overrides)
    sdpa = model(**inputs, output_reconstructions=True)
    model.set_attn_implementation("eager")
    eager = model(**inputs, output_reconstructions=True)
    torch.testing.assert_close(embeds_of(eager), embeds_of(sdpa), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(eager.reconstructions, sdpa.reconstructions, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_every_attention_follows_the_model(implementation: str) -> None:
    config = tiny_config(depth_config={"decoder_hidden_size": 20}, added_encoders={"radar": RADAR})
    built = CodeBindModel._from_config(config, attn_implementation=implementation)
    switched = tiny_model(tiny_config(depth_config={"decoder_hidden_size": 20}, added_encoders={"radar": RADAR}))
    switched.set_attn_implementation("eager" if implementation == "sdpa" else "sdpa")
    switched.set_attn_implementation(implementation)
    for model in (built, switched):
        found = {
            (name, module.config._attn_implementation)
            for name, module in model.named_modules()
            if hasattr(module, "is_causal")
        }
        assert {kind for _, kind in found} == {implementation}, sorted(found)


def test_a_dictionary_of_attentions_changes_only_what_it_names() -> None:
    """As the library does; it once changed every encoder that it did not name too."""
    model = tiny_model(small_config("text", "eeg"))
    model.set_attn_implementation("eager")
    model.set_attn_implementation({"eeg_config": "sdpa"})
    found = {name: encoder.config._attn_implementation for name, encoder in model.encoders.items()}
    assert found == {"text": "eager", "eeg": "sdpa"}
    assert model.config._attn_implementation == "eager"
    model.set_attn_implementation({"": "sdpa"})
    assert model.config._attn_implementation == "sdpa"
    assert model.encoders["text"].config._attn_implementation == "eager"


def test_a_learned_key_and_value_is_attended_to() -> None:
    model = tiny_model(small_config("imu"))
    x = torch.randn(2, 6, 28)
    before = model.get_imu_features(x, quantize=False).pooler_output
    for block in model.encoders["imu"].tower.layers:
        block.self_attn.bias_v.data.add_(1)
    assert (model.get_imu_features(x, quantize=False).pooler_output - before).norm() > 1e-2


def test_a_lens_may_follow_any_stem_and_its_modality_still_has_a_decoder() -> None:
    """ViT-Lens puts one between 512 EEG tokens and 256 latents, and between 600 audio tokens and as many."""
    lens = {"lens_num_latents": 7, "stem_dim": 18, "lens_num_heads": 2, "lens_head_dim": 8, "lens_depth": 2}
    model = tiny_model(small_config("eeg", "audio", "image", eeg_config=lens, audio_config=lens, vision_config=lens))
    result = model(**tiny_inputs(model.config), output_reconstructions=True, output_hidden_states=True)
    for name, states in result.hidden_states.items():
        assert states[-1].shape[1:] == (8, 32)
        assert result.reconstructions[name].shape == result.reconstruction_targets[name].shape


def test_bfloat16_runs_and_keeps_embeddings_in_float32(inputs: dict[str, Tensor], output: CodeBindOutput) -> None:
    model = tiny_model().to(torch.bfloat16)
    result = model(**inputs, output_reconstructions=True)
    for name, value in result.continuous_embeds.items():
        assert value.dtype == torch.float32
        assert ((value * output.continuous_embeds[name]).sum(-1) > 0.98).all(), name


def test_a_model_trains_under_autocast(inputs: dict[str, Tensor]) -> None:
    model = trainable()
    with torch.autocast("cpu", torch.bfloat16):
        result = model(**inputs, return_loss=True)
    result.loss.backward()
    assert result.loss.isfinite()
    assert all(x.isfinite().all() for x in grads_of(model).values())
    assert model.codebooks.shared.codes.dtype == torch.float32


# Added modalities


def with_radar(config: Any = RADAR, **overrides: Any) -> CodeBindModel:
    model = tiny_model(small_config("text", "eeg", **overrides))
    model.add_modality("radar", config)
    return model


def test_an_added_modality_embeds_and_the_others_stay_as_they_were() -> None:
    plain, model = tiny_model(small_config("text", "eeg")), with_radar()
    given = tiny_inputs(plain.config)
    torch.testing.assert_close(embeds_of(model(**given)), embeds_of(plain(**given)))
    result = model(**given, radar_values=torch.randn(BATCH, 2, 10), output_reconstructions=True)
    assert result.embeds["radar"].shape == (BATCH, 24)
    assert result.logits["radar"].shape == (BATCH, BATCH)
    assert result.reconstructions["radar"].shape == (BATCH, 2, 4)
    assert model.config.modality_names == ("text", "eeg", "radar")
    features = model.get_features("radar", torch.zeros(1, 2, 10))
    assert features.pooler_output.shape == (1, 24)


def test_an_added_modality_is_in_the_mode_of_the_model() -> None:
    assert not any(module.training for module in with_radar().modules())
    model = tiny_model(small_config("text")).train()
    model.add_modality("radar", RADAR)
    assert all(module.training for module in model.modules())


def test_an_added_modality_trains() -> None:
    model = with_radar(loss_weights=ALL_WEIGHTS, specific_dim=24).train()
    given = {**tiny_inputs(model.config)}
    model(**given, return_loss=True).loss.backward()
    assert all(x.grad is not None for x in model.encoders["radar"].shared_head.parameters())
    assert model.codebooks.specific["radar"].num_updates == 1


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(CodeBindEncoderConfig(**RADAR), id="encoder"),
        pytest.param(CodeBindEegConfig(num_channels=128, input_size=[40], num_hidden_layers=1), id="eeg"),
    ],
)
def test_an_added_modality_may_be_given_as_a_configuration(config: CodeBindEncoderConfig) -> None:
    model = with_radar(config)
    built = model.encoders["radar"].config
    for field in ("num_channels", "input_size", "patch_size", "num_hidden_layers", "hidden_size"):
        assert getattr(built, field) == getattr(config, field) or list(getattr(built, field)) == list(
            getattr(config, field)
        )


def test_an_added_modality_takes_the_dtype_and_initialization_of_the_model() -> None:
    model = tiny_model(small_config("text")).to(torch.bfloat16)
    model.add_modality("radar", RADAR)
    assert {x.dtype for x in model.parameters()} == {torch.bfloat16}
    assert model.codebooks.specific["radar"].codes.dtype == torch.float32
    weight = model.encoders["radar"].tower.layers[0].mlp.fc1.weight
    assert weight.float().std().item() == pytest.approx(0.2, rel=0.15)
    assert model.encoders["radar"].tower.cls_token.abs().sum() > 0


BAD_ADDED: dict[str, tuple[str, Any, str]] = {
    "name of a modality": ("audio", RADAR, "name: got 'audio'; it must be an identifier other than"),
    "name of an encoder": ("vision", RADAR, "name: got 'vision'"),
    "no identifier": ("my radar", RADAR, "name: got 'my radar'"),
    "unknown key": ("radar", {**RADAR, "hiden_size": 3}, "Did you mean 'hidden_size'"),
    "wrong type": ("radar", {**RADAR, "hidden_size": "3"}, "(?s)config: .*hidden_size"),
    "does not fit": ("radar", {**RADAR, "specific_dim": 7}, "specific_dim: got 7 for radar, not a multiple"),
    "text": ("radar", {**RADAR, "stem": "tokens"}, "(?s)stem: got 'tokens' for radar"),
}


@pytest.mark.parametrize("case", BAD_ADDED)
def test_a_bad_added_modality_is_refused_and_leaves_the_model_alone(case: str) -> None:
    name, config, message = BAD_ADDED[case]
    model = tiny_model(small_config("text"))
    before = set(model.state_dict())
    with pytest.raises(ValueError, match=message):
        model.add_modality(name, config)
    assert set(model.state_dict()) == before
    assert model.config.added_encoders is None
    model.add_modality("radar", RADAR)
    with pytest.raises(ValueError, match="name: got 'radar'"):
        model.add_modality("radar", RADAR)
