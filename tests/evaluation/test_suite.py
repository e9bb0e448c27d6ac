import json
from types import SimpleNamespace

import numpy as np
import pytest

from codebind_hf.evaluation import Evaluation, evaluate_model
from codebind_hf.evaluation.decoupling import share_of_best
from codebind_hf.evaluation.suite import as_json


ZERO_SHOT = {"accuracy", "accuracy_continuous", "chance", "n"}
RETRIEVAL = {
    "recall_at_1",
    "recall_at_10",
    "recall_at_1_continuous",
    "recall_at_10_continuous",
    "chance_at_1",
    "chance_at_10",
    "n",
}
BOOK = {"usage", "perplexity", "num_codes", "dead"}
PROBE = {"shared", "shared_continuous", "specific", "specific_continuous", "chance", "n"}
NAMES = ("image", "video", "audio", "thermal", "point_cloud", "eeg")


def report_of(fake: SimpleNamespace, rows: list, **options: object) -> dict:
    return evaluate_model(fake.model, fake.processor, rows, progress=False, **options)


def test_the_report_has_every_promised_number(fake: SimpleNamespace) -> None:
    report = report_of(fake, fake.rows(60), class_names=fake.classes)
    assert set(report["zero_shot"]) == set(NAMES)
    for entry in report["zero_shot"].values():
        assert set(entry) >= ZERO_SHOT
        assert entry["chance"] == 1 / len(fake.classes)
    names = [f"{one}_to_{two}" for one in ("text", *NAMES) for two in ("text", *NAMES) if one != two]
    assert set(report["retrieval"]) == set(names)
    assert all(set(entry) >= RETRIEVAL for entry in report["retrieval"].values())
    assert len(report["emergent_pairs"]) == 5 * 4
    assert set(report["codebooks"]) == {"shared", "vision", "audio", "thermal", "point", "eeg"}
    assert all(set(book) >= BOOK for book in report["codebooks"].values())
    assert set(report["probes"]["audio"]) == {"mark", "coin", "class"}
    assert set(report["probes"]["audio"]["mark"]) >= PROBE
    assert set(report["decoupling"]) == set(NAMES)
    for name in ("fine_grained", "information"):
        assert set(report[name]["audio"]) == {"mark", "coin", "class"}
    assert set(report["intra_class"]) == set(NAMES)
    assert report["fusion"]["modalities"] == ["video", "audio"]
    assert set(report["summary"]["decoupling"]) >= {"readable", "kept", "leaked"}
    assert report["seed"] == 0
    wanted = {"python", "torch", "transformers", "platform", "cpu_count", "threads", "date"}
    assert set(report["environment"]) >= wanted
    assert report["codebook_rows"] == {"source": "rows", "n": 60}


def test_the_report_is_json_and_repeats_itself(fake: SimpleNamespace) -> None:
    rows = fake.rows(40, ("text", "image", "eeg"))
    one, two = report_of(fake, rows, seed=3), report_of(fake, rows, seed=3)
    assert json.loads(json.dumps(one, allow_nan=False)) == one
    for varying in ("seconds", "environment"):
        del one[varying], two[varying]
    assert one == two


@pytest.mark.slow
def test_the_order_of_the_rows_does_not_change_the_scores(fake: SimpleNamespace) -> None:
    rows = fake.rows(40)
    order = np.random.default_rng(0).permutation(40)
    straight, shuffled = (report_of(fake, some, controls=False) for some in (rows, [rows[i] for i in order]))
    for name, entry in straight["zero_shot"].items():
        assert shuffled["zero_shot"][name] == pytest.approx(entry)
    for name, entry in straight["retrieval"].items():
        assert shuffled["retrieval"][name] == pytest.approx(entry)


