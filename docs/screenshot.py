"""Make docs/dashboard.png, the picture in the README: the dashboard on its own specimens, in a headless Chromium.

python docs/screenshot.py [--model digits-cnn] [--dark] [--out docs/dashboard.png]
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import threading
from pathlib import Path


def main() -> None:
    options = argparse.ArgumentParser(description="Make the picture of the dashboard that the README shows.")
    options.add_argument("--model", default="digits-cnn", help="the specimen that is opened")
    options.add_argument("--dark", action="store_true")
    options.add_argument("--out", type=Path, default=Path(__file__).with_name("dashboard.png"))
    given = options.parse_args()

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        raise SystemExit("No Chromium on this machine; install Debian's package chromium.")
    address = start()
    scratch = Path(tempfile.mkdtemp(dir=given.out.parent)) / "page.png"
    try:
        photograph(chromium, f"{address}/inspect?model={given.model}", "dark" if given.dark else "light", scratch)
        shrink(scratch)
        os.replace(scratch, given.out)
    finally:
        shutil.rmtree(scratch.parent)
    print(f"{given.out}: {given.out.stat().st_size // 1024} KB")


def start() -> str:
    """Serve all specimens on a free port; gives the address."""
    from waitress.server import create_server

    import zoo
    from dashboard.app import create_app
    from dashboard.serve import listen, url

    socket = listen("127.0.0.1", 0)
    server = create_server(create_app(zoo.names()).server, sockets=[socket], threads=8)
    threading.Thread(target=server.run, daemon=True).start()
    return url("127.0.0.1", socket.getsockname()[1])


def photograph(chromium: str, address: str, scheme: str, out: Path) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme=scheme)
        page.set_default_timeout(180_000)
        page.goto(address)
        for side in "ab":
            page.locator(f"#figure-{side} .js-plotly-plot").first.wait_for()
        page.locator(".dash-graph--pending").first.wait_for(state="detached")  # a function as text is barred by the page's own policy
        page.mouse.move(640, 4)
        page.wait_for_timeout(1500)
        page.screenshot(path=out)
        browser.close()


def shrink(path: Path) -> None:
    """256 colours are enough for a screen of flat colours, and a quarter of the bytes."""
    from PIL import Image

    Image.open(path).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
