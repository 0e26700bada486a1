"""The page as a Gradio app.  Pictures stay in memory: in the visitor's browser, and in a state of the visit's own."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Lock
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when it is imported
os.environ["GRADIO_RUN_HISTORY"] = "False"

import gradio as gr

from tf_mamlpp.demo import board
from tf_mamlpp.demo.session import Session, check_shown
from tf_mamlpp.deploy.deployed_model import DeployedModel

_PARTS = Path(__file__).parent / "parts"
_MOST_VISITS = 100  # kept in memory
_NARROW = "<style>@media (max-width: 720px) { .gradio-container .main { padding: 0 !important; } }</style>"
_FORGOTTEN = "the server has begun anew since: load a file of what it learned, or teach it again"


def build(model: DeployedModel, name: str) -> gr.Blocks:
    """The page for a model.

    Args:
        model: deployed.
        name: what to call it.

    Raises:
        UserError: the page cannot show the model.

    Example:
        ```python
        launch(build(DeployedModel("models/omniglot/1"), "omniglot"), port=7860)
        ```

        >>> from types import SimpleNamespace
        >>> from tf_mamlpp.data.picture_format import PictureFormat
        >>> pictures = PictureFormat((28, 28), 1, mean=(1.0,), std=(-1.0,))
        >>> model = SimpleNamespace(inputs=pictures, query_statistics="support", way=5, threshold=None)
        >>> build(model, "omniglot").title
        'Teach omniglot by hand'
    """
    check_shown(model)
    about, turns = board.describe(model, name), Lock()

    def act(session: Session | None, event: gr.EventData) -> tuple[Session, dict[str, Any]]:
        is_new, session = session is None, session or Session(model)
        with turns:  # the cores are busy with one anyway
            shown = board.act(session, event.action, event.details)
        if is_new and event.turn:
            shown["error"] = _FORGOTTEN
        return session, {**about, **shown, "turn": event.turn + 1}

    html, css, script = ((_PARTS / f"page.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))
    first = {**about, **board.show(Session(model)), "turn": 0}
    with gr.Blocks(title=about["title"], analytics_enabled=False, fill_width=True) as page:
        session = gr.State()
        shown = gr.HTML(first, html_template=html, css_template=css, js_on_load=script, apply_default_css=False)
        # Without the queue, which would triple the time of an answer.
        shown.act(
            act,
            [session],
            [session, shown],
            queue=False,
            show_progress="hidden",
            trigger_mode="multiple",
            api_visibility="private",
        )
    return page


def launch(page: gr.Blocks, port: int) -> str:
    """Serves a page on this machine alone, until the process ends or `page.close()`.

    Args:
        page: from `build`.
        port: of the loopback address.

    Returns:
        The page's address.

    Example:
        See `build`.

        >>> launch.__name__
        'launch'
    """
    # Said, because environment variables would decide otherwise.
    _, address, _ = page.launch(
        server_name="127.0.0.1",
        server_port=port,
        share=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        max_file_size=1,  # byte: the page uploads no files
        state_session_capacity=_MOST_VISITS,
        footer_links=[],
        head=_NARROW,  # rules of `css` reach no further than the page's parts
        theme=gr.themes.Base(font="system-ui", font_mono="monospace"),
        prevent_thread_lock=True,
        quiet=True,
    )
    return address
