from typing import Any

import pytest

from codebind_hf.evaluation.pages.findings import findings


def report_of(**changes: Any) -> dict[str, Any]:
    recall = {
        "recall_at_10": 0.5,
        "recall_at_10_continuous": 0.52,
        "chance_at_10": 0.1,
        "class_only_at_10": 0.25,
        "n": 100,
    }
    report: dict[str, Any] = {
        "class_names": ["a", "b", "c", "d"],
        "zero_shot": {
            "audio": {"accuracy": 0.8, "accuracy_continuous": 0.83, "chance": 0.25, "n": 100},
            "eeg": {"accuracy": 0.27, "accuracy_continuous": 0.27, "chance": 0.25, "n": 100},
        },
        "by_class": {
            "audio": {"codes_gain": -0.03, "standard_error": 0.005},
            "eeg": {"codes_gain": -0.01, "standard_error": 0.005},
        },
        "retrieval": {"audio_to_eeg": recall, "eeg_to_audio": {**recall, "recall_at_10": 0.3}},
        "emergent_pairs": ["audio_to_eeg", "eeg_to_audio"],
        "summary": {
            "probes": {"attributes": 6, "specific_beats_shared": 5, "by_two_standard_errors": 4},
            "decoupling": {"kept": 0.71, "leaked": 0.12, "readable": 6},
        },
        "decoupling": {"audio": {"kept": 0.6, "leaked": 0.2}, "eeg": {"kept": 0.8, "leaked": 0.1}},
        "codebooks": {"shared": {"usage": 1.0, "num_codes": 64, "dead": 0, "perplexity": 51.2}},
    }
    return {**report, **changes}


def test_five_sentences_say_it_with_numbers_and_intervals() -> None:
    found = findings(report_of())
    assert [finding.lead for finding in found] == [
        "Audio is recognised best, EEG worst.",
        "Codes cost 2.0 points of accuracy.",
        "1 of 2 pairs of modalities that were never trained together find more than class knowledge.",
        "The specific part keeps 71 % of what is private, the shared part 12 %.",
        "All codes of 1 codebook are in use.",
    ]
    assert "audio 80.0 (71.1 to 86.7) %" in found[0].text
    assert "Not above chance: EEG." in found[0].text
    # 1.96 times the mean of the errors, 0.5 points.
    assert "-2.0 points (-3.0 to -1.0)" in found[1].text
    assert "R@10 of 2 pairs by -12.0" in found[1].text
    assert "40.0 % on average; a ranking that knows the class alone has 25.0 %, chance 10.0 %" in found[2].text
    assert "60 % in audio to 80 % in EEG" in found[3].text
    assert "uses 64 of 64 codes, as evenly as 51 equal ones" in found[4].text


@pytest.mark.parametrize(
    ("gain", "lead"), [(0.02, "Codes add 1.5 points of accuracy."), (0.0, "Codes cost no measurable accuracy.")]
)
def test_codes_that_cost_nothing_are_not_said_to(gain: float, lead: str) -> None:
    entries = {
        "audio": {"codes_gain": gain, "standard_error": 0.002},
        "eeg": {"codes_gain": gain / 2, "standard_error": 0.002},
    }
    assert findings(report_of(by_class=entries))[1].lead.startswith(lead)


def test_pairs_are_called_emergent_only_where_the_report_says_so() -> None:
    leads = [finding.lead for finding in findings(report_of(emergent_pairs=[]))]
    assert "1 of 2 pairs of modalities find more than class knowledge." in leads


def test_without_classes_pairs_are_compared_with_chance() -> None:
    entry = {"recall_at_10": 0.5, "chance_at_10": 0.1, "n": 100}
    (found,) = findings({"retrieval": {"image_to_audio": entry}})
    assert found.lead == "1 of 1 pairs of modalities find more than chance."


def test_modalities_with_other_items_and_other_chances_are_told_with_theirs() -> None:
    report = report_of()
    report["zero_shot"]["eeg"] |= {"n": 40, "chance": 0.3}
    text = findings(report)[0].text
    assert "audio 80.0 (71.1 to 86.7) % of 100 items, EEG 27.0 (15.7 to 42.3) % of 40 items; " in text
    assert "; chance is 25.0 and 30.0 %." in text


def test_pairs_are_compared_with_chance_where_class_knowledge_would_find_all() -> None:
    full = {name: {**entry, "class_only_at_10": 1.0} for name, entry in report_of()["retrieval"].items()}
    found = findings(report_of(retrieval=full))[2]
    assert found.lead == "2 of 2 pairs of modalities that were never trained together find more than chance."
    assert "a random ranking has 10.0 %" in found.text
    assert found.text.endswith("whether more than the class was found cannot be told.")
    # One class with more items is enough to ask.
    full["eeg_to_audio"]["class_only_at_10"] = 0.25
    assert findings(report_of(retrieval=full))[2].lead.endswith("find more than class knowledge.")


def test_what_could_not_be_read_and_dead_codes_are_findings() -> None:
    rows = {"failures": [{"modality": "audio", "position": 3, "message": "broken"}]}
    books = {
        "shared": {"num_codes": 64, "dead": 4, "perplexity": 30.0},
        "point": {"num_codes": 8, "dead": 1, "perplexity": 7.0},
    }
    found = findings(report_of(rows=rows, codebooks=books))
    assert found[-1].lead == "1 item could not be read."
    assert found[-2].lead == "Codes are unused in 2 of 2 codebooks."
    assert "uses 60 of 64 codes" in found[-2].text
    assert "Unused in point: 1" in found[-2].text.replace("unused", "Unused")


def test_a_report_of_nothing_finds_nothing() -> None:
    assert findings({"seed": 1}) == []
