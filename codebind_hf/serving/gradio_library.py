"""Where does Gradio come from? The one place that imports it, after it was told to report nothing to anybody."""

import os


# Read when the library is imported.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

try:
    import gradio as gr
except ImportError as error:
    raise ImportError("the demo app needs Gradio; install it with `pip install codebind-hf[demo]`.") from error

__all__ = ["gr"]
