"""Opens a page on this machine that teaches a model by hand: draw a few examples of each class, then ask.

    tf-mamlpp demo --model=omniglot
    tf-mamlpp demo --model=models/glyphs/1 --port=8000

It needs Gradio: pip install 'tf_mamlpp[demo]'.
"""

import os
import sys
import webbrowser
from pathlib import Path

from tf_mamlpp.commands.flags import Flags
from tf_mamlpp.demo.requirements import check_gradio, check_port
from tf_mamlpp.deploy import catalogue
from tf_mamlpp.errors import UserError

flags = Flags()

_MODEL = flags.DEFINE_string(
    "model", None, "Folder that tf-mamlpp export wrote, or a pretrained model's name.", required=True
)
_PORT = flags.DEFINE_integer("port", 7860, "Of 127.0.0.1, for the page.", lower_bound=1, upper_bound=65535)
_BROWSER = flags.DEFINE_bool("browser", True, "Open the page in the browser, where there is a screen.")


def main(overrides: list[str]) -> None:
    if overrides:
        raise UserError(f"'{overrides[0]}': an exported model has its own config")
    catalogue.check_model(_MODEL.value)
    check_port(_PORT.value)
    check_gradio()
    print(f"loading {_MODEL.value}", flush=True)
    from tf_mamlpp.runtime import configure

    configure()
    from tf_mamlpp.demo.page import build, launch
    from tf_mamlpp.demo.session import warm_up
    from tf_mamlpp.deploy.deployed_model import DeployedModel
    from tf_mamlpp.deploy.pretrained import exported

    folder = Path(_MODEL.value)
    model = DeployedModel(folder if folder.is_dir() else exported(_MODEL.value))
    page = build(model, _MODEL.value)
    warm_up(model)
    address = launch(page, _PORT.value)
    print(f"teach it at {address}  (Ctrl-C ends)", flush=True)
    if _BROWSER.value and _has_screen():
        webbrowser.open(address)
    page.block_thread()


def _has_screen() -> bool:
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