def test_the_summary_counts_what_the_specific_part_knows_better(fake: SimpleNamespace) -> None:
    report = report_of(fake, fake.rows(100), controls=False)
    private = {
        modality: {name: entry for name, entry in attributes.items() if name != "class"}
        for modality, attributes in report["probes"].items()
    }
    entries = [entry for attributes in private.values() for entry in attributes.values()]
    summary = report["summary"]["probes"]
    assert summary["attributes"] == len(entries) == 12
    assert summary["specific_beats_shared"] == sum(entry["specific"] > entry["shared"] for entry in entries)
    assert summary["by_two_standard_errors"] <= summary["specific_beats_shared"]
    assert summary["modalities_with_two_or_more"] == sorted(
        modality
        for modality, attributes in private.items()
        if sum(entry["specific"] > entry["shared"] for entry in attributes.values()) > 1
    )


def test_probes_train_on_the_rows_given_for_it(fake: SimpleNamespace) -> None:
    report = report_of(fake, fake.rows(30), probe_rows=fake.rows(50, seed=1))
    entry = report["probes"]["image"]["mark"]
    assert (entry["n"], entry["n_train"]) == (30, 50)


@pytest.mark.slow
def test_the_summary_counts_over_readable_attributes_alone(fake: SimpleNamespace) -> None:
    report = report_of(fake, fake.rows(100))
    entries = [entry for attributes in report["probes"].values() for entry in attributes.values() if entry["readable"]]
    summary = report["summary"]["decoupling"]
    assert summary["readable"] == len(entries) == 6
    assert summary["kept"] == pytest.approx(np.mean([share_of_best(entry, "specific") for entry in entries]))
    assert summary["leaked"] < 0.3 < summary["kept"]
    leads = [entry["specific_continuous"] - entry["shared_continuous"] for entry in entries]
    assert summary["specific_leads_by_15_points"] == sum(lead >= 0.15 for lead in leads)
    plain = report_of(fake, fake.rows(100), controls=False)
    assert "decoupling" not in plain["summary"]
    assert "raw" not in plain["probes"]["eeg"]["mark"]


def test_codebook_usage_is_counted_over_the_training_rows(fake: SimpleNamespace) -> None:
    few = report_of(fake, fake.rows(4))
    many = report_of(fake, fake.rows(4), training_rows=fake.rows(80, seed=1))
    assert many["codebook_rows"] == {"source": "training_rows", "n": 80}
    assert many["codebooks"]["shared"]["usage"] > few["codebooks"]["shared"]["usage"]


def test_rows_without_labels_or_attributes_have_no_zero_shot_and_no_probes(fake: SimpleNamespace) -> None:
    rows = [{"image": row["image"], "audio": row["audio"]} for row in fake.rows(20)]
    report = report_of(fake, rows)
    assert "zero_shot" not in report
    assert {"probes", "fusion", "intra_class", "information", "fine_grained"}.isdisjoint(report)
    assert set(report["retrieval"]) == {"image_to_audio", "audio_to_image"}


def test_labels_without_attributes_have_zero_shot_only(fake: SimpleNamespace) -> None:
    rows = [{"eeg": row["eeg"], "label": row["label"]} for row in fake.rows(20)]
    report = report_of(fake, rows)
    assert set(report["zero_shot"]) == {"eeg"}
    assert {"probes", "retrieval", "fusion"}.isdisjoint(report)
    assert set(report["intra_class"]) == {"eeg"}


def test_the_modalities_that_are_fused_may_be_named(fake: SimpleNamespace) -> None:
    rows = fake.rows(40, ("text", "image", "eeg", "thermal"))
    assert report_of(fake, rows, controls=False)["fusion"]["modalities"] == ["image", "thermal"]
    named = report_of(fake, rows, controls=False, fused=("thermal", "eeg"))
    assert named["fusion"]["modalities"] == ["thermal", "eeg"]


def test_a_model_without_text_has_no_zero_shot(fake: SimpleNamespace) -> None:
    report = evaluate_model(fake.FakeModel(("image", "audio")), fake.processor, fake.rows(20), progress=False)
    assert "zero_shot" not in report
    assert set(report["retrieval"]) == {"image_to_audio", "audio_to_image"}


