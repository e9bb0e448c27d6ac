"""Which files do conversions start from, where were they published, how large are they, and under which licence?

Nothing here is downloaded: the registry is text, and `verification` compares files with it. Sizes and hashes are those
of the Git LFS pointers that the Hub shows for a file's commit (`oid sha256` and `size`); `source` names the commit, or
says where else a number was read. What is `None` was not found published.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Original:
    """One file, or for CodeBind one folder, as its authors published it.

    Args:
        name: of the file.
        repository: that it belongs to; with the name it tells files of one name apart.
        address: where the repository keeps it.
        license: of the weights, as their authors state it.
        becomes: what `codebind convert` makes of it.
        source: where size, hash and licence were read.
        kind: how it is read: "imagebind", "vitlens" (OpenCLIP too), "merges" or "experiment".
        num_bytes: its exact size, if it was published.
        gigabytes: its size as the Hub rounds it, where the exact one was not found.
        sha256: in hexadecimal digits.
        preset: whose tensors it has; `None` where no preset has them.
        modalities: the part of the preset that it has; `None` is all.
        changes: to the preset's fields, as nested dictionaries.
        note: what one should know before using it.
        is_withdrawn: its authors replaced it.
    """

    name: str
    repository: str
    address: str
    license: str
    becomes: str
    source: str
    kind: str
    num_bytes: int | None = None
    gigabytes: float | None = None
    sha256: str | None = None
    preset: str | None = None
    modalities: tuple[str, ...] | None = None
    changes: Mapping[str, Any] = field(default_factory=dict, hash=False)
    note: str = ""
    is_withdrawn: bool = False

    @property
    def label(self) -> str:
        """The file's name with its repository."""
        return f"{self.repository}/{self.name}"

    @property
    def size(self) -> str:
        """Its size in words."""
        if self.num_bytes is not None:
            return f"{self.num_bytes:,} bytes"
        return "not known" if self.gigabytes is None else f"about {self.gigabytes} GB"


_TEXT_AND_IMAGE = ("text", "image")


def _vitlens(name: str, becomes: str, commit: str, sha256: str | None, num_bytes: int | None, **rest: Any) -> Original:
    """A file of TencentARC/ViT-Lens on the Hub, whose card says `license: apache-2.0` (commit 88ab140)."""
    found = f"Hub commit {commit}" if sha256 else f"name: Hub commit {commit}; size and hash: not found"
    return Original(
        name,
        "TencentARC/ViT-Lens",
        "huggingface.co/TencentARC/ViT-Lens",
        "Apache-2.0",
        becomes,
        found,
        "vitlens",
        num_bytes,
        sha256=sha256,
        **rest,
    )


def _single(sense: str, modality: str) -> dict[str, Any]:
    """What every file of a single modality says of itself, and which part of vl-large it has."""
    return {
        "becomes": f"text, image, {sense}",
        "preset": "vl-large",
        "modalities": (*_TEXT_AND_IMAGE, modality),
    }


def _open_clip(
    name: str, repository: str, preset: str, source: str, sha256: str, num_bytes: int | None, gigabytes: float | None
) -> Original:
    """OpenCLIP's text and image towers; both cards say `license: mit`."""
    return Original(
        name,
        repository,
        f"huggingface.co/{repository}",
        "MIT",
        f"the text and image towers of `{preset}`",
        source,
        "vitlens",
        num_bytes,
        gigabytes,
        sha256,
        preset,
        _TEXT_AND_IMAGE,
    )


_L14 = "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K"
_BIGG = "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k"
_TIED = "its point lens shares weights between stages, and so it was replaced on 2023-12-15"
_SAME = "published under two names with one hash, so which of the two data sets it learned from cannot be told"
_POINTS = ("point_cloud",)
_NO_PRESET = "no preset has its shapes, which follow from the file"

