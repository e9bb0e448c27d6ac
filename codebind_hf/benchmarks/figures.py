"""Which numbers does the paper report? Tables 2(a), 2(b), 3 and 5 of arXiv:2605.18257, in percent, as printed.

A missing number was not reported. Where a metric has two numbers (R@1 and R@10, top-1 and top-5), so has an entry. All
are single runs; ImageBind's and ViT-Lens's are zero-shot, CodeBind's mostly of models trained on the same data set.
"""

IB, VL = "CodeBind-IB", "CodeBind-VL"
OF_BACKBONE = {"ib": IB, "vl": VL}
BASELINE = {"ib": "ImageBind", "vl": "ViT-Lens"}

Figures = dict[str, tuple[float | None, ...]]

FIGURES: dict[str, Figures] = {
    "in1k": {"ImageBind": (77.7,), IB: (79.3,)},
    "places365": {"ImageBind": (45.4,), IB: (55.5,)},
    "k400": {"ImageBind": (50.5,), IB: (54.4,)},
    "msr-vtt": {"ImageBind": (36.1,), IB: (37.8,), "LanguageBind": (44.8,), "UniAlign": (37.0,)},
    "nyu-d": {
        "ImageBind": (54.0,),
        IB: (59.3,),
        "ViT-Lens": (68.5,),
        VL: (71.1,),
        "OneLLM-D": (50.9,),
        "UniAlign": (71.4,),
    },
    "sun-d": {
        "ImageBind": (35.1,),
        IB: (45.7,),
        "ViT-Lens": (52.2,),
        VL: (54.8,),
        "OneLLM-D": (29.0,),
        "OneEncoder": (28.4,),
        "UniAlign": (58.2,),
    },
    "audioset": {
        "ImageBind": (17.6,),
        IB: (21.1,),
        "ViT-Lens": (26.7,),
        VL: (29.2,),
        "FreeBind": (19.7,),
        "OmniBind": (25.1,),
        "LanguageBind": (30.0,),
        "UniAlign": (23.8,),
    },
    "vggsound": {
        "ImageBind": (27.8,),
        IB: (30.5,),
        "ViT-Lens": (31.7,),
        VL: (39.5,),
        "LanguageBind": (38.6,),
        "OneEncoder": (80.1,),
    },
    "esc-50": {
        "ImageBind": (66.9,),
        IB: (71.0,),
        "ViT-Lens": (75.9,),
        VL: (78.8,),
        "FreeBind": (93.6,),
        "OmniBind": (93.5,),
        "LanguageBind": (94.0,),
        "UniAlign": (70.5,),
    },
    "clotho": {
        "ImageBind": (6.0, 28.4),
        IB: (6.9, 28.6),
        "ViT-Lens": (8.1, 31.2),
        VL: (8.5, 32.8),
        "FreeBind": (13.7, None),
        "OmniBind": (23.3, 49.5),
        "LanguageBind": (16.7, 52.0),
    },
    "audiocaps": {
        "ImageBind": (9.3, 42.3),
        IB: (13.3, 53.8),
        "ViT-Lens": (14.4, 54.9),
        VL: (15.6, 55.0),
        "FreeBind": (29.2, None),
        "OmniBind": (46.7, 79.7),
        "LanguageBind": (19.7, 67.6),
        "UniAlign": (11.7, 49.3),
    },
    "llvip": {"ImageBind": (63.4,), IB: (95.5,), "LanguageBind": (87.2,)},
    "flir-v2": {"ImageBind": (46.6,), IB: (97.2,), "LanguageBind": (48.0,)},
    "tag-m": {"ImageBind": (24.2,), IB: (42.6,), "ViT-Lens": (65.8,), VL: (67.6,)},
    "tag-hs": {"ImageBind": (65.7,), IB: (83.9,), "ViT-Lens": (74.7,), VL: (76.1,)},
    "tag-rs": {"ImageBind": (69.8,), IB: (78.2,), "ViT-Lens": (63.8,), VL: (72.8,)},
    # Of the test split; of the validation split, ViT-Lens has 41.8 and CodeBind-VL 54.5.
    "in-eeg": {"ImageBind": (18.4,), IB: (33.1,), "ViT-Lens": (42.7,), VL: (54.1,)},
    "modelnet40": {"ViT-Lens": (70.6, 94.4), VL: (78.3, 96.5), "UniAlign": (55.9, 84.3)},
}