def test_a_model_with_decoders_reports_reconstruction(fake: SimpleNamespace) -> None:
    report = evaluate_model(fake.FakeModel(has_decoders=True), fake.processor, fake.rows(20), progress=False)
    assert set(report["reconstruction"]) == set(NAMES)
    for name, entry in report["reconstruction"].items():
        assert entry["mse"] == pytest.approx(0.0, abs=1e-9)
        assert entry["mse_of_mean"] > 1e-3
        assert entry["measure"] == ("chamfer" if name == "point_cloud" else "mse")


def test_skipped_items_are_listed_in_the_report(fake: SimpleNamespace) -> None:
    rows = fake.rows(12)
    rows[5]["audio"] = "broken"
    report = report_of(fake, rows, on_error="skip")
    assert [(entry["position"], entry["modality"]) for entry in report["rows"]["failures"]] == [(5, "audio")]
    assert report["rows"]["modalities"]["audio"] == 11


def test_skipped_items_are_not_reconstructed_either(fake: SimpleNamespace) -> None:
    rows = fake.rows(12)
    rows[0]["audio"] = "broken"
    model = fake.FakeModel(has_decoders=True)
    report = evaluate_model(model, fake.processor, rows, on_error="skip", progress=False)
    assert report["reconstruction"]["audio"]["n"] == 11
    assert report["reconstruction"]["image"]["n"] == 12


def test_named_pairs_decide_what_is_emergent(fake: SimpleNamespace) -> None:
    rows = fake.rows(10, modalities=("text", "image", "audio"))
    report = report_of(fake, rows, trained_pairs=[("text", "image"), ("text", "audio")])
    assert report["emergent_pairs"] == ["image_to_audio", "audio_to_image"]


def test_rows_that_the_model_cannot_read_are_refused(fake: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match="no row has a modality"):
        report_of(fake, [{"label": "ball"}])


def test_what_a_model_does_not_read_is_said_before_anything_is_embedded(
    fake: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{**row, "depth": 0, "mood": "fine"} for row in fake.rows(4, modalities=("text", "audio"))]
    Evaluation(fake.model, None, rows)
    (said,) = [each.getMessage() for each in caplog.records]
    assert said.startswith("rows: depth is left out, which this model does not read; it reads text, image, ")
    known = SimpleNamespace(row_modalities=[("radar",), ("depth", "radar")])
    for rows, name in (({"rows": known}, "rows"), ({"rows": fake.rows(2), "training_rows": known}, "training_rows")):
        with pytest.raises(
            ValueError, match=f"^{name}: no row has a .* the rows have depth, radar, the model reads te"
        ):
            Evaluation(fake.model, None, **rows)
    with pytest.raises(ValueError, match="templates: got 'a ball'; a template holds {}"):
        Evaluation(fake.model, None, fake.rows(2), templates=["a ball"])


def test_embeddings_are_computed_once(fake: SimpleNamespace) -> None:
    evaluation = Evaluation(fake.model, fake.processor, fake.rows(10), progress=False)
    assert evaluation.embedded is evaluation.embedded is evaluation.training_set


def test_a_number_that_is_not_finite_is_refused_with_its_place() -> None:
    with pytest.raises(ValueError, match=r"report\.zero_shot\.audio\[1\]"):
        as_json({"zero_shot": {"audio": [1.0, float("nan")]}})


def test_pairs_that_the_model_does_not_align_are_emergent(fake: SimpleNamespace) -> None:
    model = fake.FakeModel()
    model.config.pair_weight = lambda pair: 0.0 if pair == "text" else 1.0
    rows = fake.rows(20, ("text", "image", "audio"))
    report = evaluate_model(model, fake.processor, rows, progress=False, controls=False)
    assert report["emergent_pairs"] == ["text_to_audio", "audio_to_text"]
    assert "image_and_audio" in report["trained_pairs"]
    assert "text_and_audio" not in report["trained_pairs"]