ORIGINALS: tuple[Original, ...] = (
    Original(
        "imagebind_huge.pth",
        "facebookresearch/ImageBind",
        "dl.fbaipublicfiles.com/imagebind/imagebind_huge.pth",
        "CC BY-NC-SA 4.0",
        "text, image, video, audio, depth, thermal, IMU",
        "Git LFS pointers of three copies on the Hub, which agree: DAMO-NLP-SG/Video-LLaMA-2-7B-Finetuned 9d9519f, "
        "Video-LLaMA-2-13B-Pretrained cb6d970, spaces/nimnim/ImageAPI f08622e; no number of Meta's was found. "
        "Licence: ImageBind's model card",
        "imagebind",
        4_803_584_173,
        sha256="d6f6c22bedcc90708448d5d2fbb7b2db9c73f505dc89bd0b2e09b23af1b62157",
        preset="ib-huge",
        note="not for commercial use, and what is derived from it carries the same licence",
    ),
    Original(
        "bpe_simple_vocab_16e6.txt.gz",
        "openai/CLIP",
        "github.com/openai/CLIP, clip/ (the same file: facebookresearch/ImageBind, imagebind/bpe)",
        "MIT",
        "the tokenizer of every converted model (`--bpe`)",
        "computed from the file in tests/fixtures; the Git LFS pointer of spaces/evelyncsb/ImageBindSimilarity "
        "29eb6ce agrees",
        "merges",
        1_356_917,
        sha256="924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a",
    ),
    _vitlens(
        "vitlensL.pt",
        "text, image, audio, depth, tactile, point clouds, EEG",
        "0b00e8a",
        "124a4de6a5765004cd89eba3b60263857fc79c093e6143e58228c45c4db059b2",
        8_891_845_036,
        preset="vl-large",
    ),
    _vitlens(
        "vitlensL_pc.pt",
        commit="15986fa",
        sha256="7ae8d26574b89ee79594965d730182bd648df238437ba4175861ae2d40da6da5",
        num_bytes=3_400_741_685,
        **_single("point clouds", "point_cloud"),
    ),
    _vitlens(
        "vitlensL_audio.pt",
        commit="6ac9705",
        sha256="6a09d330991d2f4440a5734ecddd6fd42dbbd8e97def679091aea89da2444936",
        num_bytes=3_434_449_193,
        **_single("audio", "audio"),
    ),
    _vitlens(
        "vitlensL_depth.pt",
        commit="72fd557",
        sha256="769ab1ce1a03ba4777c9436b10d838fb85678faafc4ef5ef6a83351395510486",
        num_bytes=2_926_060_851,
        **_single("depth", "depth"),
    ),
    _vitlens(
        "vitlensL_tactile.pt",
        commit="eb1646c",
        sha256="2aaffd41051b66f94d143449677cf119df8e2b5942b4b83ca7f3cd3a3e9976b2",
        num_bytes=2_926_617_397,
        **_single("tactile", "tactile"),
    ),
    _vitlens(
        "vitlensL_eeg.pt",
        commit="c6413c5",
        sha256="b1459a81abec5b5277a39d656e832bbc94cf39cfaf3e9ebe8164900c462515ac",
        num_bytes=3_046_506_939,
        **_single("EEG", "eeg"),
    ),
    _vitlens(
        "Datacomp_L14_ShapeNet.pt",
        commit="994f3c3",
        sha256="c298dbcf5a20f781ec109861f86ff32c09340e5ed63c9d8a8923712bdb7ff2f3",
        num_bytes=4_353_811_883,
        **_single("point clouds", "point_cloud"),
        note=_SAME,
    ),
    _vitlens(
        "Datacomp_L14_objaverse.pt",
        commit="fecc82a",
        sha256="c298dbcf5a20f781ec109861f86ff32c09340e5ed63c9d8a8923712bdb7ff2f3",
        num_bytes=4_353_811_883,
        **_single("point clouds", "point_cloud"),
        note=_SAME,
    ),
    _vitlens(
        "vitlensL_audioset_dur2.pt",
        "text, image, audio (clips of 2 s)",
        "2071144",
        "51089b8b713e56d38f9b8aa68ed845efe57782a0a8b0de9e234e1ef312ffe9c4",
        4_853_616_143,
        note=_NO_PRESET,
    ),
    _vitlens(
        "vitlensL_audioset-vggsound_dur5.pt",
        "text, image, audio",
        "4ef011c",
        "2350a7e80f4f761e73885e013f6d62451bc343025aab516945e3cf16d1ee2862",
        4_858_079_614,
        note=_NO_PRESET,
    ),
    _vitlens(
        "vitlensL_audioset-vggsound_dur2.pt",
        "text, image, audio (clips of 2 s)",
        "9c01a7e",
        None,
        None,
        note=_NO_PRESET,
    ),
    _vitlens(
        "vitlensB_audio_dur5.pt",
        "text, image, audio (ViT-B/16)",
        "04c19a7",
        "0b59d834d91337a32de243dd6a7de2e6fbab87a4c7bee2324f646d7c1dcee94c",
        2_032_856_965,
        note=_NO_PRESET,
    ),
    _vitlens(
        "bigG14_sk16_openshape_all.pt",
        "the point tower of `vl-bigg`",
        "d70b936",
        "c2f27bf28d35528ad40eb4d34e5496b2dcc089e409762165c66f49ee7c967429",
        9_283_727_169,
        preset="vl-bigg",
        modalities=_POINTS,
    ),
    _vitlens(
        "bigG14_openshape_nolvis.pt",
        "a point tower with all 48 blocks",
        "d98a0f7",
        "a55d6c05ea6e10c2c8588a041a247d1b4027f493ff2e5dd5bb57387fe1f51492",
        9_867_475_905,
        preset="vl-bigg",
        modalities=_POINTS,
        changes={"point_config": {"num_hidden_layers": 48, "lens_depth": 2}},
    ),
    _vitlens(
        "vitlensL.pt",
        "text, image, audio, depth, tactile, point clouds, EEG",
        "d533a86",
        "9d830e9bdbf5563850fc12034422b4613c5960e0df8948e2c48d91b631a5df82",
        8_655_275_540,
        preset="vl-large",
        note=_TIED,
        is_withdrawn=True,
    ),
    _vitlens(
        "vitlensL_pc.pt",
        commit="5247856",
        sha256="adab1a15260e58f773d1ba93429393bae76caa30a5ab577570d058b40e1721ac",
        num_bytes=3_164_173_021,
        **_single("point clouds", "point_cloud"),
        note=_TIED,
        is_withdrawn=True,
    ),
    _open_clip(
        "open_clip_pytorch_model.bin",
        _L14,
        "vl-large",
        "Hub page of a copy, gadgetsam/CLIP-ViT-L-14-DataComp.XL-s13B-b90K 3d7a666; a note on the Hub cache of the "
        "original (commit 84c9828) has the same hash. Licence: card, commit 8c37223",
        "6509f07e6fc0da68f8e1ee881bf90803f0b053d2f7ed2013cc7c3a49ac4dd3db",
        None,
        1.71,
    ),
    _open_clip(
        "open_clip_pytorch_model.bin",
        _BIGG,
        "vl-bigg",
        "Hub commit 40b5c7a, whose page rounds the size",
        "0d5318839ad03607c48055c45897c655a14c0276a79f6b867934ddd073760e39",
        None,
        10.2,
    ),
    _open_clip(
        "open_clip_pytorch_model.safetensors",
        _BIGG,
        "vl-bigg",
        "hash: a full copy, polypo/laion-CLIP-ViT-bigG-14-laion2B-39B-b160k 86c4866; size: the same hash in "
        "yushan777/SUPIR 0d43f81",
        "db71bd27925917762c506c1b8a08e191d236e5586b5cd99f77d11aced578ec34",
        10_158_382_892,
        None,
    ),
    Original(
        "experiments/<name>",
        "Visual-AI/CodeBind",
        "announced as huggingface.co/zykev/CodeBind; no checkpoint is public",
        "MIT (its code); weights that start from ImageBind carry CC BY-NC-SA 4.0",
        "the modalities of the experiment (`--codebind`)",
        "Visual-AI/CodeBind@07ae88b README.md lists the checkpoints as still to be released",
        "experiment",
        preset="codebind-ib-huge",
        note="a folder of `imagebind-<module>-<modality>_best.pth` files that the official training writes",
    ),
)


