"""The page, which gradio serves. ``GRADIO_TEMP_DIR`` must be set before this module is imported."""

from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from lightbsr.errors import UserError
from lightbsr_arch.inference.strength import LARGEST_STRENGTH
from lightbsr_arch.web.session import Result, Session

TITLE = "lightbsr: upscale pictures"

_FONTS = ["system-ui", "sans-serif"]
_MONOSPACED = ["ui-monospace", "monospace"]


def build(session: Session) -> gr.Blocks:
    """Return the page."""
    limits = session.limits
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(3600, 24 * 3600)) as page:
        gr.Markdown(f"# {TITLE}\nThe pictures stay on the machine that runs this page.")
        with gr.Row():
            with gr.Column(min_width=280):
                uploads = gr.File(
                    label=f"Pictures: at most {limits.pictures}, of {limits.megabytes:g} MB and "
                    f"{limits.megapixels:g} megapixels each",
                    file_count="multiple",
                    type="filepath",
                    height=160,
                )
                model = gr.Dropdown(
                    session.models,
                    value=session.default,
                    label="Model",
                    info="auto: the best fit for each picture",
                )
                strength = gr.Slider(
                    0,
                    LARGEST_STRENGTH,
                    value=1,
                    step=0.05,
                    label="Strength",
                    info="1: as estimated; below 1: softer; above 1: sharper. Only the iso models support it",
                )
                button = gr.Button("Upscale", variant="primary")
                messages = gr.Textbox(label="Messages", lines=2, interactive=False)
            with gr.Column(min_width=280, scale=2):
                shown = gr.Dropdown([], label="Shown picture", visible=False, interactive=True)
                slider = gr.ImageSlider(label="Before and after", interactive=False, buttons=["fullscreen"])
                text = gr.Textbox(label="Estimated degradation", lines=6, interactive=False)
                files = gr.File(label="Download in full size", file_count="multiple", interactive=False)
        state = gr.State([])

        def upscale(  # the page's inputs, in their order
            uploaded: list[str] | None,
            name: str,
            factor: float,
            progress: Any = gr.Progress(),  # noqa: B008
        ) -> tuple[Any, ...]:
            done = 0.0

            def advance(share: float) -> None:
                nonlocal done
                done = min(1.0, done + share)
                progress(done, desc="Upscaling")

            try:
                results, lines = session.upscale(uploaded or [], name, factor, advance)
            except UserError as error:
                results, lines = [], [str(error)]
            lines.append(f"{len(results)} of {len(uploaded or [])} pictures upscaled")
            choices = [(f"{i + 1}: {result.name}", i) for i, result in enumerate(results)]
            choice = gr.Dropdown(choices, value=0 if results else None, visible=len(results) > 1)
            made = [str(result.file) for result in results]
            return "\n".join(lines), made or None, *show(results, 0), choice, results

        def show(results: list[Result], number: int | None) -> tuple[Any, str]:
            if number is None or number >= len(results):
                return None, ""
            result = results[number]
            return (str(result.before), str(result.after)), result.text

        button.click(
            upscale, [uploads, model, strength], [messages, files, slider, text, shown, state], api_name="upscale"
        )
        shown.input(show, [state, shown], [slider, text], api_visibility="private")
    return page


class NoRemoteFiles:
    """ASGI middleware that refuses gradio's routes that fetch files from other servers."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope.get("path", "")
        if "/proxy=" in path or ("/file=" in path and "://" in path) or "/file=http" in path:
            await send({"type": "http.response.start", "status": 403, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await self._app(scope, receive, send)


def launch(page: gr.Blocks, host: str, port: int, megabytes: float) -> None:
    """Serve the page in the background, without requests to other machines."""
    page.queue(default_concurrency_limit=1).launch(
        server_name=host,
        server_port=port,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        inbrowser=False,
        max_file_size=int(megabytes * 1e6),
        allowed_paths=[],
        app_kwargs={"middleware": [Middleware(NoRemoteFiles)]},
        enable_monitoring=False,
        run_history=False,
        mcp_server=False,
        ssr_mode=False,
        pwa=False,
        footer_links=[],
        theme=gr.themes.Default(font=_FONTS, font_mono=_MONOSPACED),
    )
