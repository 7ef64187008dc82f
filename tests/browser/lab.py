"""A JupyterLab server of its own, and a headless Chromium that runs a notebook in it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

import nbformat
import pytest

SETTINGS = {
    "@jupyterlab/apputils-extension/notification.jupyterlab-settings": {
        "fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True,
    },
    "@jupyterlab/notebook-extension/tracker.jupyterlab-settings": {"windowingMode": "none"},
}  # fmt: skip
READY = """
const app = window.jupyterapp;
if (!app) { return false; }
app.restored.then(() => { window.isRestored = true; });
const panel = app.shell.currentWidget;
const kernel = panel?.sessionContext?.session?.kernel;
return Boolean(window.isRestored && panel?.context?.isReady && kernel
               && kernel.connectionStatus === 'connected' && kernel.status === 'idle');
"""
IDLE = """
return window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle';
"""
RUN_ALL = "window.jupyterapp.commands.execute('notebook:run-all-cells');"
# Whether the last cell of code has put something out, and the errors of any cell.
OUTPUTS = """
const cells = window.jupyterapp.shell.currentWidget.context.model.sharedModel.cells;
const code = cells.filter(c => c.cell_type === 'code');
const errors = code.flatMap(c => c.outputs).filter(o => o.output_type === 'error');
return [code[code.length - 1].outputs.length > 0, errors.map(o => o.ename + ': ' + o.evalue)];
"""


SHUT_DOWN = """
const done = arguments[arguments.length - 1];
window.jupyterapp.shell.currentWidget.sessionContext.shutdown().then(() => done(true));
"""
SAVE = """
const done = arguments[arguments.length - 1];
window.jupyterapp.shell.currentWidget.context.save().then(() => done(true));
"""
WORDS = (
    "headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "hide-scrollbars",
    "no-first-run", "disable-background-networking", "disable-component-update", "disable-sync",
)  # fmt: skip
OFFLINE = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}


def browser_paths():
    """Chromium and its driver, or None where one is absent."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


needed = pytest.mark.skipif(
    browser_paths() is None,
    reason="no chromium with its driver (Debian: apt-get install chromium chromium-driver)",
)


@contextmanager
def server(root: Path, home: Path, *, words=("--ServerApp.root_dir=.",)):
    """JupyterLab on a free port of the loopback with a home of its own; yields its address.

    ``words`` are those of its command line that differ, as of ``make lab``.
    """
    folder = home / "settings"
    for name, content in SETTINGS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "HOME": str(home), "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"), "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder), "IPYTHONDIR": str(home / "ipython"),
    }  # fmt: skip
    command = [
        sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root",
        f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--IdentityProvider.token=",
        "--LabApp.expose_app_in_browser=True", "--LabApp.extension_manager=readonly", *words,
    ]  # fmt: skip
    with (home / "server.log").open("w") as log:
        process = subprocess.Popen(command, cwd=root, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        wait(lambda: _answers(f"{address}/api/status"), seconds=300, what="JupyterLab to start")
        yield address
    finally:
        process.terminate()
        process.wait(timeout=60)


@contextmanager
def chromium(width=1400, height=1000):
    """A headless Chromium with a home of its own, which calls nobody by itself."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    browser, driver = browser_paths()
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for word in WORDS:
        options.add_argument(f"--{word}")
    options.add_argument(f"--window-size={width},{height}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    with TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as home:
        service = Service(driver, env=os.environ | {"HOME": home})
        window = webdriver.Chrome(options=options, service=service)
        window.set_script_timeout(100)  # below the 120 s after which selenium gives up on a call
        window.set_page_load_timeout(100)
        try:
            yield window
        finally:
            window.quit()


def run_notebook(window, address: str, name: str, *, seconds: float = 300):
    """Open a notebook, run all its cells, wait until the last cell of code has an output.

    The kernel's idle indicator is no sign of the end: it is idle before the first cell as well.
    """
    window.get(f"{address}/lab/tree/{name}?reset")
    wait(lambda: window.execute_script(READY), seconds=300, what="the kernel")
    window.execute_script(RUN_ALL)

    def finished():
        done, errors = window.execute_script(OUTPUTS)
        if errors:
            raise AssertionError(f"{name}: {errors[0]}")
        return done

    wait(finished, seconds=seconds, what=f"the last cell of {name}")


def settle(window, *, seconds=300):
    """Wait until the kernel has done what a move asked for, and all that came back is drawn."""
    wait(lambda: window.execute_script(IDLE), seconds=seconds, what="the kernel to be idle")
    time.sleep(0.3)


def place_notebook(path: Path, folder: Path, parameters: dict):
    """Copy a notebook with other parameters, set in a cell of their own as papermill does."""
    notebook = nbformat.read(path, as_version=4)
    at = next(k for k, c in enumerate(notebook.cells) if "parameters" in c.metadata.get("tags", []))
    lines = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    notebook.cells.insert(at + 1, nbformat.v4.new_code_cell(lines or "pass"))
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / path.name)


def errors_offline(window, page: Path):
    """Open a page with the network cut: what the browser's console calls an error."""
    window.execute_cdp_cmd("Network.enable", {})
    window.execute_cdp_cmd("Network.emulateNetworkConditions", OFFLINE)
    window.get_log("browser")  # what stood there before
    try:
        window.get(page.as_uri())
        complete = "return document.readyState == 'complete'"
        wait(lambda: window.execute_script(complete), seconds=300, what=page.name)
        return [line["message"] for line in window.get_log("browser") if line["level"] == "SEVERE"]
    finally:
        online = OFFLINE | {"offline": False, "downloadThroughput": -1, "uploadThroughput": -1}
        window.execute_cdp_cmd("Network.emulateNetworkConditions", online)


def screenshot(window, name: str, selector: str):
    """An element and what is below it, as a picture in the folder SOILKIT_SCREENSHOTS."""
    if folder := os.environ.get("SOILKIT_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        shown = window.execute_script(f"return document.querySelector({selector!r});")
        window.execute_script("arguments[0].scrollIntoView({block: 'start'});", shown)
        time.sleep(1)
        window.save_screenshot(str(Path(folder) / f"{name}.png"))


def _answers(url):
    try:
        return urlopen(url, timeout=2).status == 200
    except OSError:
        return False


def wait(condition, *, seconds, what):
    """Ask twice a second until it is true; TimeoutError says what was waited for."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.5)
    raise TimeoutError(f"Waited {seconds:.0f} s in vain for {what}.")
