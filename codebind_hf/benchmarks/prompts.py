"""Which sentences is a class shown in? The templates of CLIP and of ViT-Lens, as data.

Sources: CLIP's 80 for ImageNet (openai/CLIP, MIT); TencentARC/ViT-Lens@2b4f2e0 for the others, misspellings included.
"""

_OF_TWO = """a bad photo of {}|a rendering of {}|a cropped photo of {}|a bright photo of {}|a dark photo of {}
a close-up photo of {}|a black and white photo of {}|a painting of {}|a pixelated photo of {}|a sculpture of {}
a jpeg corrupted photo of {}|a blurry photo of {}|a good photo of {}|a low resolution photo of {}
a rendition of {}|a sketch of {}|a doodle of {}|a drawing of {}|a tattoo of {}|art of {}|graffiti of {}|itap of {}
a photo of {}"""
_NOUN, _KINDS = "{}", ("hard to see", "clean", "dirty", "cool", "nice", "weird", "small", "large")


def _clip() -> tuple[str, ...]:
    """CLIP's 80 templates; most come with both articles, which `_OF_TWO` leaves out."""
    whole = []
    for text in _OF_TWO.replace("\n", "|").split("|"):
        whole += [f"{text.replace(_NOUN, f'{article} {_NOUN}')}." for article in ("a", "the")]
    whole += [f"a photo of {article} {kind} {{}}." for kind in _KINDS for article in ("a", "the")]
    whole += [
        f"{article} {kind} {{}}."
        for kind in ("embroidered", "plastic", "origami", "toy", "cartoon", "plushie")
        for article in ("a", "the")
    ]
    whole += [f"{article} {{}} in a video game." for article in ("a", "the")]
    return (*whole, "a photo of many {}.", "a photo of one {}.", "a photo of my {}.", "itap of my {}.")


CLIP = _clip()

SOUNDS = (
    "{}.",
    "{}.",
    "{}.",
    "An image depicting {}.",
    "An image showing {}.",
    "This is {}.",
    "A photograph shows {}.",
    "An image of {}.",
    "A good image of {}.",
    "A photo of {}.",
    "A picture of {}.",
    "A bright image of {}.",
)
SCENES = (
    "An image depicting a {} environment.",
    "This location is best described as {}.",
    "This location is {}.",
    "A visual scene of {} setting.",
    "This picture showcases a {} environment.",
    "This place is {}.",
    "An example of {} scene category.",
    "An example of a {} scene.",
    "This scene can be described as {}.",
    "A visual scene of a {} location.",
    "This photograph captures a {} scene.",
    "This is a {} setting.",
    "This image corresponds to a {} scene.",
    "This photograph shows {}.",
    "This is an image of {}.",
    "A good image of {}.",
    "A photo of the nice {}.",
    "A picture of {}.",
    "A bright image of {}.",
)
MATERIALS = ("an image of {}.", "a tactile image of {}.")
TOUCHES = ("the meterial is {}.", "this type of material is {}.")
EEG = ("a photo of {}.", "an image of {}.", "a picture of {}.")
IMAGE_OF = ("an image of {}.",)
BARE = ("{}",)


def _points() -> tuple[str, ...]:
    """ViT-Lens's 64 templates for point clouds."""
    both = ("a", "the")
    whole = ["a point cloud model of {}."]
    whole += [f"There is {article} {{}} in the scene." for article in both]
    whole += [f"a photo of {article} {{}} in the scene." for article in ("a", "the", "one")]
    whole += [f"itap of {article} {{}}." for article in ("a", "my", "the")]
    whole += [f"a photo of {article} {{}}." for article in ("a", "my", "the", "one", "many")]
    whole += [f"a {kind} photo of {article} {{}}." for kind in ("good", "bad") for article in both]
    kinds = ("nice", "cool", "weird", "small", "large", "clean", "dirty")
    whole += [f"a photo of {article} {kind} {{}}." for kind in kinds for article in both]
    whole += [f"a {kind} photo of {article} {{}}." for kind in ("bright", "dark") for article in both]
    whole += [f"a photo of {article} hard to see {{}}." for article in both]
    hard = ("low resolution", "cropped", "close-up", "jpeg corrupted", "blurry", "pixelated")
    whole += [f"a {kind} photo of {article} {{}}." for kind in hard for article in both]
    whole += ["a black and white photo of the {}.", "a black and white photo of a {}"]
    whole += [f"{article} {kind} {{}}." for kind in ("plastic", "toy", "plushie", "cartoon") for article in both]
    return (*whole, "an embroidered {}.", "the embroidered {}.", "a painting of the {}.", "a painting of a {}.")


POINTS = _points()