def originals_named(name: str) -> list[Original]:
    """The originals that were published under this file name; those that were withdrawn come last."""
    return sorted((one for one in ORIGINALS if one.name == name), key=lambda one: one.is_withdrawn)


def originals_table(several: tuple[Original, ...] = ORIGINALS) -> str:
    """The registry as docs/conversion.md has it: a Markdown table, sources, notes, and hashes for `sha256sum`."""
    names = [f"`{one.label}`" + " (withdrawn)" * one.is_withdrawn for one in several]
    lines = ["| file | size | licence | becomes | preset |", "| --- | --- | --- | --- | --- |"]
    for name, one in zip(names, several, strict=True):
        preset = "part of " * (one.modalities is not None) + f"`{one.preset}`" if one.preset else "-"
        lines.append(f"| {name} | {one.size} | {one.license} | {one.becomes} | {preset} |")
    lines += ["", "Where they are published, and where size, hash and licence were read:", ""]
    for address in dict.fromkeys(one.address for one in several):
        there = [(name, one) for name, one in zip(names, several, strict=True) if one.address == address]
        read = "; ".join(f"{name.replace(f'{one.repository}/', '')}: {one.source}" for name, one in there)
        lines.append(f"- {address}. {read}.")
    lines += ["", "What one should know of them:", ""]
    for note in dict.fromkeys(one.note for one in several if one.note):
        about = [name for name, one in zip(names, several, strict=True) if one.note == note]
        lines.append(f"- {', '.join(about)}: {note}.")
    current = [one for one in several if not one.is_withdrawn]
    lines += ["", "sha256, as `sha256sum --check` reads them in a folder with these paths:", "", "```text"]
    lines += [f"{one.sha256}  {one.label}" for one in current if one.sha256]
    unknown = " and ".join(f"`{one.label}`" for one in current if not one.sha256)
    return "\n".join([*lines, "```", "", f"No hash is known of {unknown}."])
